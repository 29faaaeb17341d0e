"""Whole evaluations: scores, labels, resuming, and what is not asked twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import Oracle, constant
from PIL import Image

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.images import DIVIDER_PX
from imgdiff.eval.choice_run import COCOT_PROMPT
from imgdiff.eval.config import EditConfig, MmvpConfig, ModelConfig, SpotConfig
from imgdiff.eval.mmvp import PromptStyle
from imgdiff.eval.run_files import read_run
from imgdiff.eval.spot_the_diff import SpotProtocol

Evaluate = Callable[..., dict[str, Any]]
Lines = Callable[[], list[dict[str, Any]]]


def test_a_constant_answer_scores_half_of_the_questions_and_no_pair(
    evaluate: Evaluate, lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluate(constant("A"), MmvpConfig(pairs=8))
    assert scores == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["scores"] == {"pair_accuracy": 0.0, "accuracy": 0.5, "unparsed": 0.0}
    assert (scores["benchmark"], scores["procedural"], scores["n"]) == ("mmvp_procedural", True, 16)
    assert scores["intervals"]["accuracy"] == pytest.approx({"low": 0.28, "high": 0.72}, abs=5e-4)
    assert scores["by_kind"]["category"] == {"pairs": 4, **scores["scores"]}
    assert scores["chosen"] == {"a": 16}
    assert scores["protocol"] == "letter"
    assert "corrected" not in scores
    assert "procedural MMVP-format set (not MMVP)" in capsys.readouterr().out
    found = lines()
    assert [line["id"] for line in found] == [str(index) for index in range(1, 17)]
    assert {line["chosen"] for line in found} == {"a"}
    assert found[4]["kind"] == "category"
    for name in ("report.html", "scores.md", "scores.tex"):
        assert (tmp_path / "out" / name).stat().st_size > 300
    assert read_run(tmp_path / "out").answers[0].answer == "A"


def test_answers_that_cannot_be_read_are_counted(evaluate: Evaluate) -> None:
    scores = evaluate(constant("I cannot tell."), MmvpConfig(pairs=8))
    assert scores["scores"] == {"pair_accuracy": 0.0, "accuracy": 0.0, "unparsed": 1.0}
    assert scores["chosen"] == {"unparsed": 16}


def test_a_killed_run_goes_on_where_it_stopped(
    evaluate: Evaluate, lines: Lines, tmp_path: Path
) -> None:
    killed, resumed, again = constant("A", fail_after=8), constant("A"), constant("A")
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed, MmvpConfig(pairs=8))
    (store,) = (tmp_path / "cache" / "answers").iterdir()
    with store.open("a") as handle:
        handle.write('{"key": "half a li')
    evaluate(resumed, MmvpConfig(pairs=8))
    assert (len(killed.asked), len(resumed.asked)) == (8, 8)
    assert not set(killed.asked) & set(resumed.asked) or killed.asked != resumed.asked
    found = lines()
    evaluate(again, MmvpConfig(pairs=8), output_dir=str(tmp_path / "elsewhere"))
    assert (again.asked, again.entered) == ([], 0)
    text = (tmp_path / "elsewhere" / "predictions.jsonl").read_text()
    assert [json.loads(line) for line in text.split("\n") if line] == found


def test_nothing_is_asked_twice_and_another_model_or_prompt_is_asked(
    evaluate: Evaluate, lines: Lines
) -> None:
    evaluate(constant("A"), MmvpConfig(pairs=8))
    again, other = constant("B"), constant("B")
    assert evaluate(again, MmvpConfig(pairs=8))["chosen"] == {"a": 16}
    assert (again.asked, again.entered) == ([], 0)
    with pytest.raises(ConfigError, match=r"output_dir=.*evaluation of .*overwrite=true"):
        evaluate(other, MmvpConfig(pairs=8), name="v2")
    assert len(lines()) == 16
    scores = evaluate(other, MmvpConfig(pairs=8), name="v2", overwrite=True)
    assert scores["chosen"] == {"b": 16}
    assert len(other.asked) == len(lines()) == 16
    free = constant("B")
    evaluate(free, MmvpConfig(pairs=8, prompt=PromptStyle.free), name="v2", overwrite=True)
    assert len(free.asked) == 16
    assert not any("directly" in question for _, question in free.asked)


def test_the_folder_of_another_command_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "run.json").write_text('{"settings": {}, "complete": true}')
    with pytest.raises(ConfigError, match=r"output_dir=.*another model.* or command"):
        evaluate(constant("A"), MmvpConfig(pairs=8))


def test_a_damaged_note_of_the_owner_is_nobodys_own(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{")
    (tmp_path / "out" / "statistics.npz").write_text("of captions")
    with pytest.raises(ConfigError, match=r"output_dir=.*overwrite=true"):
        evaluate(constant("A"), MmvpConfig(pairs=2))
    evaluate(constant("A"), MmvpConfig(pairs=2), overwrite=True)
    assert not (tmp_path / "out" / "statistics.npz").exists()
    evaluate(constant("A"), MmvpConfig(pairs=2))


def test_another_limit_of_tokens_is_another_evaluation(evaluate: Evaluate) -> None:
    evaluate(constant("A"), MmvpConfig(pairs=2))
    with pytest.raises(ConfigError, match="overwrite=true"):
        evaluate(constant("A"), MmvpConfig(pairs=2), model=ModelConfig(max_new_tokens=3))


@pytest.mark.parametrize("output", ["file", "file/below", "loop"])
def test_a_folder_that_can_be_none_is_refused_before_asking(
    evaluate: Evaluate, tmp_path: Path, output: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    chat = constant("A")
    with pytest.raises(ConfigError, match=r"output_dir=.*is no folder that can be written into"):
        evaluate(chat, MmvpConfig(pairs=2), output_dir=str(tmp_path / output))
    assert chat.asked == []


def test_of_two_runs_into_one_folder_the_later_one_is_refused(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    def rule(image: Image.Image, question: str) -> str:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "run.json").write_text('{"questions": "x", "label": "quicker"}')
        return "A"

    with pytest.raises(ConfigError, match="the evaluation of quicker"):
        evaluate(Oracle(rule), MmvpConfig(pairs=2))
    assert not (tmp_path / "out" / "scores.json").exists()


def _own_mmvp(root: Path) -> Path:
    (root / "MMVP Images").mkdir(parents=True)
    for index in (1, 2):
        Image.new("RGB", (9, 9), (index, 0, 0)).save(root / "MMVP Images" / f"{index}.jpg")
    (root / "Questions.csv").write_text(
        "Index,Question,Options,Correct Answer\n"
        "1,Up?,(a) Up (b) Down,(a)\n2,Up?,(a) Up (b) Down,(b)\n"
    )
    return root


def test_a_folder_of_ones_own_is_called_mmvp(evaluate: Evaluate, tmp_path: Path) -> None:
    root = _own_mmvp(tmp_path / "own")
    scores = evaluate(constant("(a)"), MmvpConfig(root=str(root)))
    assert (scores["benchmark"], scores["procedural"], scores["by_kind"]) == ("mmvp", False, {})
    (root / "MMVP Images" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing, the first is .*2\.jpg"):
        evaluate(constant("(a)"), MmvpConfig(root=str(root)), overwrite=True)
    (root / "MMVP Images" / "2.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(DataError, match=r"2\.jpg: not a readable image"):
        evaluate(constant("(a)"), MmvpConfig(root=str(root)), overwrite=True)


def test_cocot_asks_about_the_pair_first_and_gives_the_answer_as_context(
    evaluate: Evaluate, lines: Lines
) -> None:
    def rule(image: Image.Image, question: str) -> str:
        return f"wide {image.width}" if question == COCOT_PROMPT else "A"

    chat = Oracle(rule)
    scores = evaluate(chat, MmvpConfig(pairs=2, cocot=True))
    assert scores["protocol"] == "letter_cocot"
    first = [size for size, question in chat.asked if question == COCOT_PROMPT]
    second = [(size, question) for size, question in chat.asked if question != COCOT_PROMPT]
    assert (len(first), len(second)) == (2, 4)
    single = second[0][0][0]
    assert {size[0] for size in first} == {2 * single + DIVIDER_PX}
    assert all(q.startswith(f"Context: wide {2 * single + DIVIDER_PX}\n") for _, q in second)
    assert sorted(line["prompt"] for line in lines()) == sorted(q for _, q in second)


@pytest.mark.usefixtures("without_java")
def test_captions_are_asked_once_per_pair_side_by_side(
    evaluate: Evaluate, lines: Lines, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = constant("the red ball is gone")
    scores = evaluate(chat, SpotConfig(pairs=12))
    assert len(chat.asked) == 12
    assert chat.limits == {64}
    with Image.open(lines()[0]["images"][0]) as image:
        assert chat.asked[0][0] == (2 * image.width + DIVIDER_PX, image.height)
    assert (scores["benchmark"], scores["protocol"]) == ("spot_the_diff_procedural", "merged")
    assert scores["scores"]["meteor"] is None
    assert "no Java" in scores["unavailable"]["meteor"]
    assert scores["tokenizer"] == "python"
    assert scores["diagnostics"]["distinct_captions"] == 1
    assert "METEOR unavailable" in capsys.readouterr().out
    assert "meteor" not in lines()[0]["scores"]
    per_item = evaluate(
        chat,
        SpotConfig(pairs=12, protocol=SpotProtocol.per_item),
        output_dir=str(tmp_path / "items"),
    )
    assert (len(chat.asked), per_item["protocol"]) == (12, "per_item")
    assert per_item["n"] >= 12


def test_captions_of_another_system_with_meteor(
    evaluate: Evaluate, lines: Lines, tmp_path: Path
) -> None:
    references = {"a": ["remove the dog", "take the dog out"], "b": ["make it blue"]}
    rows = [
        {"uid": uid, "img0": "x.jpg", "img1": "y.jpg", "sents": sents}
        for uid, sents in references.items()
    ]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    (tmp_path / "theirs.jsonl").write_text(
        '{"uid": "b", "caption": "make it blue"}\n{"uid": "a", "caption": "remove the cat"}\n'
    )
    scores = evaluate(
        None,
        EditConfig(annotations=str(tmp_path / "test.json")),
        predictions=str(tmp_path / "theirs.jsonl"),
    )
    assert (scores["benchmark"], scores["protocol"], scores["n"]) == (
        "image_edit_request",
        "per_uid",
        2,
    )
    assert scores["scores"]["bleu_1"] == pytest.approx(5 / 6)
    assert scores["scores"]["meteor"] == pytest.approx(0.444032, abs=1e-6)
    assert set(scores["intervals"]) == set(scores["scores"])
    assert [line["id"] for line in lines()] == ["a", "b"]
    assert lines()[1]["scores"]["meteor"] == 1.0
    assert lines()[1]["images"] == []
    assert scores["label"].endswith("theirs.jsonl")


def test_answers_of_another_system(evaluate: Evaluate, tmp_path: Path) -> None:
    root = _own_mmvp(tmp_path / "own")
    (root / "MMVP Images" / "1.jpg").unlink()
    path = tmp_path / "theirs.csv"
    path.write_text("question_id,response\n1,(a) Up\n2,The answer is B.\n")
    scores = evaluate(None, MmvpConfig(root=str(root)), predictions=str(path), label="theirs")
    assert scores["scores"] == {"pair_accuracy": 1.0, "accuracy": 1.0, "unparsed": 0.0}
    assert (scores["label"], scores["left_out"]) == ("theirs", [])
    path.write_text("question_id,response\n1,(a) Up\n")
    with pytest.raises(DataError, match="1 of 2 items have no prediction: 2"):
        evaluate(None, MmvpConfig(root=str(root)), predictions=str(path), overwrite=True)
    with pytest.raises(DataError, match="no pair has both"):
        evaluate(
            None, MmvpConfig(root=str(root)), predictions=str(path), overwrite=True, partial=True
        )


@pytest.mark.usefixtures("without_java")
def test_what_is_left_out_is_counted(evaluate: Evaluate, lines: Lines, tmp_path: Path) -> None:
    rows = [{"img_id": str(n), "sentences": ["a car left"] if n else []} for n in range(4)]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    theirs = {"0.png": "not scored", "1.png": "a car left", "3.png": ""}
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    scores = evaluate(
        None,
        SpotConfig(annotations=str(tmp_path / "test.json")),
        predictions=str(tmp_path / "theirs.json"),
        partial=True,
    )
    assert scores["n"] == len(lines()) == 2
    assert scores["diagnostics"]["empty_captions"] == 1
    assert scores["left_out"] == [
        {"reason": "no reference sentence", "count": 1, "ids": ["0"]},
        {"reason": "no prediction for the item", "count": 1, "ids": ["2"]},
    ]


@pytest.mark.usefixtures("without_java")
@pytest.mark.parametrize(("name", "split"), [("val", "val"), ("of_my_own", "test")])
def test_the_split_is_that_of_the_file(
    evaluate: Evaluate, tmp_path: Path, name: str, split: str
) -> None:
    (tmp_path / f"{name}.json").write_text('[{"img_id": "1", "sentences": ["a car left"]}]')
    (tmp_path / "train.json").write_text('[{"img_id": "2", "sentences": ["a man left"]}]')
    (tmp_path / "theirs.json").write_text('{"1": "a car"}')
    benchmark = SpotConfig(annotations=str(tmp_path / f"{name}.json"))
    scores = evaluate(None, benchmark, predictions=str(tmp_path / "theirs.json"))
    assert (scores["split"], scores["settings"]["split"]) == (split, split)
    (tmp_path / "theirs.json").write_text('{"2": "a man"}')
    with pytest.raises(
        DataError, match=r"of the split 'train'.*its file as benchmark\.annotations"
    ):
        evaluate(None, benchmark, predictions=str(tmp_path / "theirs.json"), overwrite=True)

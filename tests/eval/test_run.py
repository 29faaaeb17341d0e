"""Whole evaluations: scores, labels, resuming, and what is not asked twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typing_extensions import Self

from imgdiff.core.errors import ConfigError, StoreError
from imgdiff.eval import run as run_module
from imgdiff.eval.config import EvalConfig, MmvpConfig, ModelConfig
from imgdiff.eval.mmvp import PromptStyle
from imgdiff.eval.predictions import Prediction, append_predictions
from imgdiff.eval.run import run


class Oracle:
    """A `Chat` that answers from a table of keys it is given, and counts what it is asked."""

    def __init__(self, answer: str = "A", fail_after: int = 10**9, identity: str = "v1") -> None:
        self.identity = identity
        self.answer, self.fail_after = answer, fail_after
        self.asked: list[str] = []
        self.entered = 0

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None

    def chat(self, images: Sequence[Image.Image | None], questions: Sequence[str]) -> list[str]:
        if len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        assert all(image is not None and image.mode == "RGB" for image in images)
        self.asked += questions
        return [self.answer] * len(questions)


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(run_module, "ASKED_AT_ONCE", 4)

    def call(chat: Oracle, *, overwrite: bool = False, **benchmark: Any) -> dict[str, Any]:
        monkeypatch.setattr(ModelConfig, "build", lambda self: chat)
        settings = MmvpConfig(**({"pairs": 8} | benchmark))
        return run(
            EvalConfig(
                output_dir=str(tmp_path / "out"),
                overwrite=overwrite,
                cache_dir=str(tmp_path / "cache"),
                benchmark=settings,
            )
        )

    return call


def _lines(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        json.loads(x) for x in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    ]


def test_a_constant_answer_scores_half_of_the_questions_and_no_pair(
    evaluate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = evaluate(Oracle("A"))
    assert scores == json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["scores"] == {"pair_accuracy": 0.0, "accuracy": 0.5, "unparsed": 0.0}
    assert (scores["benchmark"], scores["procedural"], scores["n"]) == ("mmvp_procedural", True, 16)
    assert scores["intervals"]["accuracy"] == {"low": 0.28, "high": 0.72}
    assert scores["by_kind"]["category"] == {"pairs": 4, **scores["scores"]}
    assert scores["chosen"] == {"a": 16}
    assert scores["protocol"]["prompt"] == "letter"
    assert "procedural MMVP-format set (not MMVP)" in capsys.readouterr().out
    lines = _lines(tmp_path)
    assert [line["index"] for line in lines] == list(range(1, 17))
    assert {line["chosen"] for line in lines} == {"a"}
    assert lines[4]["kind"] == "category"


def test_answers_that_cannot_be_read_are_counted(evaluate: Any) -> None:
    scores = evaluate(Oracle("I cannot tell."))
    assert scores["scores"] == {"pair_accuracy": 0.0, "accuracy": 0.0, "unparsed": 1.0}
    assert scores["chosen"] == {"unparsed": 16}


def test_a_killed_run_goes_on_where_it_stopped(evaluate: Any, tmp_path: Path) -> None:
    killed = Oracle("A", fail_after=8)
    with pytest.raises(KeyboardInterrupt):
        evaluate(killed)
    assert len(_lines(tmp_path)) == 8
    with (tmp_path / "out" / "predictions.jsonl").open("a") as handle:
        handle.write('{"key": "half a li')
    resumed, whole = Oracle("A"), Oracle("A")
    evaluate(resumed)
    assert len(resumed.asked) == 8
    lines = _lines(tmp_path)
    (tmp_path / "out" / "predictions.jsonl").unlink()
    evaluate(whole)
    assert len(whole.asked) == 16
    assert _lines(tmp_path) == lines


def test_nothing_is_asked_twice_and_another_model_or_prompt_is_asked(
    evaluate: Any, tmp_path: Path
) -> None:
    evaluate(Oracle("A"))
    again = Oracle("B")
    assert evaluate(again)["chosen"] == {"a": 16}
    assert (again.asked, again.entered) == ([], 0)
    other = Oracle("B", identity="v2")
    with pytest.raises(ConfigError, match=r"output_dir=.*evaluation of .*overwrite=true"):
        evaluate(other)
    assert len(_lines(tmp_path)) == 16
    assert evaluate(other, overwrite=True)["chosen"] == {"b": 16}
    assert len(other.asked) == len(_lines(tmp_path)) == 16
    free = Oracle("B", identity="v2")
    evaluate(free, overwrite=True, prompt=PromptStyle.free)
    assert len(free.asked) == 16
    assert not any("directly" in question for question in free.asked)


def test_the_folder_of_another_command_is_refused(evaluate: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "run.json").write_text('{"settings": {}, "complete": true}')
    with pytest.raises(ConfigError, match=r"output_dir=.*another model.* or command"):
        evaluate(Oracle("A"))


def test_a_full_disk_is_a_store_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    line = Prediction(
        key="k", index=1, pair=1, kind="", prompt="?", answer="A" * 9999, chosen="a", correct="a"
    )
    with pytest.raises(StoreError, match="could not be written"):
        append_predictions(Path("/dev/full"), [line] * 9)


def test_a_folder_of_ones_own_is_called_mmvp(evaluate: Any, tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "MMVP Images").mkdir(parents=True)
    for index in (1, 2):
        Image.new("RGB", (9, 9), (index, 0, 0)).save(root / "MMVP Images" / f"{index}.jpg")
    (root / "Questions.csv").write_text(
        "Index,Question,Options,Correct Answer\n"
        "1,Up?,(a) Up (b) Down,(a)\n2,Up?,(a) Up (b) Down,(b)\n"
    )
    scores = evaluate(Oracle("(a)"), root=str(root))
    assert (scores["benchmark"], scores["procedural"], scores["by_kind"]) == ("mmvp", False, {})

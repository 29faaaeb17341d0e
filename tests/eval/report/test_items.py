"""Items of one or two runs: joined by id, scored per item, safe inside a script element."""

from __future__ import annotations

import json

import pytest
from report_runs import caption_answer, caption_run, choice_answer, choice_run

from imgdiff.eval.report.items import items_of, script_json


def test_captions_are_joined_by_id_in_the_order_of_the_first_run() -> None:
    first = caption_run([caption_answer("2", "two"), caption_answer("1", "one")])
    second = caption_run([caption_answer("3", "three"), caption_answer("1", " ")])
    held = items_of([first, second])
    assert [item["id"] for item in held.items] == ["2", "1", "3"]
    assert [metric["name"] for metric in held.metrics] == ["cider_d", "bleu_4", "rouge_l"]
    texts = [[one and one["text"] for one in item["answers"]] for item in held.items]
    assert texts == [["two", None], ["one", " "], [None, "three"]]
    assert held.items[1]["scores"] == [[150.0, 10.0, 40.0], [150.0, 10.0, 40.0]]
    assert held.items[0]["scores"][1] == [None, None, None]
    assert [one["unparsed"] for one in held.items[1]["answers"]] == [False, True]
    assert held.notes == (
        "1 items are answered by A alone.", "1 items are answered by B alone.",
    )  # fmt: skip


def test_other_references_are_said() -> None:
    first = caption_run([caption_answer("1", "one")])
    second = caption_run([caption_answer("1", "one", references=("another",))])
    held = items_of([first, second])
    assert held.items[0]["references"] == ["a car left", "the car is gone"]
    assert held.notes[0].startswith("1 items have other references or questions in B than in A")


def test_scores_that_are_absent_or_no_numbers_are_none() -> None:
    odd = {"cider_d": float("nan"), "meteor": 0.25}
    held = items_of([caption_run([caption_answer("1", "x"), caption_answer("2", "y", scores=odd)])])
    assert [metric["title"] for metric in held.metrics] == [
        "CIDEr-D", "BLEU-4", "METEOR", "ROUGE-L",
    ]  # fmt: skip
    assert held.items[1]["scores"] == [[None, None, 25.0, None]]


@pytest.mark.parametrize(
    ("letters", "scores"),
    [
        ("ab", [1.0, 1.0]),
        ("aa", [0.0, 0.5]),
        ("ba", [0.0, 0.0]),
        ("a-", [0.0, 0.5]),
        ("--", [0.0, 0.0]),
        ("a", [1.0, 1.0]),  # the other question of the pair was left out
    ],
)
def test_pairs_are_scored(letters: str, scores: list[float]) -> None:
    held = items_of([choice_run(letters)])
    assert [metric["name"] for metric in held.metrics] == ["pair", "share"]
    (item,) = held.items
    assert item["scores"] == [scores]
    assert [part["answers"][0]["unparsed"] for part in item["parts"]] == [x == "-" for x in letters]


def test_the_corrected_key_brings_metrics_of_its_own() -> None:
    run = choice_run("ab")
    changed = [choice_answer(1, "a", corrected="b"), choice_answer(2, "b", corrected="a")]
    run = type(run)(folder=run.folder, scores=run.scores, answers=tuple(changed))
    held = items_of([run])
    assert [metric["name"] for metric in held.metrics] == [
        "pair", "share", "pair_corrected", "share_corrected",
    ]  # fmt: skip
    assert held.items[0]["scores"] == [[1.0, 1.0, 0.0, 0.0]]


def test_a_pair_that_one_run_answered_in_part_has_no_score_there() -> None:
    held = items_of([choice_run("abab"), choice_run("aba")])
    assert held.items[1]["scores"] == [[1.0, 1.0], [None, None]]
    assert held.items[1]["parts"][1]["answers"][1] is None


def test_images_and_prompts_are_kept_once() -> None:
    images = ("a.png", "b.png")
    answers = [caption_answer(str(number), "x", images=images) for number in range(3)]
    held = items_of([caption_run(answers), caption_run(answers)])
    assert held.album.paths == images
    assert [item["images"] for item in held.items] == [[0, 1]] * 3
    assert list(held.prompts.numbers) == ["What changed?"]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>", "</script>", "</SCRIPT >", "<!--", "-->", "]]>", "<![CDATA[",
        "line\u2028and\u2029paragraph", "\u202eright to left\u200f",
        "\U0001f436 \U0001f44d\U0001f3fd", "\\u003c", '"quotes" and \\', "&lt;&amp;",
        "tab\tnew\nline",
    ],
)  # fmt: skip
def test_json_cannot_leave_its_script_element(text: str) -> None:
    written = script_json({"caption": text})
    assert not set("<>&\u2028\u2029\n") & set(written)
    assert json.loads(written) == {"caption": text}

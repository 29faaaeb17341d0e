"""Reading scores.json, and which runs fit together."""

from __future__ import annotations

import pytest
from report_runs import caption_answer, caption_run, choice_run

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval.records import Run
from imgdiff.eval.report.board import Difference, boards_of, differences_of


def test_scores_are_scaled_and_in_a_fixed_order() -> None:
    run = caption_run(
        scores={"rouge_l": 0.3, "bleu_4": 0.09, "oddity": 7.25, "bleu_1": float("nan")},
        unavailable={},
    )
    (board,) = boards_of([run])
    assert [(score.metric.name, score.value) for score in board.scores] == [
        ("bleu_1", None), ("bleu_4", pytest.approx(9.0)), ("rouge_l", pytest.approx(30.0)),
        ("oddity", 7.25),
    ]  # fmt: skip
    assert board.scores[0].why == "not computed"


@pytest.mark.parametrize("key", ["benchmark", "protocol", "label", "n", "scores"])
def test_a_missing_key_is_named(key: str) -> None:
    whole = caption_run()
    run = Run(
        folder=whole.folder,
        scores={name: value for name, value in whole.scores.items() if name != key},
        answers=(),
    )
    with pytest.raises(DataError, match=rf"scores\.json: no key '{key}'"):
        boards_of([run])


def test_runs_must_fit_together() -> None:
    with pytest.raises(ConfigError, match="0 runs"):
        boards_of([])
    with pytest.raises(ConfigError, match="3 runs"):
        boards_of([caption_run()] * 3)
    with pytest.raises(DataError, match=r"holds spot_the_diff and .* holds mmvp"):
        boards_of([caption_run(), choice_run("ab")])
    with pytest.raises(DataError, match=r"holds mmvp and .* holds mmvp_procedural"):
        boards_of([choice_run("ab"), choice_run("ab", benchmark="mmvp_procedural")])


def test_an_item_answered_twice_is_refused() -> None:
    answers = [caption_answer("12", "one"), caption_answer("12", "two")]
    with pytest.raises(DataError, match="item '12' is answered twice"):
        boards_of([caption_run(answers)])


def test_given_differences_replace_plain_ones() -> None:
    boards = boards_of([caption_run(), caption_run(scores={"bleu_4": 0.1, "cider_d": 0.5})])
    found = differences_of(boards, {"bleu_4": Difference(value=0.02, low=0.01, high=0.03)})
    assert found["bleu_4"].value == pytest.approx(2.0)
    assert (found["bleu_4"].low, found["bleu_4"].high) == pytest.approx((1.0, 3.0))
    assert found["cider_d"].value == pytest.approx(6.843)
    assert found["cider_d"].low is None
    assert set(found) == {"bleu_4", "cider_d"}
    assert differences_of(boards[:1], {}) == {}

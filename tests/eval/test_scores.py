"""Known scores and intervals."""

from __future__ import annotations

import pytest

from imgdiff.eval.scores import Answered, Share, pair_scores, scores_by_kind


def _answers(*letters: str) -> list[Answered]:
    """Pairs with right answers a, b; `-` is unparsed."""
    return [
        Answered(pair=str(k // 2 + 1), chosen=None if x == "-" else x, correct="ab"[k % 2])
        for k, x in enumerate("".join(letters))
    ]


@pytest.mark.parametrize(
    ("letters", "pair_accuracy", "accuracy", "unparsed"),
    [
        ("ab", 1.0, 1.0, 0.0),
        ("aa", 0.0, 0.5, 0.0),
        ("ba", 0.0, 0.0, 0.0),
        ("a-", 0.0, 0.5, 0.5),
        ("--", 0.0, 0.0, 1.0),
        ("abaaab--", 0.5, 5 / 8, 0.25),
    ],
)
def test_a_pair_counts_when_both_answers_are_right(
    letters: str, pair_accuracy: float, accuracy: float, unparsed: float
) -> None:
    scores = {name: share.value for name, share in pair_scores(_answers(letters)).items()}
    expected = {"pair_accuracy": pair_accuracy, "accuracy": accuracy, "unparsed": unparsed}
    assert scores == pytest.approx(expected)


def test_pairs_are_found_by_number_and_not_by_order() -> None:
    answers = _answers("ab", "aa", "ab")
    assert pair_scores(answers[::-1]) == pair_scores(answers)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [  # percent, as published for 150 pairs
        (36, 150, 17.9, 31.4),
        (41, 150, 20.8, 35.0),
        (76, 150, 42.7, 58.6),
        (0, 150, 0.0, 2.5),
        (150, 150, 97.5, 100.0),
        (0, 1, 0.0, 79.3),
    ],
)
def test_wilson_intervals(hits: int, total: int, low: float, high: float) -> None:
    found = Share(hits=hits, total=total).interval()
    assert [round(100 * value, 1) for value in found] == [low, high]


def test_kinds_are_scored_apart_and_unnamed_pairs_left_out() -> None:
    by_kind = scores_by_kind(_answers("ab", "aa", "ab"), {"1": "colour", "2": "place"})
    assert list(by_kind) == ["colour", "place"]
    assert by_kind["colour"]["pair_accuracy"] == Share(hits=1, total=1)
    assert by_kind["place"]["accuracy"] == Share(hits=1, total=2)

"""From answers to numbers: accuracy, pair accuracy, and what the sample size leaves open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Z_95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A question's pair, the letter that the answer chose and the right one.

    Without a letter the answer is unparsed, unless a judge held it wrong.
    """

    pair: str
    chosen: str | None
    correct: str
    held_wrong: bool = False

    @property
    def is_right(self) -> bool:
        """An unparsed answer is wrong."""
        return self.chosen == self.correct


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """`hits` of `total` as a fraction, with its Wilson 95 % interval."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        """The fraction in [0, 1]."""
        return self.hits / self.total

    def interval(self) -> tuple[float, float]:
        """Wilson score interval at 95 %, within [0, 1] (Wilson 1927)."""
        share, n, z2 = self.value, self.total, Z_95**2
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)


def pair_scores(answers: Sequence[Answered]) -> dict[str, Share]:
    """`pair_accuracy` (both questions of a pair right), `accuracy` and `unparsed`.

    `answers` must not be empty and holds whole pairs.
    """
    by_pair: dict[str, list[bool]] = {}
    for answer in answers:
        by_pair.setdefault(answer.pair, []).append(answer.is_right)
    return {
        "pair_accuracy": Share(hits=sum(map(all, by_pair.values())), total=len(by_pair)),
        "accuracy": Share(hits=sum(answer.is_right for answer in answers), total=len(answers)),
        "unparsed": Share(
            hits=sum(answer.chosen is None and not answer.held_wrong for answer in answers),
            total=len(answers),
        ),
    }


def scores_by_kind(
    answers: Sequence[Answered], kinds: Mapping[str, str]
) -> dict[str, dict[str, Share]]:
    """`pair_scores` of the pairs of each kind, by kind in order of name."""
    grouped: dict[str, list[Answered]] = {}
    for answer in answers:
        if answer.pair in kinds:
            grouped.setdefault(kinds[answer.pair], []).append(answer)
    return {kind: pair_scores(grouped[kind]) for kind in sorted(grouped)}

"""Paired bootstrap over items, on cached statistics: how far the sample alone moves the scores.

Items are drawn with replacement and their statistics added up, so BLEU and METEOR are corpus scores
of each resample, not means of items. CIDEr-D keeps the scores that its items have with the IDF of
the full set: the reference corpus is taken as given, as it is when a score is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from imgdiff.core.errors import DataError
from imgdiff.eval.captions.meteor import COUNTS, score_sums, summable
from imgdiff.eval.captions.scorers import MAX_ORDER
from imgdiff.eval.captions.statistics import METRICS, CaptionStatistics, corpus_scores

RESAMPLES = 2000
_PERCENT = (2.5, 97.5)  # a two-sided 95 % interval
_DRAWS_AT_ONCE = 2_000_000  # items drawn per chunk: bounds memory to some tens of MB
_BLEU, _ROUGE_L, _CIDER_D = slice(0, 10), 10, 11  # columns; METEOR's follow
_METEOR = slice(12, 12 + COUNTS)
# pycocoevalcap's guards against division by zero.
_TINY, _SMALL = 1e-15, 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Percentile interval at 95 %."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Second run minus first. `p` is two-sided: how often resamples fall on the other side of 0."""

    first: float
    second: float
    interval: Interval  # of the difference
    p: float

    @property
    def value(self) -> float:
        """Second minus first on the full set."""
        return self.second - self.first

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0."""
        return self.interval.low <= 0 <= self.interval.high


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Differences of two runs by metric, and why a metric is missing."""

    differences: dict[str, Difference]
    unavailable: dict[str, str]


def intervals(
    statistics: CaptionStatistics, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Interval of each metric that `corpus_scores` has; METEOR only where it was counted.

    The order of the items does not matter: resampling is by id.
    """
    columns = _columns(statistics, with_meteor=statistics.meteor is not None)
    chunks = [
        _scores(sums, len(statistics)) for sums in _sums_of_resamples(columns, resamples, seed)
    ]
    return {
        name: _interval(np.concatenate([chunk[name] for chunk in chunks]))
        for name in METRICS
        if name in chunks[0]
    }


def compare(
    first: CaptionStatistics,
    second: CaptionStatistics,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Second minus first, both resampled on the same items.

    DataError where the two were not scored on the same ids, references and tokenizer.
    """
    _check_comparable(first, second)
    with_meteor = first.meteor is not None and second.meteor is not None
    left, right = (
        _columns(first, with_meteor=with_meteor),
        _columns(second, with_meteor=with_meteor),
    )
    width, moved = left.shape[1], []
    for sums in _sums_of_resamples(np.hstack([left, right]), resamples, seed):
        one, two = (_scores(part, len(first)) for part in (sums[:, :width], sums[:, width:]))
        moved.append({name: two[name] - one[name] for name in one})
    points = corpus_scores(first), corpus_scores(second)
    return Comparison(
        differences={
            name: _difference(
                points[0][name], points[1][name], np.concatenate([chunk[name] for chunk in moved])
            )
            for name in METRICS
            if name in moved[0]
        },
        unavailable={} if with_meteor else {"meteor": _without_meteor(first, second)},
    )


def _check_comparable(first: CaptionStatistics, second: CaptionStatistics) -> None:
    ours, theirs = set(first.ids), set(second.ids)
    if ours != theirs:
        example = sorted(ours ^ theirs)[0]
        raise DataError(
            f"the two runs have different items: {len(ours - theirs)} only in the first, "
            f"{len(theirs - ours)} only in the second, such as {example}. "
            "Compare runs on the same benchmark, split and protocol."
        )
    if first.tokenizer != second.tokenizer:
        raise DataError(
            f"the two runs were tokenised differently ({first.tokenizer}, {second.tokenizer}), "
            "so their scores cannot be compared. Score both with Java, or both without."
        )
    if first.reference_set != second.reference_set:
        raise DataError(
            "the two runs were scored against different references. "
            "Score both with the same annotations and protocol."
        )


def _without_meteor(first: CaptionStatistics, second: CaptionStatistics) -> str:
    missing = [name for name, run in (("first", first), ("second", second)) if run.meteor is None]
    return f"METEOR unavailable: the {' and the '.join(missing)} run was scored without Java."


def _columns(statistics: CaptionStatistics, *, with_meteor: bool) -> Float[np.ndarray, "N K"]:
    """All statistics side by side, rows in order of id."""
    parts = [statistics.bleu, statistics.rouge_l[:, None], statistics.cider_d[:, None]]
    if with_meteor and statistics.meteor is not None:
        parts.append(summable(statistics.meteor.counts))
    order = sorted(range(len(statistics)), key=statistics.ids.__getitem__)
    return np.hstack(parts).astype(np.float64)[order]


def _sums_of_resamples(
    columns_NK: Float[np.ndarray, "N K"], resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "R K"]]:
    """Sums over each resample, in chunks of bounded memory."""
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: must be at least 1")
    items, rng = len(columns_NK), np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // items)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(0, items, size=(rows, items))
        drawn += np.arange(rows)[:, None] * items  # a range of bins for each resample
        times = np.bincount(drawn.ravel(), minlength=rows * items).reshape(rows, items)
        yield times.astype(np.float64) @ columns_NK


def _scores(sums_RK: Float[np.ndarray, "R K"], items: int) -> dict[str, Float[np.ndarray, " R"]]:
    """The metrics of resamples whose statistics were summed."""
    bleu_4R = _bleu(sums_RK[:, _BLEU])
    meteor = {"meteor": score_sums(sums_RK[:, _METEOR])} if sums_RK.shape[1] > _CIDER_D + 1 else {}
    return {
        **{f"bleu_{order}": bleu_4R[order - 1] for order in range(1, MAX_ORDER + 1)},
        **meteor,
        "rouge_l": sums_RK[:, _ROUGE_L] / items,
        "cider_d": sums_RK[:, _CIDER_D] / items,
    }


def _bleu(sums_R10: Float[np.ndarray, "R 10"]) -> Float[np.ndarray, "4 R"]:
    """BLEU-1..4 of summed counts, by the formula of pycocoevalcap's BleuScorer."""
    tested_R, referred_R = sums_R10[:, 0], sums_R10[:, 1]
    guessed_4R, correct_4R = sums_R10[:, 2:6].T, sums_R10[:, 6:].T
    products_4R = np.cumprod((correct_4R + _TINY) / (guessed_4R + _SMALL), axis=0)
    means_4R = products_4R ** (1.0 / np.arange(1, MAX_ORDER + 1))[:, None]
    ratio_R = (tested_R + _TINY) / (referred_R + _SMALL)
    return means_4R * np.exp(np.minimum(0.0, 1 - 1 / ratio_R))


def _interval(scores_R: Float[np.ndarray, " R"]) -> Interval:
    low, high = np.percentile(scores_R, _PERCENT)
    return Interval(low=float(low), high=float(high))


def _difference(
    first: float | None, second: float | None, moved_R: Float[np.ndarray, " R"]
) -> Difference:
    if first is None or second is None:
        raise ValueError("a difference of a metric that one run does not have")
    # One is added to both counts: no finite number of resamples shows p = 0.
    sides = ((moved_R <= 0).sum() + 1, (moved_R >= 0).sum() + 1)
    return Difference(
        first=first,
        second=second,
        interval=_interval(moved_R),
        p=min(1.0, 2.0 * float(min(sides)) / (len(moved_R) + 1)),
    )

"""Scores with the interval that accepts them, counted as the rules of the run read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.synth.decide import accepts
from imgdiff.synth.selection import Combine, Interval
from imgdiff.synth.stats.histogram import SCORES, Histogram
from imgdiff.synth.stats.reading import Batch, Run


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreKind:
    """A score, where it stands and what is asked of it."""

    key: str
    title: str
    table: str
    columns: tuple[str, ...]  # one score, or one of each side
    interval: Interval
    setting: str  # e.g. rules.crop_similarity
    combine: Combine | None = None  # where there are two sides
    digits: int | None = None  # the score is rounded first
    measure: str = "cosine"


class ScoreCounts:
    """How often each score occurs, and how many the interval accepts."""

    def __init__(self, kind: ScoreKind) -> None:
        self.kind = kind
        self.histogram = Histogram(SCORES)
        self.accepted = 0
        self.not_numbers = 0  # written as NaN; what was never computed is not counted

    def add(self, batch: Batch) -> None:
        """Count the scores of a batch."""
        sides = [_rounded(batch.numbers(name), self.kind.digits) for name in self.kind.columns]
        self.not_numbers += sum(batch.not_numbers(name) for name in self.kind.columns)
        deciding, accepted = decided(self.kind.interval, self.kind.combine, *sides)
        self.histogram.add(deciding)
        self.accepted += int(accepted.sum())


def _rounded(scores: Float64[np.ndarray, " N"], digits: int | None) -> Float64[np.ndarray, " N"]:
    """As Python rounds: numpy's rule differs where the last digit is a five."""
    if digits is None:
        return scores
    return np.array([round(float(score), digits) for score in scores], dtype=np.float64)


def decided(
    interval: Interval,
    combine: Combine | None,
    first_N: Float64[np.ndarray, " N"],
    second_N: Float64[np.ndarray, " N"] | None = None,
) -> tuple[Float64[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """The score that decides for each item, and whether it is accepted (`selection.passes`).

    Of two sides the better one decides where either may pass, the worse one where both must; the
    better one is the higher, but the lower where the interval has an upper end alone. NaN stands
    for a side that was not scored: where both must pass, nothing then decides.
    """
    if second_N is None or combine is None:
        return first_N, accepts(interval, first_N)
    verdicts = [accepts(interval, side) for side in (first_N, second_N)]
    lower_end = interval.above is not None or interval.at_least is not None
    upper_end = interval.below is not None or interval.at_most is not None
    high_is_good = lower_end or not upper_end
    if combine is Combine.either:
        better = np.fmax if high_is_good else np.fmin  # a side without a score does not count
        return better(first_N, second_N), verdicts[0] | verdicts[1]
    worse = np.minimum if high_is_good else np.maximum
    return worse(first_N, second_N), verdicts[0] & verdicts[1]


def score_kinds(run: Run) -> list[ScoreKind]:
    """The scores of the run with its own thresholds; DataError where it names none that count."""
    rules = run.settings["rules"]
    matched = "probability" if _matcher_score(run) == "itm" else "cosine"
    kinds = []
    try:
        kinds.append(
            ScoreKind(
                key="image_similarity", title="Image similarity", table="pairs",
                columns=("image_similarity",), setting="rules.image_similarity",
                interval=_interval(rules, "image_similarity"),
                digits=rules.get("image_similarity_digits"),
            )
        )  # fmt: skip
        if run.edit.replaces:
            kinds += _region_kinds(rules, matched)
        if run.edit.removes:
            kinds += _removal_kinds(rules["removal"], matched)
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(
            f"{run.folder / 'run.json'}: its rules cannot be read ({error!r}). Make the run again."
        ) from None
    return kinds


def _region_kinds(rules: Mapping[str, Any], matched: str) -> list[ScoreKind]:
    return [
        ScoreKind(
            key="crop_similarity", title="Crop similarity", table="regions",
            columns=("crop_similarity",), setting="rules.crop_similarity",
            interval=_interval(rules, "crop_similarity"),
        ),
        ScoreKind(
            key="match", title="Match of a changed noun", table="regions",
            columns=("match_0", "match_1"), setting="rules.match",
            interval=_interval(rules, "match"), combine=Combine(rules["match_combine"]),
            measure=matched,
        ),
        ScoreKind(
            key="content_similarity", title="Similarity of the two descriptions", table="regions",
            columns=("content_similarity",), setting="rules.content_similarity",
            interval=_interval(rules, "content_similarity"),
        ),
        ScoreKind(
            key="content_match", title="Match of description and crop", table="regions",
            columns=("content_match_0", "content_match_1"), setting="rules.content_match",
            interval=_interval(rules, "content_match"),
            combine=Combine(rules["content_match_combine"]), measure=matched,
        ),
    ]  # fmt: skip


def _removal_kinds(rules: Mapping[str, Any], matched: str) -> list[ScoreKind]:
    kinds = (
        ("crop_similarity", "Crop similarity, objects to remove", "crop_similarity", "cosine"),
        ("original_match", "Match before removal", "match_original", matched),
        ("inpainted_match", "Match after removal", "match_inpainted", matched),
    )
    return [
        ScoreKind(
            key=f"removal_{key}",
            title=title,
            table="removals",
            columns=(column,),
            setting=f"rules.removal.{key}",
            interval=_interval(rules, key),
            measure=measure,
        )
        for key, title, column, measure in kinds
    ]


def _interval(rules: Mapping[str, Any], key: str) -> Interval:
    interval = Interval(**rules[key])
    interval.accepts(0.0)  # an end that is no number fails here
    if fault := interval.fault():
        raise ConfigError(f"{key} ({interval.describe()}): {fault}")
    return interval


def _matcher_score(run: Run) -> str:
    matcher = run.settings.get("matcher")
    return str(matcher.get("score", "")) if isinstance(matcher, dict) else ""

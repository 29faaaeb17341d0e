"""Where thresholds act: intervals of scores and the rules that choose regions. Pure numpy.

Sources: Img-Diff paper §3 and §15.4; the strictness of every comparison follows the released code.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from imgdiff.core.errors import ConfigError
from imgdiff.core.geometry import Box, pairwise_iou, suppress
from imgdiff.synth.nouns import NounSide


@dataclass(kw_only=True, slots=True)
class Interval:
    """Accepted scores. `above`/`below` are strict, `at_least`/`at_most` are not; None is open."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def fault(self) -> str | None:
        """Why the interval makes no sense, or None."""
        ends = (self.above, self.at_least, self.below, self.at_most)
        if any(math.isnan(end) for end in ends if end is not None):
            return "an end is not a number; give one, or null for none"
        if self.above is not None and self.at_least is not None:
            return "gives both above and at_least; drop one"
        if self.below is not None and self.at_most is not None:
            return "gives both below and at_most; drop one"
        low = self.above if self.above is not None else self.at_least
        high = self.below if self.below is not None else self.at_most
        if low is None or high is None or low < high:
            return None
        strict = self.above is not None or self.below is not None
        return "accepts no score; raise its upper end" if low > high or strict else None

    def accepts(self, score: float) -> bool:
        """Whether the score lies in the interval."""
        return (
            (self.above is None or score > self.above)
            and (self.at_least is None or score >= self.at_least)
            and (self.below is None or score < self.below)
            and (self.at_most is None or score <= self.at_most)
        )

    def describe(self) -> str:
        """`> 0.9 and < 0.98`."""
        parts = (
            (">", self.above), (">=", self.at_least), ("<", self.below), ("<=", self.at_most),
        )  # fmt: skip
        return (
            " and ".join(f"{sign} {value}" for sign, value in parts if value is not None) or "any"
        )


class Combine(str, enum.Enum):
    """How the scores of the two sides make one decision."""

    either = "either"
    both = "both"


class Order(str, enum.Enum):
    """Which box wins when two overlap."""

    most_different = "most_different"  # ascending similarity of the two crops
    detector = "detector"  # as the segmenter listed them, left image first


class RegionsFrom(str, enum.Enum):
    """Where candidate boxes come from."""

    segmenter = "segmenter"  # learned: segment, match, compare
    truth = "truth"  # the generator's own record (composite without weights)


INTERVALS = (
    "image_similarity", "match", "crop_similarity", "content_similarity", "content_match",
)  # fmt: skip


@dataclass(kw_only=True, slots=True)
class RemovalRules:
    """The thresholds of object removal (paper §16; strictness as in the released code)."""

    crop_similarity: Interval = field(default_factory=lambda: Interval(below=0.9))
    max_iou: float = 0.5
    max_per_side: int | None = 3
    min_area: float = 0.0025  # of the box, as a fraction of the image
    max_area: float = 0.35
    max_same_kind: float = 0.1  # share of the box under others of its name, where on record
    max_mask: float = 0.9  # share of the image that the grown mask may cover
    min_change: float = 12.0  # mean grey levels within the mask; below it nobody would notice
    original_match: Interval = field(default_factory=lambda: Interval(at_least=0.35))
    inpainted_match: Interval = field(default_factory=lambda: Interval(at_most=0.2))
    match_margin_px: float = 0.0  # of the crops that are matched

    def __post_init__(self) -> None:
        for key in ("crop_similarity", "original_match", "inpainted_match"):
            interval: Interval = getattr(self, key)
            if fault := interval.fault():
                raise ConfigError(f"rules.removal.{key} ({interval.describe()}): {fault}")
        for key in ("max_iou", "max_mask", "max_same_kind"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"rules.removal.{key}={getattr(self, key)}: must lie in [0, 1]")
        if not 0.0 <= self.min_area <= self.max_area <= 1.0:
            raise ConfigError(
                f"rules.removal.min_area={self.min_area}, rules.removal.max_area={self.max_area}: "
                "need 0 <= min_area <= max_area <= 1 (fractions of the image)"
            )
        for key in ("min_change", "match_margin_px"):
            if not 0.0 <= getattr(self, key) < math.inf:
                raise ConfigError(
                    f"rules.removal.{key}={getattr(self, key)}: must be a number >= 0"
                )
        if self.max_per_side is not None and self.max_per_side < 1:
            raise ConfigError(
                f"rules.removal.max_per_side={self.max_per_side}: must be >= 1, or null for all"
            )


@dataclass(kw_only=True, slots=True)
class Rules:
    """Every threshold of the pipeline; a profile is one set of values."""

    image_similarity: Interval = field(default_factory=Interval)
    image_similarity_digits: int | None = None  # round the score first (released code: 3)
    regions_from: RegionsFrom = RegionsFrom.segmenter
    noun_side: NounSide = NounSide.correct
    match: Interval = field(default_factory=Interval)  # box against the changed nouns
    match_combine: Combine = Combine.either
    crop_similarity: Interval = field(default_factory=Interval)  # difference detector
    order: Order = Order.most_different
    max_iou: float = 0.5
    plus_one: bool = True  # inclusive-pixel IoU of the released code
    max_candidates: int | None = 10
    min_area: float = 0.0025  # fraction of the image
    max_area: float = 1.0
    max_regions: int | None = 5
    content_margin_px: float = 5.0  # crop used to check contents; also the drawn box
    content_similarity: Interval = field(default_factory=Interval)  # of the two descriptions
    content_match: Interval = field(default_factory=Interval)  # description against crop
    content_match_combine: Combine = Combine.both
    removal: RemovalRules = field(default_factory=RemovalRules)  # read where edit is not replace

    def __post_init__(self) -> None:
        for key in INTERVALS:
            interval: Interval = getattr(self, key)
            if fault := interval.fault():
                raise ConfigError(f"rules.{key} ({interval.describe()}): {fault}")
        if not 0.0 <= self.max_iou <= 1.0:
            raise ConfigError(f"rules.max_iou={self.max_iou}: must lie in [0, 1]")
        if not 0.0 <= self.min_area <= self.max_area <= 1.0:
            raise ConfigError(
                f"rules.min_area={self.min_area}, rules.max_area={self.max_area}: need "
                "0 <= min_area <= max_area <= 1 (fractions of the image)"
            )
        if not 0.0 <= self.content_margin_px < math.inf:
            raise ConfigError(
                f"rules.content_margin_px={self.content_margin_px}: must be a number >= 0 (pixels "
                "around the box)"
            )
        for key, value in (
            ("max_candidates", self.max_candidates),
            ("max_regions", self.max_regions),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"rules.{key}={value}: must be >= 1, or null for no limit")


def passes(interval: Interval, combine: Combine, left: float | None, right: float | None) -> bool:
    """Decide on two sides; a side without a score (no text to match) counts as a failure."""
    verdicts = [score is not None and interval.accepts(score) for score in (left, right)]
    return all(verdicts) if combine is Combine.both else any(verdicts)


def separate(boxes: Sequence[Box], similarity: Sequence[float], rules: Rules) -> list[int]:
    """Indices that survive IoU suppression, in the rules' order (stable on ties)."""
    if not boxes:
        return []
    order: Sequence[int] = range(len(boxes))
    if rules.order is Order.most_different:
        order = [int(i) for i in np.argsort(np.asarray(similarity), kind="stable")]
    corners: Float[np.ndarray, "N 4"] = np.array(
        [box.as_tuple() for box in boxes], dtype=np.float64
    )
    return suppress(pairwise_iou(corners, plus_one=rules.plus_one), order, rules.max_iou)


def area_verdict(box: Box, width: int, height: int, rules: Rules | RemovalRules) -> str | None:
    """None if the box's share of the image is accepted, else the reason."""
    share = box.area / (width * height)
    if share < rules.min_area:
        return "region too small"
    return "region too large" if share > rules.max_area else None

"""The decisions over all boxes of many pairs at once: what `regions.py` decides box by box.

Pure NumPy over stored scores, so that a sweep over thresholds is a look-up. Tensor suffixes: B
boxes of all pairs, one pair after the other; P pairs; S standing boxes; G pairs with M boxes each.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64

from imgdiff.core.store import unpacked
from imgdiff.core.tables import ABSENT
from imgdiff.synth.scores import SCORE_DIGITS
from imgdiff.synth.selection import Combine, Interval, Order, Rules
from imgdiff.synth.states import BOX_DIGITS

_BLOCK = 1 << 21  # overlaps in memory at once


class Fate(enum.IntEnum):
    """What became of a box, in the order of the stages; UNKNOWN where a score is missing."""

    STANDS = 0
    NO_PIXEL = 1
    CROPS_ALIKE = 2
    CROPS_DIFFERENT = 3
    NO_OBJECT = 4
    OVERLAPS = 5
    BEYOND_CANDIDATES = 6
    TOO_SMALL = 7
    TOO_LARGE = 8
    BEYOND_REGIONS = 9
    UNKNOWN = 10


# As `regions.py` words them: stage and reason.
REASONS = {
    Fate.NO_PIXEL: ("regions", "box without a pixel"),
    Fate.CROPS_ALIKE: ("difference", "crops too alike"),
    Fate.CROPS_DIFFERENT: ("difference", "crops too different"),
    Fate.NO_OBJECT: ("match", "no changed object in the box"),
    Fate.OVERLAPS: ("suppression", "overlaps a more different box"),
    Fate.BEYOND_CANDIDATES: ("top_n", "beyond the most different candidates"),
    Fate.TOO_SMALL: ("top_n", "region too small"),
    Fate.TOO_LARGE: ("top_n", "region too large"),
    Fate.BEYOND_REGIONS: ("top_n", "beyond the regions of a pair"),
}


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """Boxes of P pairs with their stored scores, in the store's whole units.

    `pair_B` rises. Scores are ABSENT where they were never computed.
    """

    pair_B: Int64[np.ndarray, " B"]
    corners_B4: Int32[np.ndarray, "B 4"]  # within the frame
    crop_B: Int32[np.ndarray, " B"]
    match_B2: Int32[np.ndarray, "B 2"]
    sizes_P2: Int64[np.ndarray, "P 2"]  # width and height

    def boxes_B4(
        self, places: Int64[np.ndarray, " _"] | slice = slice(None)
    ) -> Float64[np.ndarray, "_ 4"]:
        """Boxes in pixels: left, top, right, bottom."""
        return unpacked(self.corners_B4[places].ravel(), 4, BOX_DIGITS)

    def only(self, chosen_B: Bool[np.ndarray, " B"]) -> BoxColumns:
        """Some boxes, of pairs that keep their numbers."""
        return replace(
            self,
            pair_B=self.pair_B[chosen_B],
            corners_B4=self.corners_B4[chosen_B],
            crop_B=self.crop_B[chosen_B],
            match_B2=self.match_B2[chosen_B],
        )


def accepts(interval: Interval, scores_N: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """`Interval.accepts` of many scores; NaN is accepted by none."""
    fits: Bool[np.ndarray, " N"] = ~np.isnan(scores_N)
    for end, holds in (
        (interval.above, np.greater),
        (interval.at_least, np.greater_equal),
        (interval.below, np.less),
        (interval.at_most, np.less_equal),
    ):
        if end is not None:
            fits &= holds(scores_N, end)
    return fits


def fates(columns: BoxColumns, rules: Rules) -> Int8[np.ndarray, " B"]:
    """The `Fate` of every box under these rules, down to the regions that are described."""
    boxes_B4 = columns.boxes_B4()
    fate_B = np.full(len(boxes_B4), Fate.STANDS, dtype=np.int8)
    fate_B[~_with_pixels(boxes_B4)] = Fate.NO_PIXEL
    _judge_crops(fate_B, columns, rules)
    _judge_matches(fate_B, columns, rules)
    doubtful_P = np.zeros(len(columns.sizes_P2), dtype=bool)
    doubtful_P[columns.pair_B[fate_B == Fate.UNKNOWN]] = True
    standing_S = np.flatnonzero((fate_B == Fate.STANDS) & ~doubtful_P[columns.pair_B])
    _judge_overlaps(fate_B, standing_S, boxes_B4, columns, rules)
    return fate_B


def _with_pixels(boxes_B4: Float64[np.ndarray, "B 4"]) -> Bool[np.ndarray, " B"]:
    """`has_pixels` of boxes within the frame."""
    whole = boxes_B4.astype(np.int64)
    return (whole[:, 2] > whole[:, 0]) & (whole[:, 3] > whole[:, 1])


def _judge_crops(fate_B: Int8[np.ndarray, " B"], columns: BoxColumns, rules: Rules) -> None:
    open_B = fate_B == Fate.STANDS
    scores_B = unpacked(columns.crop_B, 1, SCORE_DIGITS)[:, 0]
    interval = rules.crop_similarity
    low = interval.above if interval.above is not None else interval.at_least
    different_B = scores_B <= (-np.inf if low is None else low)
    missed_B = open_B & ~accepts(interval, scores_B)
    fate_B[missed_B] = Fate.CROPS_ALIKE
    fate_B[missed_B & different_B] = Fate.CROPS_DIFFERENT
    fate_B[open_B & (columns.crop_B == ABSENT)] = Fate.UNKNOWN


def _judge_matches(fate_B: Int8[np.ndarray, " B"], columns: BoxColumns, rules: Rules) -> None:
    open_B = fate_B == Fate.STANDS
    scores_B2 = unpacked(columns.match_B2.ravel(), 2, SCORE_DIGITS)
    left_B, right_B = (accepts(rules.match, scores_B2[:, side]) for side in range(2))
    passed_B = left_B & right_B if rules.match_combine is Combine.both else left_B | right_B
    fate_B[open_B & ~passed_B] = Fate.NO_OBJECT
    fate_B[open_B & (columns.match_B2[:, 0] == ABSENT)] = Fate.UNKNOWN


def _judge_overlaps(
    fate_B: Int8[np.ndarray, " B"],
    standing_S: Int64[np.ndarray, " S"],
    boxes_B4: Float64[np.ndarray, "B 4"],
    columns: BoxColumns,
    rules: Rules,
) -> None:
    """Suppression, top N, area and the number of regions, pair by pair in the rules' order."""
    pair_S = columns.pair_B[standing_S]
    keys = [standing_S, pair_S]
    if rules.order is Order.most_different:
        keys.insert(1, columns.crop_B[standing_S])
    ranked_S = standing_S[np.lexsort(keys)]
    for rows_GM in _by_size(ranked_S, columns.pair_B[ranked_S]):
        there_GM = rows_GM >= 0
        boxes_GM4 = boxes_B4[np.maximum(rows_GM, 0)]
        kept_GM = _kept(boxes_GM4, there_GM, rules)
        fate_GM = np.where(kept_GM, Fate.STANDS, Fate.OVERLAPS).astype(np.int8)
        sizes_GM2 = columns.sizes_P2[columns.pair_B[np.maximum(rows_GM, 0)]]
        _judge_ranks(fate_GM, kept_GM, _shares(boxes_GM4, sizes_GM2), rules)
        fate_B[rows_GM[there_GM]] = fate_GM[there_GM]


def _by_size(
    ranked_S: Int64[np.ndarray, " S"], pair_S: Int64[np.ndarray, " S"]
) -> Iterator[Int64[np.ndarray, "G M"]]:
    """Rows of boxes for pairs of about equally many, -1 where a pair has fewer."""
    if not len(ranked_S):
        return
    starts = np.flatnonzero(np.r_[True, pair_S[1:] != pair_S[:-1]])
    counts = np.diff(np.r_[starts, len(pair_S)])
    widths = 1 << np.ceil(np.log2(counts)).astype(np.int64)
    for width in np.unique(widths):
        chosen = np.flatnonzero(widths == width)
        step = max(1, _BLOCK // int(width * width))
        for first in range(0, len(chosen), step):
            part = chosen[first : first + step]
            places = starts[part][:, None] + np.arange(width)
            there = np.arange(width) < counts[part][:, None]
            yield np.where(there, ranked_S[np.minimum(places, len(ranked_S) - 1)], -1)


def _kept(
    boxes_GM4: Float64[np.ndarray, "G M 4"], there_GM: Bool[np.ndarray, "G M"], rules: Rules
) -> Bool[np.ndarray, "G M"]:
    """`suppress` of every pair, boxes in order."""
    overlaps_GMM = _overlaps(boxes_GM4, plus_one=rules.plus_one) > rules.max_iou
    kept_GM: Bool[np.ndarray, "G M"] = there_GM.copy()
    for number in range(kept_GM.shape[1]):
        after = slice(number + 1, None)
        kept_GM[:, after] &= ~(kept_GM[:, number, None] & overlaps_GMM[:, number, after])
    return kept_GM


def _overlaps(
    boxes_GM4: Float64[np.ndarray, "G M 4"], *, plus_one: bool
) -> Float64[np.ndarray, "G M M"]:
    """`pairwise_iou` of every pair, operation by operation, so that ties fall the same way."""
    extra = 1.0 if plus_one else 0.0
    left, top, right, bottom = (boxes_GM4[..., k] for k in range(4))

    def outer(ufunc: np.ufunc, values: Any) -> Any:
        return ufunc(values[:, :, None], values[:, None, :])

    wide = outer(np.minimum, right) - outer(np.maximum, left) + extra
    high = outer(np.minimum, bottom) - outer(np.maximum, top) + extra
    shared = np.maximum(wide, 0.0) * np.maximum(high, 0.0)
    area = (right - left + extra) * (bottom - top + extra)
    total = outer(np.add, area) - shared
    iou: np.ndarray = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return iou


def _shares(
    boxes_GM4: Float64[np.ndarray, "G M 4"], sizes_GM2: Int64[np.ndarray, "G M 2"]
) -> Float64[np.ndarray, "G M"]:
    """Areas as shares of the image."""
    sides = np.maximum(boxes_GM4[..., 2:] - boxes_GM4[..., :2], 0.0)
    shares: np.ndarray = sides.prod(axis=-1) / sizes_GM2.prod(axis=-1)
    return shares


def _judge_ranks(
    fate_GM: Int8[np.ndarray, "G M"],
    kept_GM: Bool[np.ndarray, "G M"],
    share_GM: Float64[np.ndarray, "G M"],
    rules: Rules,
) -> None:
    rank_GM = np.cumsum(kept_GM, axis=1) - 1
    beyond_GM = np.zeros_like(kept_GM)
    if rules.max_candidates is not None:
        beyond_GM = kept_GM & (rank_GM >= rules.max_candidates)
    small_GM = kept_GM & ~beyond_GM & (share_GM < rules.min_area)
    large_GM = kept_GM & ~beyond_GM & ~small_GM & (share_GM > rules.max_area)
    fitting_GM = kept_GM & ~beyond_GM & ~small_GM & ~large_GM
    fate_GM[beyond_GM] = Fate.BEYOND_CANDIDATES
    fate_GM[small_GM] = Fate.TOO_SMALL
    fate_GM[large_GM] = Fate.TOO_LARGE
    if rules.max_regions is not None:
        over_GM = np.cumsum(fitting_GM, axis=1) > rules.max_regions
        fate_GM[fitting_GM & over_GM] = Fate.BEYOND_REGIONS

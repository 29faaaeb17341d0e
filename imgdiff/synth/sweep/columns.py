"""What the store knows of all boxes of some items, as columns. No model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64

from imgdiff.core.records import Side
from imgdiff.core.tables import ABSENT
from imgdiff.synth.decide import BoxColumns
from imgdiff.synth.nouns import words_to_match
from imgdiff.synth.regions import match_key
from imgdiff.synth.scores import SCORE_DIGITS
from imgdiff.synth.states import BOX_DIGITS, ItemState, proposals_key
from imgdiff.synth.tools import Tools

Units = Int32[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True)
class Known:
    """Items with the columns of their boxes.

    `first_P` is where a pair's boxes begin, one more than pairs. `whole_P`: the segments of both
    images are known (else the pair has no boxes here).
    """

    states: Sequence[ItemState]
    columns: BoxColumns
    first_P: Int64[np.ndarray, " _"]
    whole_P: Bool[np.ndarray, " P"]


@dataclass(frozen=True, slots=True)
class _Boxes:
    """What is known of one pair's boxes, in the store's units."""

    corners: Units
    crops: Units
    matches: Units
    whole: bool


_UNKNOWN = _Boxes(*(np.zeros(0, dtype=np.int32),) * 3, whole=False)


def known_boxes(shards: Sequence[tuple[Sequence[ItemState], Tools]]) -> Known:
    """Columns of items that have images and nouns, shard by shard."""
    states = [state for items, _ in shards for state in items]
    pairs = [boxes for items, tools in shards for boxes in _of_shard(items, tools)]
    counts = np.array([len(boxes.crops) for boxes in pairs], dtype=np.int64)
    empty = np.zeros(0, dtype=np.int32)
    columns = BoxColumns(
        pair_B=np.repeat(np.arange(len(pairs)), counts),
        corners_B4=np.concatenate([empty, *(b.corners for b in pairs)]).reshape(-1, 4),
        crop_B=np.concatenate([empty, *(b.crops for b in pairs)]),
        match_B2=np.concatenate([empty, *(b.matches for b in pairs)]).reshape(-1, 2),
        sizes_P2=np.array([_size(state) for state in states], dtype=np.int64).reshape(-1, 2),
    )
    return Known(
        states=states,
        columns=columns,
        first_P=np.r_[0, np.cumsum(counts)],
        whole_P=np.array([boxes.whole for boxes in pairs], dtype=bool),
    )


def _size(state: ItemState) -> tuple[int, int]:
    assert state.images is not None
    return state.images.width, state.images.height


def _of_shard(states: Sequence[ItemState], tools: Tools) -> list[_Boxes]:
    images = [state.images for state in states if state.images is not None]
    ids = [image for pair in images for image in (pair.left_id, pair.right_id)]
    found = tools.known_units("segment", "segmenter", ids, BOX_DIGITS)
    segments = [_within(state, *found[2 * n : 2 * n + 2]) for n, state in enumerate(states)]
    keys = [
        proposals_key(pair, corners) if corners is not None else ""
        for pair, corners in zip(images, segments, strict=True)
    ]
    crops = tools.known_units("crop_similarity", "embedder", keys, SCORE_DIGITS)
    match_keys = [_match_key(state, key, tools) for state, key in zip(states, keys, strict=True)]
    matches = tools.known_units("match", "matcher", match_keys, SCORE_DIGITS)
    return [
        _boxes(corners, crop, match)
        for corners, crop, match in zip(segments, crops, matches, strict=True)
    ]


def _within(state: ItemState, left: Units | None, right: Units | None) -> Units | None:
    """The corners of both images' boxes within the frame, flat."""
    if left is None or right is None:
        return None
    width, height = _size(state)
    ends = np.array([width, height, width, height], dtype=np.int64) * 10**BOX_DIGITS
    corners = np.clip(np.concatenate([left, right]).reshape(-1, 4), 0, ends)
    flat: Units = corners.astype(np.int32).ravel()
    return flat


def _match_key(state: ItemState, key: str, tools: Tools) -> str:
    nouns, side = state.nouns, tools.config.rules.noun_side
    assert nouns is not None
    return match_key(key, tuple(words_to_match(nouns, side, image) for image in Side))


def _boxes(corners: Units | None, crops: Units | None, matches: Units | None) -> _Boxes:
    if corners is None:
        return _UNKNOWN
    count = len(corners) // 4
    absent = np.full(count, ABSENT, dtype=np.int32)
    return _Boxes(
        corners=corners,
        crops=absent if crops is None else crops,
        matches=np.repeat(absent, 2) if matches is None else matches,
        whole=True,
    )

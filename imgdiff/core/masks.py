"""Masks as run lengths: small in the store and in Parquet, readable by COCO's tools.

Runs go down the columns and begin with a run of zeros (perhaps of length 0), as COCO's
uncompressed RLE; `mask_text` is its JSON form.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from imgdiff.core.errors import DataError

Mask = Bool[np.ndarray, "H W"]  # of one image
AnyMask = Bool[np.ndarray, "_ _"]  # of a list: each image has its own size
Runs = list[int]


def runs_of(mask_HW: Mask) -> Runs:
    """Run lengths of a mask; they add up to its number of pixels."""
    flat = mask_HW.T.ravel()
    if not flat.size:
        return [0]
    turns = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else [*lengths]


def mask_of(runs: Sequence[int], width: int, height: int) -> Mask:
    """The mask of these runs; DataError where they do not add up to width x height."""
    lengths = np.asarray(runs, dtype=np.int64)
    if (lengths < 0).any() or int(lengths.sum()) != width * height:
        raise DataError(
            f"mask runs add up to {int(lengths.sum())} pixels, not {width}x{height}; compute the "
            "mask anew"
        )
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape(width, height).T)


def marked(runs: Sequence[int]) -> int:
    """How many pixels the mask marks."""
    return int(sum(runs[1::2]))


def mask_text(runs: Sequence[int], width: int, height: int) -> str:
    """COCO's uncompressed RLE: `{"size": [height, width], "counts": [...]}`."""
    return json.dumps({"size": [height, width], "counts": list(runs)}, separators=(",", ":"))

"""The image size of each pair, at 16 bytes a pair, for the boxes that lie in other files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from imgdiff.core.errors import DataError
from imgdiff.synth.stats.reading import Batch
from imgdiff.synth.stats.tally import hashes


class Frames:
    """Sizes by pair id. All are added before the first is asked for."""

    def __init__(self) -> None:
        self._keys = [np.zeros(0, dtype=np.uint64)]
        self._sizes = [np.zeros((0, 2), dtype=np.int32)]

    def add(self, pairs: Batch) -> None:
        """The pairs of a batch (columns id, width and height) that have images."""
        sizes = np.stack([pairs.numbers("width"), pairs.numbers("height")], axis=1)
        known = ~np.isnan(sizes).any(axis=1)
        self._keys.append(hashes(pairs.values("id", known)))
        self._sizes.append(sizes[known].astype(np.int32))

    def of(
        self, ids: Sequence[str | None], codes_N: Int64[np.ndarray, " N"]
    ) -> Float64[np.ndarray, "N 2"]:
        """(width, height) in pixels of `ids[codes_N[k]]`; DataError for a pair without a size."""
        if not codes_N.size:
            return np.zeros((0, 2))
        used = np.unique(codes_N)
        if used[0] < 0:
            raise DataError("a box has no pair_id. Make the run again.")
        sizes: Float64[np.ndarray, "K 2"] = np.zeros((len(ids), 2))
        sizes[used] = self._look_up([str(ids[code]) for code in used])
        found: Float64[np.ndarray, "N 2"] = sizes[codes_N]
        return found

    def _look_up(self, ids: Sequence[str]) -> Float64[np.ndarray, "N 2"]:
        keys, sizes = self._sorted()
        wanted = hashes(ids)
        places = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
        lost = np.ones(len(ids), dtype=bool) if not len(keys) else keys[places] != wanted
        if lost.any():
            name = ids[int(np.flatnonzero(lost)[0])]
            raise DataError(
                f"a box is of the pair {name!r}, which has no image size in pairs.parquet. Copy "
                "all files of one run, or make it again."
            )
        if not (found := sizes[places].astype(np.float64)).all():
            raise DataError("pairs.parquet: an image has no pixel. Make the run again.")
        return found

    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        if len(self._keys) > 1:
            keys, sizes = np.concatenate(self._keys), np.concatenate(self._sizes)
            order = np.argsort(keys, kind="stable")
            self._keys, self._sizes = [keys[order]], [sizes[order]]
        return self._keys[0], self._sizes[0]

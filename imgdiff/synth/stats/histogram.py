"""Numbers counted into bins as they stream by, and the bars that a chart shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

_SNAP = 1e-6  # of a bin: a number this close below an edge lies on it
_MERGED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # fine bins in one bar
_LEAST = 12  # bars, or one value alone would fill the chart


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Equal bins from `low` to `high`: of the numbers, or of their logarithm to `base`."""

    low: float
    high: float
    bins: int
    base: float | None = None

    @property
    def width(self) -> float:
        """Of one bin."""
        return (self.high - self.low) / self.bins

    def place(self, number: float) -> float:
        """Where a number lies on the axis."""
        return math.log(number, self.base) if self.base is not None else number


SCORES = Axis(low=-1.0, high=1.0, bins=2000)  # cosines and probabilities
AREAS = Axis(low=-5.0, high=0.0, bins=50, base=10.0)  # shares of the image
ASPECTS = Axis(low=-4.0, high=4.0, bins=32, base=2.0)  # width over height
WORDS = Axis(low=-0.5, high=511.5, bins=512)


class Histogram:
    """Counts in the bins of an axis, and of what lies beyond its ends or is no number."""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.counts: Int64[np.ndarray, " B"] = np.zeros(axis.bins, dtype=np.int64)
        self.below = 0
        self.above = 0

    def add(self, numbers: Float64[np.ndarray, " N"]) -> None:
        """Count them; NaN is not counted. The last bin holds its upper end."""
        axis = self.axis
        known = numbers[~np.isnan(numbers)]
        if axis.base is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                known = np.log(known) / math.log(axis.base)
        bins_N = np.floor((known - axis.low) / axis.width + _SNAP)
        below, above = bins_N < 0, known > axis.high + _SNAP * axis.width
        self.below += int(below.sum())
        self.above += int(above.sum())
        inside = np.minimum(bins_N[~below & ~above], axis.bins - 1).astype(np.int64)
        self.counts += np.bincount(inside, minlength=axis.bins)

    @property
    def total(self) -> int:
        """All numbers that were counted."""
        return int(self.counts.sum()) + self.below + self.above


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """What a chart shows: `counts[k]` numbers lie between `edges[k]` and `edges[k + 1]`.

    Edges are places on the axis, so logarithms where it has a base. `total` includes what lies
    beyond the ends.
    """

    axis: Axis
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int
    total: int


def bars_of(
    histograms: Sequence[Histogram], most: int = 40, also: Sequence[float] = ()
) -> list[Bars]:
    """The same bars for each, at most `most` (and two): where counts are, and places `also`.

    Bins are merged by a round number of them. Empty where nothing was counted.
    """
    axis = histograms[0].axis
    filled = np.flatnonzero(sum(held.counts for held in histograms))
    if not filled.size:
        return []
    marks = [int((place - axis.low) / axis.width) for place in also]
    marks = [*(min(max(mark, 0), axis.bins - 1) for mark in marks), int(filled[0]), int(filled[-1])]
    first, end = min(marks), max(marks) + 1
    merged = next(size for size in _MERGED if end - first <= most * size or size == _MERGED[-1])
    spare = max(0, _LEAST * merged - (end - first))
    first, end = max(0, first - spare // 2), min(axis.bins, end + (spare + 1) // 2)
    first, end = first // merged * merged, min(axis.bins, -(-end // merged) * merged)
    starts = np.arange(first, end, merged)
    edges = [axis.low + axis.width * place for place in (*starts, end)]
    return [
        Bars(
            axis=axis,
            edges=tuple(round(float(edge), 9) for edge in edges),
            counts=tuple(int(n) for n in np.add.reduceat(held.counts[:end], starts)),
            below=held.below,
            above=held.above,
            total=held.total,
        )
        for held in histograms
    ]


@dataclass(slots=True)
class Grid:
    """How many points lie in each cell of the unit square; rows from the top."""

    cells: int = 20
    counts: Int64[np.ndarray, "C C"] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((self.cells, self.cells), dtype=np.int64)

    def add(self, across: Float64[np.ndarray, " N"], down: Float64[np.ndarray, " N"]) -> None:
        """Count points, given as shares of width and height; those outside go to the nearest."""
        known = ~(np.isnan(across) | np.isnan(down))
        column, row = (
            np.clip(np.floor(shares[known] * self.cells + _SNAP), 0, self.cells - 1).astype(
                np.int64
            )
            for shares in (across, down)
        )
        flat = np.bincount(row * self.cells + column, minlength=self.cells**2)
        self.counts += flat.reshape(self.cells, self.cells)

"""In which order the samples of a run are shown, before they are grouped into micro-batches.

`concat`, as LLaVA and InternVL: all rows of all sources times their repeats, shuffled as one, anew
each epoch. By weights: evenly interleaved in fixed shares; each source runs through its own
permutations. All randomness comes from `default_rng([seed, source, epoch])`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from imgdiff.core.errors import DataError
from imgdiff.train.source_config import passes
from imgdiff.train.table import Table

Rows = Int64[np.ndarray, " _"]  # numbers of rows of the table


def rows_per_epoch(table: Table, excluded: Rows) -> list[Rows]:
    """Each source's rows of one epoch, in file order: whole passes, then the first fraction.

    `excluded` rows are left out before repeats are counted. A source without rows left raises
    DataError.
    """
    kept = np.ones(len(table), dtype=bool)
    kept[excluded] = False
    epochs = []
    for source in table.sources:
        rows = source.start + np.flatnonzero(kept[source.start : source.start + source.rows])
        whole, first = passes(len(rows), source.repeat) if len(rows) else (0, 0)
        if not whole and not first:
            raise DataError(
                f"{source.file}: repeat={source.repeat} of {len(rows)} usable rows leaves no "
                "sample. Raise repeat or remove the source."
            )
        epochs.append(np.concatenate([np.tile(rows, whole), rows[:first]]))
    return epochs


def concatenated(epochs: Sequence[Rows], seed: int, epoch: int) -> Rows:
    """One epoch of all sources in one uniform shuffle."""
    rows = np.concatenate(epochs)
    return rows[np.random.default_rng([seed, 0, epoch]).permutation(len(rows))]


def weighted(epochs: Sequence[Rows], weights: Sequence[float], places: int, seed: int) -> Rows:
    """The rows of `places` places in which every stretch from the start has the right shares."""
    sources = interleaved(weights, places)
    order = np.empty(places, dtype=np.int64)
    for source, rows in enumerate(epochs):
        mine = np.flatnonzero(sources == source)
        order[mine] = rows[endless(len(rows), len(mine), seed, source)]
    return order


def interleaved(weights: Sequence[float], places: int) -> Int64[np.ndarray, " P"]:
    """Which source fills each place.

    The last source fills round(share * n) of the first n places; the one before it the same part
    of what is left, and so on. So in every prefix a count is off by less than one with two sources
    and by less than K / 2 with K.
    """
    sources = np.zeros(places, dtype=np.int64)
    free = np.arange(places)
    total = float(sum(weights))
    for source in range(len(weights) - 1, 0, -1):
        filled = np.floor(weights[source] / total * np.arange(len(free) + 1) + 0.5)
        mine = np.diff(filled) > 0
        sources[free[mine]] = source
        free = free[~mine]
        total -= weights[source]
    return sources


def endless(size: int, count: int, seed: int, source: int) -> Int64[np.ndarray, " C"]:
    """`count` indices below `size`: one permutation after another, one per epoch."""
    epochs = -(-count // size)
    orders = [
        np.random.default_rng([seed, source, epoch]).permutation(size) for epoch in range(epochs)
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *orders])[:count]

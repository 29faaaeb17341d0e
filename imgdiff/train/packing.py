"""Laying the samples of a micro-batch end to end in few rows of near-equal length."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from imgdiff.core.errors import ConfigError


def rows_of(lengths: Sequence[int], max_row_tokens: int) -> list[list[int]]:
    """Which samples share a row: the fewest rows found in which no row exceeds `max_row_tokens`.

    Longest first, each into the emptiest row (LPT, Graham 1969), with one row more until all fit;
    inside a row samples keep their order. A sample longer than a row raises ConfigError.
    """
    if not lengths:
        return []
    if max(lengths) > max_row_tokens:
        raise ConfigError(
            f"max_row_tokens={max_row_tokens}: a sample has {max(lengths)} tokens. Set it to at "
            "least max_tokens."
        )
    count = -(-sum(lengths) // max_row_tokens)
    while True:
        rows = _dealt(lengths, count)
        if max(sum(lengths[index] for index in row) for row in rows) <= max_row_tokens:
            return rows
        count += 1


def _dealt(lengths: Sequence[int], count: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, number) for number in range(count)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        total, number = heapq.heappop(heap)
        rows[number].append(index)
        heapq.heappush(heap, (total + lengths[index], number))
    return sorted(sorted(row) for row in rows if row)


def packed_share(lengths: Sequence[int], max_row_tokens: int) -> float:
    """Useful tokens over all tokens of the rows of one micro-batch (all as long as the longest)."""
    rows = rows_of(lengths, max_row_tokens)
    longest = max(sum(lengths[index] for index in row) for row in rows)
    return sum(lengths) / (longest * len(rows))

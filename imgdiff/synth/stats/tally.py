"""Counting texts exactly in little memory: 16 bytes for each distinct one, however long it is.

A text is known by 64 bits of its BLAKE2 hash; among ten million texts two share one with a chance
of 1 in 370,000. The texts themselves are fetched by a second reading, for the few that are shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt64

_WAITING = 65_536  # hashes that are sorted in at once, at least


def hashes(texts: Sequence[str]) -> UInt64[np.ndarray, " N"]:
    """64 bits of each text, equal in every process."""
    joined = b"".join(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for text in texts
    )
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeated:
    """How texts repeat: all, the distinct ones, those that occur again, the most for one text."""

    total: int
    distinct: int
    repeated: int  # distinct texts that occur more than once
    most: int

    @property
    def spare(self) -> int:
        """How many would go if each text were kept once."""
        return self.total - self.distinct


class Tally:
    """Counts of texts by their hash."""

    def __init__(self) -> None:
        self._keys: UInt64[np.ndarray, " K"] = np.zeros(0, dtype=np.uint64)
        self._counts: Int64[np.ndarray, " K"] = np.zeros(0, dtype=np.int64)
        self._waiting: list[UInt64[np.ndarray, " N"]] = []
        self._waits = 0

    def add(self, texts: Sequence[str]) -> None:
        """Count each of them."""
        self._waiting.append(hashes(texts))
        self._waits += len(texts)
        if self._waits > max(_WAITING, len(self._keys)):
            self._sort_in()

    def _sort_in(self) -> None:
        fresh = [np.ones(len(keys), dtype=np.int64) for keys in self._waiting]
        keys, place = np.unique(np.concatenate([self._keys, *self._waiting]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self._counts, *fresh]))
        self._keys, self._counts, self._waiting, self._waits = keys, counts, [], 0

    def repeated(self) -> Repeated:
        """The figures."""
        self._sort_in()
        return Repeated(
            total=int(self._counts.sum()),
            distinct=len(self._keys),
            repeated=int((self._counts > 1).sum()),
            most=int(self._counts.max(initial=0)),
        )

    def top(self, number: int, least: int = 1) -> dict[int, int]:
        """Hash and count of the most frequent texts that occur `least` times, most first."""
        self._sort_in()
        order = np.lexsort((self._keys, -self._counts))[:number]
        return {int(self._keys[k]): int(self._counts[k]) for k in order if self._counts[k] >= least}

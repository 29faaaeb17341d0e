"""How an image looks, in 64 bits, and which images look most alike. Pure numpy, no model.

The hash is the usual perceptual one (pHash): the signs, about their median, of the 8 x 8 lowest
cosine coefficients of the grey image at 32 x 32. Scaling, compression and noise move few bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, UInt64
from PIL import Image

BITS = 64
SIDE = 32  # pixels of the grey image
LOWEST = 8  # frequencies each way
UNRELATED = 32  # bits that differ on average between pictures of different things
FARTHEST = 11  # bits; among many images, what is further apart is not searched
_FEW = 2048  # images of which all pairs are compared
_PART_BITS = 16
_PARTS = BITS // _PART_BITS
_DIGITS = 6  # of a coefficient: a flat image must not be told by its float noise
_AT_ONCE = 1 << 20  # pairs that are compared at once
_POOL = 4096  # nearest pairs that are remembered while searching
_ONES = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """Two images by their places, and how many of the 64 bits differ."""

    first: int
    second: int
    bits: int


def _cosines() -> Float64[np.ndarray, "8 32"]:
    """Rows of the orthogonal DCT-II, up to a factor."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    return np.cos(np.pi * np.outer(np.arange(LOWEST), places))


def look_of(image: Image.Image) -> str:
    """The hash of an image as 16 hex digits."""
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    cosines = _cosines()
    lowest = (cosines @ np.asarray(grey, dtype=np.float64) @ cosines.T).round(_DIGITS)
    return np.packbits(lowest > np.median(lowest)).tobytes().hex()


def hash_of(look: str) -> int:
    """The number that a hash is; ValueError for what is none."""
    if len(look) != BITS // 4:
        raise ValueError(f"{look!r} is no hash of {BITS} bits")
    return int(look, 16)


def distances(
    first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " N"]
) -> Int64[np.ndarray, " N"]:
    """In how many bits the hashes differ."""
    odd = np.ascontiguousarray(first ^ second).view(np.uint8).reshape(-1, 8)
    bits: Int64[np.ndarray, " N"] = _ONES[odd].sum(axis=1, dtype=np.int64)
    return bits


def most_alike(hashes: UInt64[np.ndarray, " N"], number: int) -> list[Alike]:
    """The `number` nearest pairs, nearest first, each image in one at most.

    Of many images only pairs within FARTHEST bits are found, but those all, without a table of
    all pairs: of the four parts of two such hashes one differs in 2 bits at most (within 7 bits in
    1, within 3 bits in none).
    """
    hashes_K, firsts_K, counts_K = np.unique(hashes, return_index=True, return_counts=True)
    found = _equal(hashes, hashes_K[counts_K > 1], number)
    few = len(hashes_K) <= _FEW
    for wrong in (None,) if few else (0, 1, 2):
        if len(found) < number:
            taken = {place for pair in found for place in (pair.first, pair.second)}
            rest = np.array([place not in taken for place in firsts_K.tolist()], dtype=bool)
            near = _near(hashes_K[rest], firsts_K[rest], wrong, number - len(found))
            found = sorted([*found, *near], key=_order)
    return found[:number]


def _order(pair: Alike) -> tuple[int, int, int]:
    return pair.bits, pair.first, pair.second


def _flips(wrong: int) -> list[int]:
    """All patterns of at most this many bits of a part."""
    bits = [1 << bit for bit in range(_PART_BITS)]
    chosen = (itertools.combinations(bits, many) for many in range(wrong + 1))
    return [sum(pattern) for pattern in itertools.chain.from_iterable(chosen)]


def _equal(
    hashes: UInt64[np.ndarray, " N"], repeated: UInt64[np.ndarray, " R"], number: int
) -> list[Alike]:
    """The first two images of each hash that occurs again."""
    pairs = []
    for value in repeated:
        first, second = np.flatnonzero(hashes == value)[:2].tolist()
        pairs.append(Alike(first=first, second=second, bits=0))
        if len(pairs) == number:
            break
    return sorted(pairs, key=_order)


def _near(
    hashes: UInt64[np.ndarray, " K"],
    places: Int64[np.ndarray, " K"],
    wrong: int | None,
    number: int,
) -> list[Alike]:
    """The nearest pairs of distinct hashes, as places of their images.

    `wrong` bits of one of the parts may differ; None: all pairs are compared.
    """
    farthest = BITS if wrong is None else _PARTS * (wrong + 1) - 1
    pool: set[tuple[int, int, int]] = set()
    for left, right in _all(len(hashes)) if wrong is None else _candidates(hashes, _flips(wrong)):
        bits = distances(hashes[left], hashes[right])
        near = np.flatnonzero((bits <= farthest) & (left < right))
        near = near[np.argsort(bits[near], kind="stable")[:_POOL]]
        if not near.size:
            continue
        ends = np.sort(np.stack([places[left[near]], places[right[near]]], axis=1), axis=1)
        rows = zip(bits[near].tolist(), *ends.T.tolist(), strict=True)
        pool = set(sorted(pool.union(rows))[:_POOL])
        chosen = _apart(pool)
        if len(chosen) >= number and chosen[number - 1].bits == 1:
            break  # distinct hashes cannot be nearer
    return _apart(pool)[:number]


def _apart(pool: set[tuple[int, int, int]]) -> list[Alike]:
    """The nearest pairs in which no image occurs twice."""
    seen: set[int] = set()
    chosen = []
    for bits, first, second in sorted(pool):
        if not seen & {first, second}:
            seen |= {first, second}
            chosen.append(Alike(first=first, second=second, bits=bits))
    return chosen


def _all(number: int) -> Iterator[tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " C"]]]:
    left, right = np.triu_indices(number, 1)
    yield left, right


def _candidates(
    hashes: UInt64[np.ndarray, " K"], flips: Sequence[int]
) -> Iterator[tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " C"]]]:
    """Pairs of hashes of which one part is equal but for the bits of a flip."""
    for shift in range(0, BITS, _PART_BITS):
        part = ((hashes >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(part, kind="stable")
        sizes = np.bincount(part, minlength=1 << _PART_BITS)
        starts = np.cumsum(sizes) - sizes
        for flip in flips:
            yield from _expanded(order, starts[part ^ flip], sizes[part ^ flip])


def _expanded(
    order: Int64[np.ndarray, " K"], low: Int64[np.ndarray, " K"], size: Int64[np.ndarray, " K"]
) -> Iterator[tuple[Int64[np.ndarray, " C"], Int64[np.ndarray, " C"]]]:
    """Each place with the `size` places from `low` on in `order`, some at once."""
    ends = np.cumsum(size)
    start = 0
    while start < len(size):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        of = size[start:stop]
        left = np.repeat(np.arange(start, stop), of)
        within = np.arange(int(of.sum())) - np.repeat(np.cumsum(of) - of, of)
        yield left, order[np.repeat(low[start:stop], of) + within]
        start = stop

"""Scores that several stages ask for: cosines of image pairs and matches of crops with texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64
from PIL import Image

from imgdiff.core.geometry import Box, crop
from imgdiff.core.records import ImagePair
from imgdiff.core.store import Entries
from imgdiff.synth.chunks import chunks_ahead, opened
from imgdiff.synth.selection import Interval
from imgdiff.synth.tools import Tools

SCORE_DIGITS = 6  # float noise is not information
T = TypeVar("T")
Asked = tuple[
    ImagePair, Box, tuple[str, ...], tuple[str, ...]
]  # pair, box, left texts, right texts


@dataclass(kw_only=True, slots=True)
class BoxAsk:
    """One box of the `of` boxes whose scores lie in one array."""

    key: str
    number: int
    of: int
    item: Any


def box_scores(
    tools: Tools,
    kind: str,
    role: str,
    asked: Sequence[BoxAsk],
    compute: Callable[[Sequence[tuple[Any, int]]], Sequence[Any]],
    *,
    width: int,
) -> list[Float64[np.ndarray, " _"]]:
    """A row of `width` scores for each box (NaN: none); `compute` gets (item, number) of each."""
    arrays: dict[str, Entries] = {}
    for box in asked:
        empty = Entries(key=box.key, length=box.of, indices=[], item=box.item)
        arrays.setdefault(box.key, empty).indices.append(box.number)
    found = tools.entries(
        kind, role, list(arrays.values()), compute, width=width, digits=SCORE_DIGITS
    )
    rows = dict(zip(arrays, found, strict=True))
    return [rows[box.key][box.number] for box in asked]


def missed_end(interval: Interval, score: float, what: str) -> str:
    """`images too alike` or `images too different`, by the end of the interval that was missed."""
    low = interval.above if interval.above is not None else interval.at_least
    return f"{what} too {'different' if low is not None and score <= low else 'alike'}"


def cosines(
    items: Sequence[T],
    open_images: Callable[[Sequence[T]], Sequence[tuple[Image.Image, Image.Image]]],
    tools: Tools,
) -> list[float]:
    """CLIP cosine of the two images of each item, at SCORE_DIGITS decimals."""
    scores: list[float] = []
    embedder = tools.backends.embedder
    for _, pairs in chunks_ahead(items, open_images):
        rows = embedder.embed_images([image for pair in pairs for image in pair])
        scores += [round(float(v), SCORE_DIGITS) for v in (rows[0::2] * rows[1::2]).sum(axis=1)]
    return scores


def crops_of(
    items: Sequence[tuple[ImagePair, Box]], tools: Tools, margin: float = 0.0
) -> list[tuple[Image.Image, Image.Image]]:
    """Both crops of each box; each pair is opened once per run of equal pairs."""

    def cut(run: Sequence[tuple[ImagePair, Box]]) -> list[tuple[Image.Image, Image.Image]]:
        left, right = tools.open_pair(run[0][0])
        grown = [box.grown(margin) for _, box in run]
        return [(crop(left, box), crop(right, box)) for box in grown]

    runs = [list(run) for _, run in groupby(items, key=lambda item: item[0].id)]
    return [crops for run in opened(runs, cut) for crops in run]


def matches(
    tools: Tools, margin: float
) -> Callable[[Sequence[Asked]], list[list[dict[str, float]]]]:
    """For each (pair, box, left texts, right texts): {text: score} per side."""

    def crops_in(part: Sequence[Asked]) -> list[tuple[Image.Image, Image.Image]]:
        return crops_of([(pair, box) for pair, box, _, _ in part], tools, margin)

    def compute(items: Sequence[Asked]) -> list[list[dict[str, float]]]:
        rows: list[list[dict[str, float]]] = []
        matcher = tools.backends.matcher
        for part, crops in chunks_ahead(items, crops_in):
            images = [image for both in crops for image in both]
            texts = [side for _, _, left, right in part for side in (left, right)]
            scores = matcher.match(images, texts)
            named = [
                {
                    text: round(float(score), SCORE_DIGITS)
                    for text, score in zip(own, row, strict=True)
                }
                for own, row in zip(texts, scores, strict=True)
            ]
            rows += [[named[2 * i], named[2 * i + 1]] for i in range(len(part))]
        return rows

    return compute

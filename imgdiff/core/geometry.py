"""Boxes in one frame: xyxy pixels, right and bottom exclusive, origin top left."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from imgdiff.core.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """An axis-aligned box in pixels (xyxy, right and bottom exclusive; fractions allowed)."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in self.as_tuple()):
            raise DataError(f"box {self.as_tuple()} has a coordinate that is not finite")

    def as_tuple(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom)."""
        return (self.left, self.top, self.right, self.bottom)

    @property
    def width(self) -> float:
        """Width in pixels, never negative."""
        return max(0.0, self.right - self.left)

    @property
    def height(self) -> float:
        """Height in pixels, never negative."""
        return max(0.0, self.bottom - self.top)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def clipped_to(self, width: float, height: float) -> Box:
        """The part inside an image of this size; may be empty (area 0)."""
        return Box(
            left=min(max(self.left, 0.0), width),
            top=min(max(self.top, 0.0), height),
            right=min(max(self.right, 0.0), width),
            bottom=min(max(self.bottom, 0.0), height),
        )

    def grown(self, margin: float) -> Box:
        """The box with `margin` pixels added on every side (negative shrinks)."""
        return Box(
            left=self.left - margin,
            top=self.top - margin,
            right=self.right + margin,
            bottom=self.bottom + margin,
        )

    def moved(self, right: float, down: float) -> Box:
        """The box shifted by so many pixels."""
        return Box(
            left=self.left + right,
            top=self.top + down,
            right=self.right + right,
            bottom=self.bottom + down,
        )

    def union(self, other: Box) -> Box:
        """The smallest box that holds both."""
        return Box(
            left=min(self.left, other.left),
            top=min(self.top, other.top),
            right=max(self.right, other.right),
            bottom=max(self.bottom, other.bottom),
        )

    def iou(self, other: Box) -> float:
        """Intersection over union in [0, 1]; 0 when both are empty."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(0.0, wide) * max(0.0, high)
        total = self.area + other.area - shared
        return shared / total if total > 0 else 0.0

    def rounded(self, digits: int = 1) -> Box:
        """Coordinates rounded as the released pipeline stores them (one decimal)."""
        left, top, right, bottom = (round(float(value), digits) for value in self.as_tuple())
        return Box(left=left, top=top, right=right, bottom=bottom)


def box_from(values: Iterable[float]) -> Box:
    """A Box from four numbers xyxy (a row of an array too)."""
    left, top, right, bottom = (float(value) for value in values)
    return Box(left=left, top=top, right=right, bottom=bottom)


def crop(image: Image.Image, box: Box) -> Image.Image:
    """Pixels of `box` by integer truncation, clipped to the image. An empty crop raises DataError.

    Truncation (not rounding) of xyxy follows the released pipeline (generate_bbox.py).
    """
    left, top, right, bottom = (
        int(v) for v in box.clipped_to(image.width, image.height).as_tuple()
    )
    if right <= left or bottom <= top:
        raise DataError(
            f"box {box.as_tuple()} has no pixel inside an image of {image.width}x{image.height}"
        )
    return image.crop((left, top, right, bottom))


def has_pixels(box: Box, width: int, height: int) -> bool:
    """Whether `crop` would return at least one pixel."""
    left, top, right, bottom = (int(v) for v in box.clipped_to(width, height).as_tuple())
    return right > left and bottom > top


def pairwise_iou(
    boxes_N4: Float[np.ndarray, "N 4"], *, plus_one: bool = False
) -> Float[np.ndarray, "N N"]:
    """IoU of every pair of xyxy boxes.

    `plus_one` measures widths as right-left+1, the inclusive-pixel convention of the released
    pipeline; it matters only for tiny boxes.
    """
    extra = 1.0 if plus_one else 0.0
    left, top, right, bottom = (boxes_N4[:, k] for k in range(4))
    wide = np.minimum.outer(right, right) - np.maximum.outer(left, left) + extra
    high = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top) + extra
    shared = np.maximum(wide, 0.0) * np.maximum(high, 0.0)
    area = (right - left + extra) * (bottom - top + extra)
    total = np.add.outer(area, area) - shared
    iou: np.ndarray = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return iou


def suppress(iou_NN: Float[np.ndarray, "N N"], order: Sequence[int], max_iou: float) -> list[int]:
    """Indices that survive, in `order`: kept if the IoU with every kept one is <= `max_iou`."""
    kept: list[int] = []
    for index in order:
        if all(iou_NN[index, other] <= max_iou for other in kept):
            kept.append(index)
    return kept


def normalised_text(box: Box, width: int, height: int) -> str:
    """`[0.40, 0.07, 0.64, 0.18]`: the box as fractions of the image, two decimals, padded.

    Two decimals by `round` and zero padding to four characters, as in the released data; all box
    strings have one length, so region prompts batch without padding.
    """
    sizes = (width, height, width, height)
    parts = [
        f"{round(value / size, 2):.2f}" for value, size in zip(box.as_tuple(), sizes, strict=True)
    ]
    return "[" + ", ".join(parts) + "]"

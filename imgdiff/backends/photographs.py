"""Photos with one annotated object and its mask: where object removal needs no segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imgdiff.backends.coco import AnnotatedObject, pixel_window
from imgdiff.backends.composite import CompositeConfig, CompositeGenerator, tight
from imgdiff.backends.handles import Around
from imgdiff.backends.protocols import Photographed, Refusal
from imgdiff.core.errors import DataError
from imgdiff.core.geometry import Box
from imgdiff.core.masks import Mask
from imgdiff.core.records import CaptionPair

VERSION = "photographs-1"


@dataclass(frozen=True, kw_only=True)
class PhotographConfig:
    """The photos that the composite generator edits, under the same limits on objects."""

    composite: CompositeConfig

    def build(self) -> PhotoObjects:
        """A light handle; annotations are read when a pair first needs their split."""
        return PhotoObjects(self.composite.build())


class PhotoObjects(Around):
    """A `Photographer` over a COCO folder; no weights."""

    def __init__(self, objects: CompositeGenerator) -> None:
        super().__init__(objects)
        self._objects = objects

    @property
    def identity(self) -> str:
        """Version, annotations and limits."""
        return f"{VERSION}:{self._objects.identity}"

    def photograph(self, pairs: Sequence[CaptionPair]) -> list[Photographed | Refusal]:
        """One result per pair. DataError for a pair whose photo object the folder lacks."""
        return [self._show(pair) for pair in pairs]

    def _show(self, pair: CaptionPair) -> Photographed | Refusal:
        found = self._objects.target(pair)
        if isinstance(found, Refusal):
            return found
        item, others = found[0], found[1:]
        width, height = item.outline.width, item.outline.height
        try:
            pixels_HW3 = self._objects.photo(item.photo.image_file, width, height)
        except DataError as error:
            return Refusal(reason="photo cannot be read", detail=str(error))
        box = tight(item)
        alike = [other for other in others if other.category == item.category]
        alike_HW = _together(alike, width, height)
        return Photographed(
            image=Image.fromarray(np.array(pixels_HW3)),
            name=item.category,
            box=box,
            mask=item.outline.mask(0, 0, width, height),
            alike=alike_HW,
            same_kind=float(alike_HW[_rows_and_columns(box)].mean()),
        )


def _together(objects: Sequence[AnnotatedObject], width: int, height: int) -> Mask:
    """Every pixel of these objects; crowds count."""
    marks_HW = np.zeros((height, width), dtype=bool)
    for item in objects:
        marks_HW |= item.outline.mask(0, 0, width, height)
    return marks_HW


def _rows_and_columns(box: Box) -> tuple[slice, slice]:
    left, top, right, bottom = pixel_window(box)
    return slice(top, bottom), slice(left, right)

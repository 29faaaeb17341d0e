"""What the pipeline knows of one object that is being removed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from imgdiff.core.geometry import Box
from imgdiff.core.images import open_rgb
from imgdiff.core.masks import Mask, Runs, mask_of
from imgdiff.core.records import Rejected, Side


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """One image in the store: path from its root, content id of its pixels, size."""

    path: str
    id: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Inpainted:
    """A painted image, kept as what differs from the original: a lossless patch and its window.

    `change` is the mean absolute difference within the mask, in grey levels. Patch and window are
    None where nothing differs.
    """

    id: str  # content id of the whole painted image
    patch: str | None
    window: tuple[int, int, int, int] | None  # left, top, right, bottom
    change: float

    def open(self, store: Path, original: Image.Image) -> Image.Image:
        """The painted image: the original with the patch laid on it."""
        painted = original.copy()
        if self.patch is not None and self.window is not None:
            painted.paste(open_rgb(store / self.patch), self.window[:2])
        return painted


def inpainted_from(row: dict[str, Any]) -> Inpainted:
    """The record of a stored row."""
    window = row["window"]
    return Inpainted(
        id=row["id"],
        patch=row["patch"],
        window=None if window is None else (window[0], window[1], window[2], window[3]),
        change=row["change"],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedMask:
    """The object of a photo that a record names, with its box and mask.

    `alike` are the pixels of others of its name, `same_kind` the share of the box they cover.
    """

    name: str
    box: Box
    runs: Runs
    alike: Runs
    same_kind: float


@dataclass(kw_only=True)
class RemovalState:
    """A box whose object may be removed, with every score it has; None where nothing was asked."""

    id: str
    pair_id: str
    side: Side  # the image it was found in
    box: Box
    number: int = 0  # among the item's removal proposals
    original: Stored
    record: AnnotatedMask | None = None  # None where a segmenter proposed the box
    crop_similarity: float | None = None
    runs: Runs | None = None  # of the mask, before it is grown
    seed: int | None = None
    inpainted: Inpainted | None = None
    content: str | None = None  # what the describer says of it
    match: tuple[float, float] | None = None  # of the content with the original and painted crop
    shown: Side | None = None  # on which side of the question the original is
    rejected: Rejected | None = None

    def reject(self, stage: str, reason: str, detail: str = "") -> None:
        """Record the first reason it falls for."""
        self.rejected = Rejected(id=self.id, stage=stage, reason=reason, detail=detail)

    def mask(self) -> Mask:
        """The mask as pixels."""
        assert self.runs is not None
        return mask_of(self.runs, self.original.width, self.original.height)

    def alike(self) -> Mask | None:
        """The pixels of others of its kind where they are on record."""
        if self.record is None:
            return None
        return mask_of(self.record.alike, self.original.width, self.original.height)

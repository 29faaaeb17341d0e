"""Annotated photos as crops: who owns each pixel, boxes to look at, which names are true of them.

Frames: boxes are pixels of the photo as its masks know it. See removal_photos.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int8, UInt8
from PIL import Image

from imgdiff.backends import coco
from imgdiff.core.geometry import Box, crop
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.clip_data import FALSE, TRUE, UNSURE
from imgdiff.mini.build.views import ABSENT, PRESENT

ANYTHING = "object"  # the name that is true of every object
HELD_OUT = 5  # one photo in so many
MIN_OBJECT_PX = 24.0  # shorter side; below it a crop shows next to nothing
FAINT, CLEAR = 0.02, 0.1  # share of a crop up to which a name is not shown, from which it is
EMPTY = 0.05  # share of a crop under annotated objects up to which it is background
TRIES = 30

Photo = UInt8[np.ndarray, "H W 3"]
Verdicts = Int8[np.ndarray, " T"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A photo and who owns each pixel: 0 is nobody, k+1 is object k."""

    file: str
    image: Image.Image
    owners_HW: Int[np.ndarray, "H W"]
    objects: tuple[coco.AnnotatedObject, ...]
    totals_K: Int[np.ndarray, " K"]  # pixels of each object

    def shares(self, box: Box) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Of each object the part inside the box, and the part of the box that it covers."""
        left, top, right, bottom = window_of(box, *self.image.size)
        inside_hw = self.owners_HW[top:bottom, left:right]
        counts_K = np.bincount(inside_hw.ravel(), minlength=len(self.objects) + 1)[1:]
        return counts_K / np.maximum(self.totals_K, 1), counts_K / max(1, inside_hw.size)


def photos_of(root: str, split: str) -> list[Shown]:
    """Every photo of a split that has annotated objects, in the order of its files."""
    by_file: dict[str, list[coco.AnnotatedObject]] = {}
    for item in coco.read_split(root, split).objects:
        by_file.setdefault(item.photo.image_file, []).append(item)
    return [_shown(root, file, objects) for file, objects in sorted(by_file.items())]


def _shown(root: str, file: str, objects: Sequence[coco.AnnotatedObject]) -> Shown:
    width, height = objects[0].outline.width, objects[0].outline.height
    owners_HW = np.zeros((height, width), dtype=np.int32)
    # The largest first: where two outlines overlap, the smaller object lies on top.
    for k in sorted(range(len(objects)), key=lambda k: -objects[k].box.area):
        owners_HW[objects[k].outline.mask(0, 0, width, height)] = k + 1
    return Shown(
        file=file,
        image=coco.open_photo(root, file, width, height),
        owners_HW=owners_HW,
        objects=tuple(objects),
        totals_K=np.bincount(owners_HW.ravel(), minlength=len(objects) + 1)[1:],
    )


def parted(photos: Sequence[Shown], seed: int) -> tuple[list[Shown], list[Shown]]:
    """(photos to learn from, the fifth to choose thresholds on), by seed and file name."""
    ranked = sorted(photos, key=lambda photo: seed_for(seed, photo.file, "held out"))
    fifth = len(ranked) // HELD_OUT
    return ranked[fifth:], ranked[:fifth]


def usable(item: coco.AnnotatedObject) -> bool:
    """Whether the object is one thing, large enough to be named."""
    return not item.is_crowd and min(item.box.width, item.box.height) >= MIN_OBJECT_PX


def kinds_of(photos: Sequence[Shown]) -> dict[str, frozenset[str]]:
    """What can be said of usable objects: their category, supercategory, or that they are one.

    The value holds the categories that the name is true of.
    """
    kinds: dict[str, set[str]] = {}
    for item in (item for photo in photos for item in photo.objects if usable(item)):
        for name in (item.category, item.supercategory or ANYTHING, ANYTHING):
            kinds.setdefault(name, set()).add(item.category)
    return {name: frozenset(held) for name, held in sorted(kinds.items())}


def truth_of(photo: Shown, box: Box, kinds: Mapping[str, frozenset[str]]) -> Verdicts:
    """Each name TRUE (an object mostly inside and clear), FALSE (not shown) or UNSURE."""
    inside_K, covers_K = photo.shares(box)
    single_K = np.array([not item.is_crowd for item in photo.objects])
    clear_K = single_K & (inside_K >= PRESENT) & (covers_K >= CLEAR)
    verdicts_T = np.full(len(kinds), FALSE, dtype=np.int8)
    for t, held in enumerate(kinds.values()):
        mine_K = np.array([item.category in held for item in photo.objects])
        if (mine_K & clear_K).any():
            verdicts_T[t] = TRUE
        elif covers_K[mine_K].sum() > FAINT or inside_K[mine_K].max(initial=0.0) > ABSENT:
            verdicts_T[t] = UNSURE
    return verdicts_T


def window_of(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels as `crop` takes them (left, top, right, bottom), at least one."""
    left, top, right, bottom = (int(v) for v in box.clipped_to(width, height).as_tuple())
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def cut(image: Image.Image, box: Box) -> Image.Image:
    """The pixels of a box; of one between two pixels, the nearest pixel."""
    left, top, right, bottom = window_of(box, *image.size)
    return crop(image, Box(left=left, top=top, right=right, bottom=bottom))


def jittered(box: Box, share: float, rng: np.random.Generator) -> Box:
    """Each edge moved, outwards or inwards, by up to a share of the box's side."""
    across, down = share * box.width, share * box.height
    left, right = rng.uniform(-across, across, size=2).tolist()
    top, bottom = rng.uniform(-down, down, size=2).tolist()
    return Box(
        left=box.left + left, top=box.top + top, right=box.right + right, bottom=box.bottom + bottom
    )  # fmt: skip


def elsewhere(photo: Shown, box: Box, rng: np.random.Generator) -> Box:
    """A box of the same size at a random place of the photo."""
    left = float(rng.uniform(0.0, max(1e-6, photo.image.width - box.width)))
    top = float(rng.uniform(0.0, max(1e-6, photo.image.height - box.height)))
    return box.moved(left - box.left, top - box.top)


def background(photo: Shown, box: Box, rng: np.random.Generator) -> Box | None:
    """A box of the same size over next to no annotated pixels; None where none was found."""
    tried = (elsewhere(photo, box, rng) for _ in range(TRIES))
    return next((b for b in tried if photo.shares(b)[1].sum() <= EMPTY), None)


def without(photo: Shown, box: Box, category: str, rng: np.random.Generator) -> Box | None:
    """A box of the same size that may show anything but this category; None if none was found."""
    mine_K = np.array([item.category == category for item in photo.objects])
    tried = (elsewhere(photo, box, rng) for _ in range(TRIES))
    return next((b for b in tried if photo.shares(b)[1][mine_K].sum() <= FAINT), None)

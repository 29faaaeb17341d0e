"""Scenes of the procedural world: what is where, sampled from a seed, and drawn to pixels.

A scene is a 2x2 grid of cells on a textured ground; each cell holds at most one object. Frame:
pixels of the scene, origin top left. Splits are disjoint by what appears together: every pair of
categories, and every (category, ground) for scenes of one object, belongs to one split. Train
scenes hold train combinations only, validation and test scenes hold at least one combination of
their own and otherwise train combinations.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from imgdiff.core.geometry import Box
from imgdiff.mini.grounds import GROUNDS, draw_ground
from imgdiff.mini.shapes import CATEGORIES, COLOURS, draw_object

SCENE_PX = 128
GRID = 2
CELL_PX = SCENE_PX // GRID
SIZE_RANGE_PX = {"small": (34, 41), "large": (48, 58)}
SIZES = tuple(SIZE_RANGE_PX)
OBJECT_COUNT_WEIGHTS = (0.15, 0.40, 0.30, 0.15)  # 1, 2, 3, 4 objects


class Split(str, enum.Enum):
    """The three disjoint worlds; `val` is short for `validation`."""

    train = "train"
    validation = "validation"
    test = "test"
    val = "validation"


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One object. `cell` counts 0..3 row by row; `x`, `y` is the centre in pixels."""

    category: str
    colour: str
    size: str
    cell: int
    size_px: int
    x: float
    y: float
    seed: int

    @property
    def row(self) -> int:
        """0 is the upper row."""
        return self.cell // GRID

    @property
    def column(self) -> int:
        """0 is the left column."""
        return self.cell % GRID


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Objects in drawing order on a ground texture."""

    objects: tuple[SceneObject, ...]
    ground: str
    ground_seed: int


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A rendered scene: RGB pixels, and per object its tight box and visible mask."""

    image: Image.Image
    boxes: tuple[Box, ...]
    masks: tuple[Bool[np.ndarray, "H W"], ...]


@functools.cache
def combination_split(first: str, second: str) -> Split:
    """Which world owns two things in one scene: 10 % validation, 10 % test, 80 % train, by hash.

    The things are two categories, or the category of a lone object and its ground; order is free.
    """
    one, two = sorted((first, second))
    bucket = hashlib.sha256(f"{one}|{two}".encode()).digest()[0] % 10
    if bucket == 0:
        return Split.validation
    return Split.test if bucket == 1 else Split.train


def combinations(categories: Sequence[str], ground: str) -> list[tuple[str, str]]:
    """What appears together in a scene of these categories."""
    if len(categories) == 1:
        return [(categories[0], ground)]
    return list(itertools.combinations(categories, 2))


def allowed(categories: Sequence[str], ground: str, split: Split) -> bool:
    """Whether a scene of `split` may show these categories on this ground."""
    owners = {combination_split(*pair) for pair in combinations(categories, ground)}
    return owners <= {Split.train, split}


def belongs(categories: Sequence[str], ground: str, split: Split) -> bool:
    """Whether these categories make a scene of `split`: allowed, and one combination its own."""
    owners = {combination_split(*pair) for pair in combinations(categories, ground)}
    return owners <= {Split.train, split} and split in owners


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def place(
    rng: np.random.Generator, category: str, colour: str, size: str, cell: int
) -> SceneObject:
    """An object with jittered size, position and pose seed, wholly inside its cell."""
    low, high = SIZE_RANGE_PX[size]
    size_px = int(rng.integers(low, high + 1))
    slack = (CELL_PX - size_px) / 2 - 1
    centre_x = (cell % GRID + 0.5) * CELL_PX + float(rng.uniform(-slack, slack))
    centre_y = (cell // GRID + 0.5) * CELL_PX + float(rng.uniform(-slack, slack))
    return SceneObject(
        category=category,
        colour=colour,
        size=size,
        cell=cell,
        size_px=size_px,
        x=round(centre_x, 2),
        y=round(centre_y, 2),
        seed=int(rng.integers(2**31)),
    )


def sample_scene(rng: np.random.Generator, split: Split, count: int | None = None) -> Scene:
    """A random scene of `split` with `count` objects (1..4; None draws the number too).

    Categories within a scene are distinct, so that a noun names one object.
    """
    if count is None:
        count = 1 + int(rng.choice(len(OBJECT_COUNT_WEIGHTS), p=OBJECT_COUNT_WEIGHTS))
    names = tuple(CATEGORIES)
    while True:  # a few draws: most sets of categories belong to train, fewer to the others
        categories = [names[int(index)] for index in rng.permutation(len(names))[:count]]
        ground = _pick(rng, GROUNDS)
        if belongs(categories, ground, split):
            break
    cells = rng.permutation(GRID * GRID)[:count]
    objects = [
        place(rng, category, _pick(rng, tuple(COLOURS)), _pick(rng, SIZES), int(cell))
        for category, cell in zip(categories, cells, strict=True)
    ]
    return Scene(
        objects=tuple(sorted(objects, key=lambda item: item.cell)),
        ground=ground,
        ground_seed=int(rng.integers(2**31)),
    )


def draw_scene(scene: Scene) -> Drawing:
    """Pixels and truth of a scene; equal scenes give equal bytes."""
    canvas = draw_ground(scene.ground, SCENE_PX, np.random.default_rng(scene.ground_seed))
    boxes: list[Box] = []
    masks: list[Bool[np.ndarray, "H W"]] = []
    for item in scene.objects:
        box, mask = _draw_into(canvas, item)
        for earlier in masks:
            earlier &= ~mask  # later objects lie on top
        boxes.append(box)
        masks.append(mask)
    return Drawing(image=Image.fromarray(canvas), boxes=tuple(boxes), masks=tuple(masks))


def _draw_into(
    canvas: UInt8[np.ndarray, "H W 3"], item: SceneObject
) -> tuple[Box, Bool[np.ndarray, "H W"]]:
    """Blend one sprite into `canvas` in place; its tight box and mask (alpha >= 128)."""
    sprite = draw_object(
        item.category, item.colour, item.size_px, np.random.default_rng(item.seed)
    ).rgba
    height, width = sprite.shape[:2]
    left = int(np.clip(round(item.x - width / 2), 0, SCENE_PX - width))
    top = int(np.clip(round(item.y - height / 2), 0, SCENE_PX - height))
    patch = canvas[top : top + height, left : left + width]
    alpha = sprite[..., 3:].astype(np.uint16)
    blended = sprite[..., :3] * alpha + patch * (255 - alpha)
    patch[...] = ((blended + 127) // 255).astype(np.uint8)
    mask = np.zeros(canvas.shape[:2], dtype=np.bool_)
    mask[top : top + height, left : left + width] = sprite[..., 3] >= 128  # noqa: PLR2004
    return Box(left=left, top=top, right=left + width, bottom=top + height), mask


def replace_object(scene: Scene, index: int, item: SceneObject) -> Scene:
    """The scene with object `index` exchanged."""
    objects = list(scene.objects)
    objects[index] = item
    return dataclasses.replace(scene, objects=tuple(objects))

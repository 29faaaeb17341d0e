"""The part of the world that the mini SDXL draws: 18 things, ten colours, one or two objects.

Every object is large and the grounds are plain or shaded, so that a small model learns shapes
within hours. The splits are those of the whole world.
"""

from __future__ import annotations

import numpy as np

from imgdiff.core.identity import seed_for
from imgdiff.mini.scene import GRID, Scene, Split, belongs, place
from imgdiff.mini.shapes import COLOURS

THINGS = (
    "cat", "dog", "bird", "fish", "car", "bus", "boat", "airplane", "apple", "banana", "chair",
    "sofa", "cup", "bottle", "hat", "shirt", "umbrella", "clock",
)  # fmt: skip
PART_GROUNDS = ("plain", "shaded")
PART_SIZE = "large"
LONE_SHARE = 0.4  # of scenes with one object
MOST_OBJECTS = 2


def sample_part(rng: np.random.Generator, split: Split) -> Scene:
    """A random scene of this part of the world that belongs to `split`."""
    count = 1 if rng.random() < LONE_SHARE else 2
    while True:
        categories = [THINGS[int(index)] for index in rng.permutation(len(THINGS))[:count]]
        ground = PART_GROUNDS[int(rng.integers(len(PART_GROUNDS)))]
        if belongs(categories, ground, split):
            break
    cells = rng.permutation(GRID * GRID)[:count]
    colours = tuple(COLOURS)
    objects = [
        place(rng, category, colours[int(rng.integers(len(colours)))], PART_SIZE, int(cell))
        for category, cell in zip(categories, cells, strict=True)
    ]
    return Scene(
        objects=tuple(sorted(objects, key=lambda item: item.cell)),
        ground=ground,
        ground_seed=int(rng.integers(2**31)),
    )


def held_out_part(count: int, split: Split = Split.validation, seed: int = 0) -> list[Scene]:
    """`count` scenes of a split; scene k depends on (seed, split, k) alone."""
    return [
        sample_part(np.random.default_rng(seed_for(seed, f"{split.value}-{k}", "part")), split)
        for k in range(count)
    ]

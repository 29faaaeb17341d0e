"""Sprites of 48 everyday objects in ten colours, drawn as jittered vector shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.mini.shapes.animals import ANIMALS
from imgdiff.mini.shapes.canvas import Canvas, Pose, UInt8Array
from imgdiff.mini.shapes.clothing import CLOTHING
from imgdiff.mini.shapes.devices import DEVICES
from imgdiff.mini.shapes.food import FOOD
from imgdiff.mini.shapes.household import HOUSEHOLD
from imgdiff.mini.shapes.nature import NATURE
from imgdiff.mini.shapes.paint import COLOURS, Paint, lit
from imgdiff.mini.shapes.vehicles import VEHICLES

__all__ = ["CATEGORIES", "COLOURS", "Sprite", "draw_object"]

CATEGORIES: dict[str, str] = {
    "cat": "living_thing",
    "dog": "living_thing",
    "fish": "living_thing",
    "bird": "living_thing",
    "rabbit": "living_thing",
    "turtle": "living_thing",
    "snail": "living_thing",
    "butterfly": "living_thing",
    "duck": "living_thing",
    "tree": "natural_object",
    "flower": "natural_object",
    "mushroom": "natural_object",
    "car": "vehicle",
    "bus": "vehicle",
    "truck": "vehicle",
    "boat": "vehicle",
    "airplane": "vehicle",
    "bicycle": "vehicle",
    "train": "vehicle",
    "rocket": "vehicle",
    "apple": "fruit",
    "banana": "fruit",
    "cherry": "fruit",
    "strawberry": "fruit",
    "carrot": "food",
    "pizza": "food",
    "cake": "food",
    "chair": "furniture",
    "table": "furniture",
    "bed": "furniture",
    "sofa": "furniture",
    "cup": "container",
    "bottle": "container",
    "teapot": "container",
    "basket": "container",
    "hat": "clothing",
    "shirt": "clothing",
    "shoe": "clothing",
    "sock": "clothing",
    "umbrella": "clothing",
    "lamp": "fixture",
    "door": "fixture",
    "house": "fixture",
    "key": "fixture",
    "clock": "appliance",
    "television": "appliance",
    "phone": "appliance",
    "camera": "appliance",
}

_DRAWINGS: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    **ANIMALS,
    **NATURE,
    **VEHICLES,
    **FOOD,
    **HOUSEHOLD,
    **CLOTHING,
    **DEVICES,
}

_FINE_SAMPLING_UP_TO_PX = 96
_THINNEST_EDGE_PX = 0.7
_SMALLEST_PX = 8


@dataclass(frozen=True, kw_only=True)
class Sprite:
    """One drawn object: straight-alpha pixels [H W 4], cropped to where alpha >= 128."""

    rgba: UInt8Array


def draw_object(category: str, colour: str, size_px: int, rng: np.random.Generator) -> Sprite:
    """Draw one `category` in `colour` so that its longer side is `size_px` (within one pixel).

    All variation (pose, proportions, edge line, light) comes from `rng`, so equal generators give
    equal bytes.  Raises DataError for an unknown category or colour or a size below 8 px.
    """
    if category not in CATEGORIES:
        raise DataError(f"unknown category {category!r}; use one of: {', '.join(CATEGORIES)}")
    if colour not in COLOURS:
        raise DataError(f"unknown colour {colour!r}; use one of: {', '.join(COLOURS)}")
    if size_px < _SMALLEST_PX:
        raise DataError(
            f"size_px is {size_px}, too small for an object; use {_SMALLEST_PX} or more"
        )
    paint = Paint.of(COLOURS[colour], rng)
    canvas = Canvas(edge_colour=paint.ink)
    _DRAWINGS[category](canvas, paint, rng)
    pose = Pose(
        mirrored=bool(rng.integers(2)),
        stretch=rng.uniform(0.92, 1.08),
        angle=rng.uniform(-10.0, 10.0),
    )
    edge_width = max(rng.uniform(0.014, 0.025), _THINNEST_EDGE_PX / size_px)
    flat = canvas.render(
        size_px=size_px,
        pose=pose,
        edge_width=edge_width,
        supersample=4 if size_px <= _FINE_SAMPLING_UP_TO_PX else 3,
    )
    return Sprite(rgba=lit(flat, rng))

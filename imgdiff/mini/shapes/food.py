"""Fruit and other food."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import (
    blob,
    box,
    circle,
    ellipse,
    polygon,
    smooth_path,
    tube,
)
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import AMBER, BLACK, CHALK, CREAM, CRIMSON, LEAF, WOOD, Paint


def apple(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """With a stalk in a dimple and one leaf."""
    lean = rng.uniform(-0.05, 0.05)
    c.fill(WOOD, tube(smooth_path([(0.5, 0.34), (0.5, 0.2), (0.52 + lean, 0.06)]), 0.05, 0.06))
    body = [
        (0.5, 0.3), (0.64, 0.22), (0.84, 0.26), (0.96, 0.46), (0.9, 0.74), (0.72, 0.96),
        (0.58, 0.98), (0.5, 0.95), (0.42, 0.98), (0.28, 0.96), (0.1, 0.74), (0.04, 0.46),
        (0.16, 0.26), (0.36, 0.22),
    ]
    c.fill(paint.main, blob(body))
    c.line(paint.deep, [(0.38, 0.31), (0.5, 0.35), (0.62, 0.31)], 0.03, smooth=True)
    c.fill(LEAF, blob([(0.53, 0.21), (0.62, 0.06), (0.86, 0.03), (0.76, 0.2)], (0, 2)), edge=0.8)
    c.line(paint.light, [(0.17, 0.56), (0.17, 0.44), (0.25, 0.35)], 0.05, smooth=True)


def banana(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """One curved fruit with dark ends."""
    bend = about(rng, 0.93, 0.04)
    outer = [(0.06, 0.2), (0.1, 0.52), (0.28, 0.8), (0.54, bend), (0.8, 0.88), (0.97, 0.76)]
    inner = [(0.95, 0.68), (0.78, 0.68), (0.56, 0.62), (0.36, 0.44), (0.24, 0.18)]
    c.fill(WOOD, polygon([(0.08, 0.03), (0.19, 0.01), (0.23, 0.24), (0.07, 0.26)]))
    c.fill(paint.main, blob(outer + inner, (0, 10)))
    c.fill(BLACK, blob([(0.93, 0.69), (1.0, 0.7), (1.01, 0.76), (0.94, 0.785)]), edge=0.5)
    ridge = [(0.16, 0.24), (0.24, 0.5), (0.44, 0.72), (0.66, 0.79), (0.9, 0.74)]
    c.line(paint.dark, ridge, 0.035, smooth=True)


def cherry(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A pair of cherries on joined stalks."""
    left, right = about(rng, 0.24, 0.07), about(rng, 0.24, 0.07)
    joint = (0.6 + rng.uniform(-0.05, 0.05), 0.06)
    c.fill(LEAF, tube(smooth_path([joint, (0.38, 0.26), (0.26, 0.6)]), 0.04), edge=0.7)
    c.fill(LEAF, tube(smooth_path([joint, (0.7, 0.3), (0.73, 0.64)]), 0.04), edge=0.7)
    c.fill(LEAF, blob([joint, (0.74, 0.0), (1.0, 0.12), (0.8, 0.22)], (0, 2)), edge=0.8)
    for x, y, radius in ((0.26, 0.7, left), (0.74, 0.76, right)):
        c.fill(paint.main, ellipse(x, y, radius, radius * 0.97))
        rim = y - radius * 0.72
        dimple = [(x - 0.08, rim), (x, y - radius * 0.6), (x + 0.08, rim)]
        c.line(paint.deep, dimple, 0.025, smooth=True)
        glint = ellipse(x - radius * 0.4, y - radius * 0.3, 0.04, 0.065, 30.0)
        c.fill(paint.light, glint, edge=0.0)


def strawberry(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A heart-shaped fruit with seeds under a green cap."""
    tip = about(rng, 0.97, 0.02)
    body = [
        (0.5, 0.2), (0.78, 0.19), (0.94, 0.36), (0.86, 0.62), (0.66, 0.86), (0.5, tip),
        (0.34, 0.86), (0.14, 0.62), (0.06, 0.36), (0.22, 0.19),
    ]
    c.fill(paint.main, blob(body))
    rows = [
        (0.42, (0.2, 0.4, 0.6, 0.8)), (0.55, (0.3, 0.5, 0.7)), (0.68, (0.39, 0.61)), (0.8, (0.5,)),
    ]
    seed = paint.visible(CREAM, otherwise=AMBER)
    seeds = [ellipse(x, y, 0.024, 0.036) for y, columns in rows for x in columns]
    c.fill(seed, *seeds, edge=0.4)
    c.fill(LEAF, tube([(0.5, 0.22), (0.52, 0.03)], 0.055))
    cap = [
        (0.5, 0.13), (0.68, 0.1), (0.88, 0.2), (0.72, 0.25), (0.66, 0.38), (0.55, 0.27),
        (0.5, 0.4), (0.44, 0.27), (0.33, 0.38), (0.28, 0.25), (0.12, 0.2), (0.32, 0.1),
    ]
    c.fill(LEAF, blob(cap, (2, 4, 6, 8, 10)))


def carrot(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Lying aslant, leaves up."""
    thick = about(rng, 0.16, 0.08)
    for end in ((0.72, 0.02), (0.88, 0.08), (0.98, 0.24)):
        middle = ((end[0] + 0.68) / 2 + 0.02, (end[1] + 0.3) / 2)
        c.fill(LEAF, tube(smooth_path([(0.68, 0.32), middle, end]), 0.07, 0.1))
    shoulder_x, shoulder_y = 0.6 - thick, 0.36 - thick * 0.75
    root = [
        (0.68, 0.22), (0.78, 0.32), (0.74, 0.42 + thick * 0.5), (0.42, 0.76), (0.03, 0.99),
        (shoulder_x - 0.2, 0.58), (shoulder_x, shoulder_y),
    ]
    c.fill(paint.main, blob(root, (4,)))
    for x, y, length in ((0.48, 0.34, 0.1), (0.31, 0.53, 0.08), (0.19, 0.75, 0.06)):
        c.line(paint.deep, [(x, y), (x + length, y + length)], 0.028)
    for x, y, length in ((0.69, 0.53, -0.09), (0.5, 0.7, -0.07)):
        c.line(paint.deep, [(x, y), (x + length, y + length)], 0.028)


def pizza(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """One slice with crust, topping and a drip."""
    drip = about(rng, 0.62, 0.1)
    right = [(0.94, 0.15), (0.76, 0.55), (0.7, drip + 0.06), (0.64, 0.72)]
    top = [(0.06, 0.15), (0.5, 0.08)]
    c.fill(paint.main, blob([*top, *right, (0.5, 1.0), (0.28, 0.6)], (0, 2, 6)))
    topping = paint.visible(CRIMSON, otherwise=CREAM)
    for x, y, radius in ((0.33, 0.35, 0.08), (0.66, 0.37, 0.08), (0.49, 0.63, 0.075)):
        c.fill(topping, circle(x, y, about(rng, radius, 0.08)), edge=0.6)
    olives = [circle(x, y, 0.026) for x, y in ((0.5, 0.42), (0.42, 0.52), (0.58, 0.52))]
    c.fill(BLACK, *olives, edge=0.0)
    crust = [(0.06, 0.17), (0.28, 0.1), (0.5, 0.08), (0.72, 0.1), (0.94, 0.17)]
    c.fill((206, 148, 78), tube(smooth_path(crust), 0.11))
    c.line((232, 184, 116), [(0.1, 0.14), (0.3, 0.08), (0.6, 0.06)], 0.025, smooth=True)


def cake(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A round iced cake with candles."""
    count = int(rng.integers(3, 5))
    for x in np.linspace(0.26, 0.74, count):
        c.fill(CHALK, box(x - 0.028, 0.16, x + 0.028, 0.44), edge=0.8)
        flame = [(x, 0.0), (x + 0.035, 0.1), (x, 0.15), (x - 0.035, 0.1)]
        c.fill(AMBER, blob(flame, (0,)), edge=0.7)
    side = [
        (0.05, 0.46), (0.95, 0.46), (0.95, 0.86), (0.75, 0.95), (0.5, 0.97), (0.25, 0.95),
        (0.05, 0.86),
    ]
    c.fill(paint.main, blob(side, (0, 1, 2, 6)))
    stripe = [(0.06, 0.76), (0.28, 0.83), (0.5, 0.85), (0.72, 0.83), (0.94, 0.76)]
    c.line(paint.deep, stripe, 0.03, smooth=True)
    drips = [about(rng, 0.57, 0.06) if i % 2 else 0.48 for i in range(9)]
    edge = [(0.95 - 0.9 * i / 8, y + 0.03 * (1 - abs(i - 4) / 4)) for i, y in enumerate(drips)]
    icing = [(0.05, 0.43), (0.2, 0.365), (0.5, 0.345), (0.8, 0.365), (0.95, 0.43), *edge]
    c.fill(paint.visible(CHALK, otherwise=CREAM), blob(icing), edge=0.9)
    for x in np.linspace(0.26, 0.74, count):
        c.fill(CHALK, box(x - 0.028, 0.2, x + 0.028, 0.42), edge=0.8)


FOOD: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "apple": apple,
    "banana": banana,
    "cherry": cherry,
    "strawberry": strawberry,
    "carrot": carrot,
    "pizza": pizza,
    "cake": cake,
}

"""Plants and fungi."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import blob, circle, ellipse, smooth_path, tube, turned
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import AMBER, CHALK, CREAM, LEAF, WOOD, Paint


def tree(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A round crown on a trunk with roots."""
    trunk = [(0.43, 0.55), (0.57, 0.55), (0.58, 0.85), (0.67, 0.99), (0.33, 0.99), (0.42, 0.85)]
    c.fill(WOOD, blob(trunk, (0, 1, 3, 4)))
    centres = [(0.25, 0.5), (0.22, 0.34), (0.4, 0.2), (0.62, 0.2), (0.79, 0.36), (0.75, 0.52)]
    lobes = [circle(x, y, about(rng, 0.18, 0.1)) for x, y in centres]
    c.fill(paint.main, *lobes, ellipse(0.5, 0.42, 0.28, 0.26))
    for x, y in ((0.2, 0.48), (0.44, 0.36), (0.62, 0.52)):
        c.line(paint.dark, [(x, y), (x + 0.07, y + 0.05), (x + 0.14, y)], 0.03, smooth=True)
    glint = [(0.3, 0.22), (0.37, 0.14), (0.46, 0.12)]
    c.fill(paint.light, tube(smooth_path(glint), 0.03), edge=0.0)


def flower(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A daisy-like head on a short leafy stem."""
    c.fill(LEAF, tube(smooth_path([(0.5, 0.5), (0.52, 0.75), (0.49, 0.98)]), 0.06))
    c.fill(LEAF, blob([(0.5, 0.93), (0.6, 0.78), (0.84, 0.74), (0.72, 0.9)], (0, 2)))
    c.fill(LEAF, blob([(0.5, 0.97), (0.4, 0.84), (0.18, 0.8), (0.28, 0.94)], (0, 2)))
    count = int(rng.integers(5, 8))
    width = {5: 0.17, 6: 0.15, 7: 0.13}[count]
    start = rng.uniform(0.0, 360.0)
    petal = ellipse(0.5, 0.16, about(rng, width, 0.06), 0.19)
    for i in range(count):
        c.fill(paint.main, turned(petal, start + 360.0 * i / count, (0.5, 0.36)), edge=0.7)
    centre = paint.visible(AMBER, otherwise=paint.deep)
    c.fill(centre, circle(0.5, 0.36, about(rng, 0.11, 0.1)), edge=0.8)


def mushroom(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A spotted cap on a pale stem."""
    thick = about(rng, 0.13, 0.15)
    stem = [
        (0.5 - thick, 0.5), (0.5 + thick, 0.5), (0.5 + thick, 0.72), (0.52 + thick * 1.3, 0.92),
        (0.5, 0.98), (0.48 - thick * 1.3, 0.92), (0.5 - thick, 0.72),
    ]
    c.fill(CREAM, blob(stem, (0, 1)))
    top = about(rng, 0.05, 0.8)
    cap = [
        (0.02, 0.56), (0.08, 0.32), (0.27, top + 0.06), (0.5, top), (0.73, top + 0.06),
        (0.92, 0.32), (0.98, 0.56), (0.76, 0.61), (0.5, 0.62), (0.24, 0.61),
    ]
    c.fill(paint.main, blob(cap, (0, 6)))
    spots = [
        (0.5, 0.2, 0.085), (0.25, 0.34, 0.07), (0.75, 0.36, 0.075), (0.52, 0.45, 0.06),
        (0.1, 0.5, 0.04), (0.88, 0.52, 0.035),
    ]
    c.fill(CHALK, *(ellipse(x, y, about(rng, r), r * 0.85) for x, y, r in spots), edge=0.5)


NATURE: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "tree": tree,
    "flower": flower,
    "mushroom": mushroom,
}

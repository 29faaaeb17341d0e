"""Things people wear or carry against the weather."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import arc_path, blob, box, ellipse, polygon, tube
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import CHALK, SLATE, WOOD, Paint


def hat(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A top hat with a ribbon."""
    flare = about(rng, 0.3, 0.06)
    c.fill(paint.main, ellipse(0.5, 0.78, 0.5, 0.13))
    crown = [
        (0.5 - flare, 0.1), (0.5, 0.05), (0.5 + flare, 0.1), (0.77, 0.5), (0.76, 0.74), (0.5, 0.8),
        (0.24, 0.74), (0.23, 0.5),
    ]
    c.fill(paint.main, blob(crown, (0, 2, 4, 6)))
    ribbon = [(0.235, 0.56), (0.5, 0.62), (0.765, 0.56), (0.76, 0.73), (0.5, 0.79), (0.24, 0.73)]
    c.fill(paint.deep, blob(ribbon, (0, 2, 3, 5)), edge=0.5)
    c.fill(paint.dark, ellipse(0.5, 0.105, flare, 0.055), edge=0.7)


def shirt(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A T-shirt laid flat."""
    sleeve = about(rng, 0.46, 0.06)
    right = [
        (0.66, 0.06), (0.8, 0.1), (1.0, sleeve - 0.06), (0.86, sleeve + 0.04), (0.76, 0.34),
        (0.77, 0.96),
    ]
    left = [(1 - x, y) for x, y in reversed(right)]
    neck = [(0.34, 0.06), (0.4, 0.15), (0.5, 0.19), (0.6, 0.15)]
    c.fill(paint.dark, ellipse(0.5, 0.08, 0.15, 0.06))
    c.fill(paint.main, polygon([*right, *left[:-1], *neck]))
    collar = [(0.36, 0.09), (0.42, 0.2), (0.5, 0.23), (0.58, 0.2), (0.64, 0.09)]
    c.line(paint.dark, collar, 0.04, smooth=True)
    for side in (-1, 1):
        c.line(paint.deep, [(0.5 + side * 0.26, 0.34), (0.5 + side * 0.24, 0.22)], 0.018)
        hem = [(0.5 + side * 0.47, sleeve - 0.1), (0.5 + side * 0.35, sleeve - 0.01)]
        c.line(paint.dark, hem, 0.03)
    c.line(paint.dark, [(0.25, 0.91), (0.75, 0.91)], 0.02)


def shoe(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A laced sports shoe seen from the side."""
    toe = about(rng, 0.56, 0.04)
    upper = [
        (0.03, 0.3), (0.12, 0.22), (0.34, 0.3), (0.44, 0.24), (0.56, 0.42), (0.74, toe - 0.04),
        (0.94, toe + 0.04), (0.99, 0.74), (0.03, 0.74),
    ]
    c.fill(paint.main, blob(upper, (0, 7, 8)))
    opening = [(0.05, 0.3), (0.12, 0.22), (0.34, 0.3), (0.42, 0.25), (0.34, 0.36), (0.14, 0.35)]
    c.fill(paint.dark, blob(opening), edge=0.5)
    heel = [(0.03, 0.4), (0.16, 0.5), (0.18, 0.74), (0.03, 0.74)]
    c.fill(paint.dark, blob(heel, (0, 2, 3)), edge=0.4)
    cap = [(0.8, toe - 0.02), (0.94, toe + 0.05), (0.985, 0.74), (0.76, 0.74)]
    c.fill(paint.light, blob(cap, (2, 3)), edge=0.5)
    sole = [
        (0.0, 0.73), (0.5, 0.75), (1.0, 0.72), (1.01, 0.78), (0.95, 0.83), (0.06, 0.83),
        (0.0, 0.8),
    ]
    c.fill(CHALK, blob(sole, (0, 2)))
    for x, y in ((0.45, 0.36), (0.54, 0.45), (0.64, 0.52)):
        c.line(CHALK, [(x, y), (x - 0.1, y + 0.08)], 0.04)


def sock(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A striped ankle sock seen from the side."""
    toe = about(rng, 0.12, 0.25)
    outline = [
        (0.48, 0.04), (0.86, 0.04), (0.86, 0.34), (0.88, 0.66), (0.8, 0.86), (0.6, 0.92),
        (0.3, 0.98), (toe, 0.92), (toe - 0.03, 0.74), (0.24, 0.64), (0.44, 0.54), (0.48, 0.34),
    ]
    c.fill(paint.main, blob(outline, (0, 1)))
    heel = [(0.89, 0.62), (0.885, 0.74), (0.8, 0.865), (0.7, 0.9), (0.7, 0.74), (0.78, 0.65)]
    c.fill(paint.deep, blob(heel), edge=0.0)
    toe_cap = [(0.3, 0.975), (toe, 0.92), (toe - 0.03, 0.74), (0.22, 0.655), (0.32, 0.8)]
    c.fill(paint.deep, blob(toe_cap, (4,)), edge=0.0)
    c.fill(paint.light, box(0.48, 0.3, 0.865, 0.37), box(0.48, 0.43, 0.87, 0.5), edge=0.0)
    c.fill(paint.dark, box(0.44, 0.02, 0.9, 0.18, 0.04))
    for x in (0.55, 0.67, 0.79):
        c.line(paint.deep, [(x, 0.06), (x, 0.14)], 0.02)


def umbrella(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Open, with a hooked handle."""
    hook = about(rng, 0.105, 0.12)
    bend = arc_path(0.5 + hook, 0.86, hook, 0.12, 0.0, 180.0)
    c.fill(SLATE, tube([(0.5, 0.0), (0.5, 0.1)], 0.04))
    c.fill(WOOD, tube([(0.5, 0.3), (0.5, 0.87)], 0.05), tube(bend, 0.05))
    dome = [
        (0.0, 0.54), (0.06, 0.3), (0.24, 0.12), (0.5, 0.06), (0.76, 0.12), (0.94, 0.3),
        (1.0, 0.54),
    ]
    scallops = [
        (0.875, 0.48), (0.75, 0.54), (0.625, 0.48), (0.5, 0.54), (0.375, 0.48), (0.25, 0.54),
        (0.125, 0.48),
    ]
    c.fill(paint.main, blob([*dome, *scallops], (0, 6, 8, 10, 12)))
    shaded_panel = [(0.5, 0.07), (0.7, 0.22), (0.75, 0.53), (0.625, 0.48), (0.5, 0.53)]
    c.fill(paint.dark, blob(shaded_panel, (0, 2, 4)), edge=0.4)
    lit_panel = [(0.5, 0.07), (0.3, 0.22), (0.25, 0.53), (0.125, 0.48), (0.01, 0.53), (0.1, 0.26)]
    c.fill(paint.light, blob(lit_panel, (0, 2, 4)), edge=0.4)


CLOTHING: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "hat": hat,
    "shirt": shirt,
    "shoe": shoe,
    "sock": sock,
    "umbrella": umbrella,
}

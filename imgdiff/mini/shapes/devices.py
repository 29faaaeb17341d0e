"""Household devices."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import blob, box, circle, ellipse, polygon, tube
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import AMBER, BLACK, CHALK, CRIMSON, GLASS, SLATE, STEEL, Paint


def clock(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """An alarm clock with two bells."""
    feet = [tube([(0.5 + side * 0.2, 0.84), (0.5 + side * 0.3, 0.97)], 0.09) for side in (-1, 1)]
    c.fill(paint.deep, *feet)
    c.fill(SLATE, tube([(0.5, 0.2), (0.5, 0.07)], 0.05))
    for side in (-1, 1):
        c.fill(paint.main, ellipse(0.5 + side * 0.26, 0.14, 0.2, 0.12, side * 32.0))
    c.fill(paint.main, circle(0.5, 0.56, 0.42))
    c.fill(CHALK, circle(0.5, 0.56, about(rng, 0.285, 0.04)), edge=0.8)
    for x, y in ((0.5, 0.33), (0.73, 0.56), (0.5, 0.79), (0.27, 0.56)):
        c.fill(BLACK, circle(x, y, 0.025), edge=0.0)
    hour, minute = rng.uniform(0.0, 2 * np.pi, size=2)
    c.line(BLACK, [(0.5, 0.56), (0.5 + 0.13 * np.sin(hour), 0.56 - 0.13 * np.cos(hour))], 0.05)
    c.line(BLACK, [(0.5, 0.56), (0.5 + 0.2 * np.sin(minute), 0.56 - 0.2 * np.cos(minute))], 0.034)
    c.fill(CRIMSON, circle(0.5, 0.56, 0.032), edge=0.0)


def television(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A tube set with an indoor aerial."""
    left, right = about(rng, 0.26, 0.15), about(rng, 0.76, 0.06)
    c.fill(SLATE, tube([(0.5, 0.3), (left, 0.06)], 0.035), edge=0.7)
    c.fill(SLATE, tube([(0.5, 0.3), (right, 0.06)], 0.035), edge=0.7)
    c.fill(paint.deep, box(0.14, 0.88, 0.24, 0.97, 0.02), box(0.76, 0.88, 0.86, 0.97, 0.02))
    c.fill(paint.main, box(0.0, 0.27, 1.0, 0.91, 0.08))
    screen = [
        (0.12, 0.42), (0.36, 0.405), (0.6, 0.42), (0.615, 0.59), (0.6, 0.76), (0.36, 0.775),
        (0.12, 0.76), (0.105, 0.59),
    ]
    c.fill((96, 122, 140), blob(screen), edge=0.7)
    c.fill(GLASS, polygon([(0.17, 0.47), (0.33, 0.45), (0.19, 0.67), (0.155, 0.67)]), edge=0.0)
    c.fill(AMBER, circle(0.81, 0.44, 0.045), circle(0.81, 0.57, 0.045), edge=0.6)
    for y in (0.7, 0.76, 0.82):
        c.line(paint.dark, [(0.74, y), (0.88, y)], 0.02)


def phone(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A desk telephone with its receiver on top."""
    c.fill(SLATE, box(0.34, 0.24, 0.4, 0.42), box(0.6, 0.24, 0.66, 0.42))
    body = [
        (0.3, 0.38), (0.7, 0.38), (0.8, 0.56), (0.96, 0.84), (0.94, 0.96), (0.06, 0.96),
        (0.04, 0.84), (0.2, 0.56),
    ]
    c.fill(paint.main, blob(body, (0, 1)))
    c.fill(CHALK, circle(0.5, 0.68, about(rng, 0.2, 0.05)), edge=0.8)
    angles = np.radians(np.arange(8) * 45.0 + rng.uniform(0.0, 45.0))
    holes = [circle(0.5 + 0.135 * np.cos(a), 0.68 + 0.135 * np.sin(a), 0.034) for a in angles]
    c.fill(SLATE, *holes, edge=0.0)
    c.fill(paint.dark, circle(0.5, 0.68, 0.06), edge=0.5)
    receiver = [
        (0.04, 0.2), (0.2, 0.08), (0.5, 0.04), (0.8, 0.08), (0.96, 0.2), (0.99, 0.38),
        (0.76, 0.39), (0.72, 0.25), (0.5, 0.21), (0.28, 0.25), (0.24, 0.39), (0.01, 0.38),
    ]
    c.fill(paint.main, blob(receiver, (5, 6, 10, 11)))


def camera(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A still camera seen from the front."""
    lens = about(rng, 0.21, 0.05)
    c.fill(SLATE, box(0.1, 0.16, 0.24, 0.3, 0.02))
    finder = [(0.34, 0.26), (0.39, 0.11), (0.61, 0.11), (0.66, 0.26)]
    c.fill(paint.main, polygon(finder), box(0.0, 0.25, 1.0, 0.88, 0.07))
    c.fill(paint.dark, box(0.0, 0.72, 1.0, 0.8), edge=0.0)
    c.fill(CHALK, box(0.74, 0.32, 0.92, 0.43, 0.02), edge=0.7)
    c.fill(CRIMSON, circle(0.12, 0.37, 0.03), edge=0.5)
    c.fill(STEEL, circle(0.47, 0.56, lens + 0.045))
    c.fill(BLACK, circle(0.47, 0.56, lens), edge=0.0)
    c.fill((52, 74, 120), circle(0.47, 0.56, lens * 0.62), edge=0.0)
    c.fill(GLASS, ellipse(0.41, 0.5, 0.05, 0.035, -35.0), edge=0.0)


DEVICES: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "clock": clock,
    "television": television,
    "phone": phone,
    "camera": camera,
}

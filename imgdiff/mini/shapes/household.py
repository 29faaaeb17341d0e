"""Furniture, containers and parts of a building."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import (
    arc_path,
    blob,
    box,
    circle,
    ellipse,
    polygon,
    ring,
    tube,
)
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import (
    AMBER,
    BLACK,
    CHALK,
    GLASS,
    LAMPLIGHT,
    SLATE,
    WOOD,
    Paint,
)


def chair(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A dining chair seen from the front and a little to the side."""
    top = about(rng, 0.04, 0.6)
    c.fill(paint.dark, box(0.33, 0.55, 0.4, 0.88), box(0.72, 0.55, 0.79, 0.88), edge=0.8)
    slats = [box(x, top + 0.1, x + 0.075, 0.55) for x in (0.43, 0.5375, 0.645)]
    c.fill(paint.main, *slats, edge=0.7)
    c.fill(paint.main, box(0.31, top, 0.4, 0.58, 0.02), box(0.74, top, 0.83, 0.58, 0.02), edge=0.9)
    c.fill(paint.main, box(0.29, top - 0.01, 0.85, top + 0.13, 0.04))
    c.fill(paint.main, polygon([(0.31, 0.53), (0.83, 0.53), (0.76, 0.68), (0.16, 0.68)]))
    c.fill(paint.dark, box(0.16, 0.68, 0.76, 0.745), edge=0.8)
    c.fill(paint.main, box(0.17, 0.745, 0.26, 0.99), box(0.66, 0.745, 0.75, 0.99))


def table(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A four-legged table seen from slightly above."""
    thick = about(rng, 0.075, 0.15)
    c.fill(paint.deep, box(0.2, 0.5, 0.26, 0.8), box(0.74, 0.5, 0.8, 0.8))
    c.fill(paint.dark, box(0.05, 0.5, 0.13, 0.95), box(0.87, 0.5, 0.95, 0.95))
    c.fill(paint.dark, box(0.05, 0.5, 0.95, 0.58 + thick))
    c.fill(paint.main, polygon([(0.18, 0.2), (0.82, 0.2), (1.0, 0.46), (0.0, 0.46)]))
    c.fill(paint.main, box(0.0, 0.46, 1.0, 0.46 + thick), edge=0.8)
    c.line(paint.dark, [(0.2, 0.29), (0.78, 0.29)], 0.018)
    c.line(paint.dark, [(0.16, 0.38), (0.6, 0.38)], 0.018)


def bed(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A made bed seen from the side."""
    head = about(rng, 0.2, 0.12)
    c.fill(paint.dark, box(0.0, head, 0.09, 0.9, 0.03), box(0.92, 0.46, 1.0, 0.9, 0.03))
    c.fill(paint.dark, box(0.05, 0.7, 0.95, 0.79))
    c.fill(CHALK, box(0.08, 0.54, 0.93, 0.7, 0.03))
    pillow = [(0.09, 0.42), (0.18, 0.36), (0.31, 0.4), (0.33, 0.5), (0.2, 0.56), (0.1, 0.53)]
    c.fill(CHALK, blob(pillow))
    cover = [
        (0.3, 0.5), (0.4, 0.4), (0.7, 0.38), (0.92, 0.43), (0.925, 0.75), (0.6, 0.77), (0.3, 0.75),
    ]
    c.fill(paint.main, blob(cover, (3, 4, 6)))
    fold = [(0.28, 0.5), (0.36, 0.41), (0.46, 0.39), (0.4, 0.53), (0.4, 0.755), (0.28, 0.75)]
    c.fill(paint.light, blob(fold, (4, 5)), edge=0.7)
    c.line(paint.dark, [(0.56, 0.5), (0.56, 0.72)], 0.022)
    c.line(paint.dark, [(0.74, 0.5), (0.74, 0.72)], 0.022)


def sofa(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A two-seater seen from the front."""
    arm = about(rng, 0.4, 0.08)
    c.fill(WOOD, box(0.08, 0.78, 0.16, 0.9), box(0.84, 0.78, 0.92, 0.9))
    c.fill(paint.main, box(0.12, 0.18, 0.88, 0.7, 0.09))
    c.line(paint.deep, [(0.5, 0.22), (0.5, 0.54)], 0.02)
    c.fill(paint.dark, box(0.1, 0.62, 0.9, 0.8))
    cushions = [box(left, 0.52, left + 0.34, 0.66, 0.04) for left in (0.16, 0.5)]
    c.fill(paint.light, *cushions, edge=0.8)
    c.line(paint.ink, [(0.5, 0.54), (0.5, 0.65)], 0.018)
    c.fill(paint.main, box(0.0, arm, 0.19, 0.82, 0.08))
    c.fill(paint.main, box(0.81, arm, 1.0, 0.82, 0.08))


def cup(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A mug with a drink in it."""
    taper = about(rng, 0.06, 0.4)
    c.fill(paint.main, tube(arc_path(0.68, 0.52, 0.26, 0.2, -90.0, 90.0), 0.09))
    body = [
        (0.02, 0.2), (0.74, 0.2), (0.74 - taper, 0.84), (0.62 - taper, 0.94), (0.14 + taper, 0.94),
        (0.02 + taper, 0.84),
    ]
    c.fill(paint.main, blob(body, (0, 1)))
    c.fill(paint.light, ellipse(0.38, 0.2, 0.36, 0.1))
    c.fill((96, 58, 36), ellipse(0.38, 0.22, 0.29, 0.065), edge=0.4)
    stripe = [(0.055, 0.62), (0.715, 0.62), (0.705, 0.7), (0.065, 0.7)]
    c.fill(paint.dark, polygon(stripe), edge=0.0)


def bottle(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A stoppered bottle with a label."""
    shoulder = about(rng, 0.4, 0.07)
    c.fill(WOOD, box(0.42, 0.0, 0.58, 0.12, 0.02))
    outline = [
        (0.4, 0.1), (0.6, 0.1), (0.6, shoulder - 0.12), (0.76, shoulder), (0.78, 0.56),
        (0.78, 0.9), (0.73, 0.98), (0.27, 0.98), (0.22, 0.9), (0.22, 0.56), (0.24, shoulder),
        (0.4, shoulder - 0.12),
    ]
    c.fill(paint.main, blob(outline, (0, 1)))
    c.fill(paint.dark, box(0.39, 0.1, 0.61, 0.155, 0.02), edge=0.7)
    c.fill(paint.visible(CHALK, otherwise=LAMPLIGHT), box(0.22, 0.6, 0.78, 0.82), edge=0.7)
    c.line(paint.deep, [(0.34, 0.67), (0.66, 0.67)], 0.03)
    c.line(paint.deep, [(0.4, 0.75), (0.6, 0.75)], 0.03)
    c.line(paint.light, [(0.33, 0.5), (0.35, 0.42), (0.43, 0.34)], 0.035, smooth=True)


def teapot(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Round, with spout, lid and handle."""
    knob = about(rng, 0.055, 0.2)
    c.fill(paint.main, tube(arc_path(0.76, 0.52, 0.2, 0.2, -100.0, 100.0), 0.075))
    spout = [
        (-0.03, 0.3), (0.09, 0.24), (0.17, 0.38), (0.3, 0.46), (0.32, 0.76), (0.16, 0.66),
        (0.06, 0.44),
    ]
    c.fill(paint.main, blob(spout, (0, 1)))
    c.fill(paint.main, ellipse(0.5, 0.58, 0.3, 0.29))
    c.fill(paint.dark, box(0.33, 0.84, 0.67, 0.91, 0.03), edge=0.8)
    lid = [(0.3, 0.34), (0.36, 0.24), (0.5, 0.2), (0.64, 0.24), (0.7, 0.34), (0.5, 0.37)]
    c.fill(paint.main, blob(lid))
    c.fill(paint.dark, circle(0.5, 0.165, knob))
    dots = [circle(x, y, 0.035) for x, y in ((0.36, 0.58), (0.5, 0.63), (0.64, 0.58))]
    c.fill(paint.light, *dots, edge=0.0)


def basket(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Woven, with an arched handle."""
    height = about(rng, 0.38, 0.06)
    c.fill(paint.main, tube(arc_path(0.5, 0.48, 0.36, height, -180.0, 0.0), 0.075))
    body = polygon([(0.04, 0.48), (0.96, 0.48), (0.84, 0.97), (0.16, 0.97)])
    c.fill(paint.main, body)
    for row, y in enumerate((0.66, 0.77, 0.88)):
        inset = (y - 0.48) * 0.245
        count = 5
        for i in range(count):
            x = 0.09 + inset + (i + 0.5 * (row % 2)) * (0.82 - 2 * inset) / count
            c.fill(paint.deep, box(x, y - 0.025, x + 0.085, y + 0.025, 0.02), edge=0.0)
    c.fill(paint.dark, tube([(0.04, 0.5), (0.96, 0.5)], 0.1))


def lamp(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A table lamp with a wide shade."""
    narrow = about(rng, 0.17, 0.15)
    c.fill(paint.dark, box(0.27, 0.92, 0.73, 0.995, 0.03))
    base = [
        (0.45, 0.5), (0.55, 0.5), (0.56, 0.6), (0.64, 0.74), (0.56, 0.92), (0.44, 0.92),
        (0.36, 0.74), (0.44, 0.6),
    ]
    c.fill(paint.dark, blob(base, (0, 1, 4, 5)))
    c.fill(LAMPLIGHT, circle(0.5, 0.54, 0.07), edge=0.7)
    shade = [(0.5 - narrow, 0.02), (0.5 + narrow, 0.02), (0.94, 0.54), (0.06, 0.54)]
    c.fill(paint.main, polygon(shade))
    rim = [(0.1, 0.485), (0.9, 0.485), (0.935, 0.535), (0.065, 0.535)]
    c.fill(paint.light, polygon(rim), edge=0.0)
    c.line(BLACK, [(0.76, 0.56), (0.76, 0.7)], 0.016)
    c.fill(AMBER, circle(0.76, 0.71, 0.03), edge=0.6)


def door(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Closed and panelled, in its frame."""
    split = about(rng, 0.5, 0.06)
    c.fill(paint.visible(CHALK, otherwise=WOOD), box(0.2, 0.0, 0.8, 1.0, 0.01))
    c.fill(paint.main, box(0.24, 0.04, 0.76, 0.985), edge=0.7)
    for left, right in ((0.31, 0.47), (0.53, 0.69)):
        c.fill(paint.dark, box(left, 0.11, right, split - 0.06), edge=0.5)
        c.fill(paint.dark, box(left, split + 0.08, right, 0.92), edge=0.5)
    c.fill(AMBER, circle(0.69, split + 0.015, 0.04), edge=0.8)


def house(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A cottage with roof, chimney, door and window."""
    peak = about(rng, 0.05, 0.7)
    c.fill(paint.dark, box(0.7, 0.1, 0.82, 0.4))
    wall = [(0.1, 0.5), (0.5, peak + 0.06), (0.9, 0.5), (0.9, 0.98), (0.1, 0.98)]
    c.fill(paint.main, polygon(wall))
    roof = [
        (0.5, peak), (1.02, 0.46), (0.97, 0.53), (0.5, peak + 0.12), (0.03, 0.53), (-0.02, 0.46),
    ]
    c.fill(SLATE, polygon(roof))
    c.fill(WOOD, box(0.2, 0.66, 0.38, 0.98), edge=0.7)
    c.fill(AMBER, circle(0.345, 0.82, 0.02), edge=0.0)
    c.fill(GLASS, box(0.54, 0.62, 0.77, 0.8), edge=0.7)
    c.line(CHALK, [(0.655, 0.625), (0.655, 0.795)], 0.025)
    c.line(CHALK, [(0.545, 0.71), (0.765, 0.71)], 0.025)
    c.fill(GLASS, circle(0.5, peak + 0.3, 0.06), edge=0.7)


def key(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """An old door key: ring, shaft and bit."""
    bit = about(rng, 0.22, 0.12)
    c.fill(
        paint.main,
        *ring(0.24, 0.45, 0.175, 0.13),
        box(0.4, 0.385, 1.0, 0.515, 0.03),
        box(0.71, 0.45, 0.81, 0.45 + bit),
        box(0.88, 0.45, 0.98, 0.49 + bit),
    )
    c.fill(paint.dark, box(0.46, 0.345, 0.52, 0.555, 0.02), edge=0.7)
    c.line(paint.light, [(0.56, 0.42), (0.95, 0.42)], 0.025)


HOUSEHOLD: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "chair": chair,
    "table": table,
    "bed": bed,
    "sofa": sofa,
    "cup": cup,
    "bottle": bottle,
    "teapot": teapot,
    "basket": basket,
    "lamp": lamp,
    "door": door,
    "house": house,
    "key": key,
}

"""Animals."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import (
    arc_path,
    blob,
    circle,
    ellipse,
    polygon,
    smooth_path,
    tube,
    turned,
)
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import AMBER, BLACK, CHALK, CREAM, CRIMSON, ROSE, Paint


def _eye(c: Canvas, x: float, y: float, radius: float) -> None:
    """A dark eye with a glint, which keeps it from reading as a hole."""
    c.fill(CHALK, circle(x, y, radius), edge=0.6)
    c.fill(BLACK, circle(x - radius * 0.15, y, radius * 0.7), edge=0.0)
    c.fill(CHALK, circle(x - radius * 0.3, y - radius * 0.3, radius * 0.25), edge=0.0)


def cat(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Sitting, seen from the front."""
    ear = about(rng, 0.13, 0.2)
    tail = [(0.68, 0.9), (0.88, 0.88), (0.95, 0.72), (0.88, 0.56), (0.93, about(rng, 0.44))]
    c.fill(paint.main, tube(smooth_path(tail), 0.1, 0.08))
    body = [(0.5, 0.42), (0.66, 0.56), (0.76, 0.8), (0.72, 0.97), (0.5, 0.985), (0.28, 0.97)]
    c.fill(paint.main, blob([*body, (0.24, 0.8), (0.34, 0.56)]))
    c.fill(paint.light, ellipse(0.5, 0.68, 0.1, 0.13), edge=0.0)
    paws = [ellipse(x, 0.94, 0.085, 0.05) for x in (0.41, 0.59)]
    c.fill(paint.light, *paws, edge=0.6)
    c.line(paint.ink, [(0.5, 0.78), (0.5, 0.92)], 0.018)
    left = polygon([(0.25, 0.34), (0.23, 0.16 - ear), (0.47, 0.16)])
    right = polygon([(0.75, 0.34), (0.77, 0.16 - ear), (0.53, 0.16)])
    c.fill(paint.main, left, right, ellipse(0.5, 0.33, 0.3, 0.22))
    inner = [(0.29, 0.24), (0.275, 0.22 - ear * 0.8), (0.4, 0.17)]
    c.fill(ROSE, polygon(inner), polygon([(1 - x, y) for x, y in inner]), edge=0.0)
    for side in (-1, 1):
        x = 0.5 + side * 0.13
        c.fill((226, 226, 96), ellipse(x, 0.31, 0.062, 0.066), edge=0.6)
        c.fill(BLACK, ellipse(x, 0.31, 0.024, 0.056), edge=0.0)
        for lift in (0.0, 0.06):
            start = (0.5 + side * 0.1, 0.42 + lift / 2)
            end = (0.5 + side * 0.37, 0.385 + lift * 1.3)
            c.line(paint.ink, [start, end], 0.014)
    c.fill(CHALK, ellipse(0.455, 0.435, 0.06, 0.045), ellipse(0.545, 0.435, 0.06, 0.045), edge=0.0)
    c.fill(ROSE, polygon([(0.455, 0.375), (0.545, 0.375), (0.5, 0.425)]), edge=0.5)


def dog(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Standing, seen from the side."""
    tail = [(0.84, 0.5), (0.95, 0.4), (0.97, about(rng, 0.22))]
    back = [(0.3, 0.44), (0.5, 0.45), (0.78, 0.42), (0.9, 0.52)]
    far_legs = [tube([(x, 0.6), (x, 0.93)], 0.1, 0.09) for x in (0.52, 0.74)]
    c.fill(paint.dark, *far_legs)
    c.fill(
        paint.main,
        tube(smooth_path(tail), 0.1, 0.05),
        blob([*back, (0.87, 0.7), (0.6, 0.72), (0.36, 0.74), (0.3, 0.6)]),
        tube([(0.41, 0.6), (0.41, 0.93)], 0.13, 0.1),
        tube([(0.84, 0.6), (0.84, 0.93)], 0.14, 0.1),
        ellipse(0.36, 0.93, 0.08, 0.045),
        ellipse(0.79, 0.93, 0.08, 0.045),
        ellipse(0.36, 0.28, 0.17, 0.19),
        blob([(0.36, 0.2), (0.2, 0.23), (0.06, 0.28), (0.05, 0.39), (0.2, 0.44), (0.36, 0.44)]),
        polygon([(0.28, 0.38), (0.52, 0.28), (0.58, 0.5), (0.32, 0.58)]),
    )
    c.line(CRIMSON, [(0.3, 0.47), (0.42, 0.5), (0.53, 0.43)], 0.055, smooth=True)
    drop = about(rng, 0.5, 0.08)
    ear = [(0.36, 0.13), (0.47, 0.12), (0.57, 0.28), (0.56, drop - 0.08), (0.47, drop), (0.4, 0.36)]
    c.fill(paint.deep, blob(ear))
    _eye(c, 0.27, 0.235, 0.042)
    c.fill(BLACK, ellipse(0.065, 0.28, 0.055, 0.045), edge=0.5)
    c.line(paint.ink, [(0.09, 0.39), (0.17, 0.375), (0.25, 0.35)], 0.02, smooth=True)


def fish(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Swimming, seen from the side."""
    fork = about(rng, 0.2, 0.2)
    fin = about(rng, 0.16, 0.2)
    tail = [
        (0.68, 0.5), (0.84, 0.44 - fork), (0.98, 0.4 - fork), (0.91, 0.5), (0.98, 0.6 + fork),
        (0.84, 0.56 + fork),
    ]
    c.fill(paint.dark, blob(tail, (2, 4)))
    back_fin = [(0.28, 0.3), (0.44, 0.24 - fin), (0.64, 0.22 - fin * 0.5), (0.66, 0.36)]
    c.fill(paint.dark, blob(back_fin, (2,)))
    c.fill(paint.dark, blob([(0.42, 0.72), (0.5, 0.84), (0.62, 0.86), (0.6, 0.68)], (2,)))
    body = [
        (0.02, 0.5), (0.14, 0.32), (0.38, 0.22), (0.62, 0.32), (0.8, 0.5), (0.62, 0.68),
        (0.38, 0.78), (0.14, 0.68),
    ]
    c.fill(paint.main, blob(body))
    for x in (0.42, 0.54, 0.66):
        reach = 0.15 - (x - 0.42) * 0.2
        scale = [(x, 0.5 - reach), (x + 0.05, 0.5), (x, 0.5 + reach)]
        c.line(paint.dark, scale, 0.025, smooth=True)
    c.fill(paint.ink, tube(arc_path(0.2, 0.5, 0.13, 0.2, -55.0, 55.0), 0.02), edge=0.0)
    c.fill(paint.light, blob([(0.42, 0.54), (0.58, 0.55), (0.6, 0.66), (0.48, 0.64)]), edge=0.6)
    _eye(c, 0.18, 0.43, 0.062)
    c.line(paint.ink, [(0.03, 0.54), (0.08, 0.57), (0.13, 0.56)], 0.02, smooth=True)


def bird(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A perched songbird with a raised tail."""
    lift = about(rng, 0.25, 0.2)
    for x in (0.42, 0.54):
        toes = tube([(x - 0.08, 0.96), (x + 0.05, 0.96)], 0.045)
        c.fill(AMBER, tube([(x, 0.8), (x, 0.95)], 0.045), toes, edge=0.5)
    c.fill(AMBER, polygon([(0.12, 0.24), (-0.04, 0.33), (0.13, 0.38)]))
    c.fill(paint.dark, polygon([(0.66, 0.52), (0.97, lift), (1.04, lift + 0.13), (0.76, 0.7)]))
    body = [
        (0.26, 0.1), (0.4, 0.16), (0.48, 0.32), (0.7, 0.46), (0.8, 0.62), (0.7, 0.78),
        (0.48, 0.86), (0.26, 0.78), (0.14, 0.58), (0.1, 0.34), (0.14, 0.17),
    ]
    c.fill(paint.main, blob(body))
    breast = [(0.16, 0.5), (0.28, 0.55), (0.38, 0.72), (0.44, 0.83), (0.28, 0.76), (0.18, 0.64)]
    c.fill(paint.light, blob(breast), edge=0.0)
    wing = [(0.38, 0.44), (0.58, 0.48), (0.86, 0.68), (0.62, 0.72), (0.42, 0.66)]
    c.fill(paint.dark, blob(wing, (2,)))
    c.line(paint.deep, [(0.5, 0.6), (0.72, 0.66)], 0.02)
    _eye(c, 0.22, 0.27, 0.05)


def rabbit(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Sitting, seen from the side, ears up."""
    length = about(rng, 0.2, 0.12)
    spread = rng.uniform(8.0, 16.0)
    c.fill(CHALK, circle(0.9, 0.74, 0.09))
    far_ear = turned(ellipse(0.4, 0.32 - length, 0.065, length), spread * 2.2, (0.36, 0.4))
    c.fill(paint.dark, far_ear)
    c.fill(
        paint.main,
        ellipse(0.62, 0.7, 0.27, 0.26),
        ellipse(0.44, 0.7, 0.16, 0.22),
        ellipse(0.36, 0.92, 0.13, 0.05),
        ellipse(0.27, 0.47, 0.2, 0.17),
        turned(ellipse(0.3, 0.34 - length, 0.07, length), spread * 0.4, (0.3, 0.4)),
    )
    inner_ear = ellipse(0.3, 0.32 - length, 0.032, length * 0.75)
    c.fill(ROSE, turned(inner_ear, spread * 0.4, (0.3, 0.4)), edge=0.0)
    c.fill(paint.ink, tube(arc_path(0.68, 0.78, 0.17, 0.17, -190.0, -50.0), 0.02), edge=0.0)
    c.fill(paint.main, ellipse(0.62, 0.93, 0.19, 0.055), edge=0.8)
    c.fill(paint.light, ellipse(0.14, 0.54, 0.07, 0.06), edge=0.0)
    _eye(c, 0.23, 0.43, 0.05)
    c.fill(ROSE, ellipse(0.085, 0.485, 0.035, 0.03), edge=0.6)
    c.line(paint.ink, [(0.16, 0.54), (0.34, 0.52)], 0.012)
    c.line(paint.ink, [(0.16, 0.57), (0.33, 0.59)], 0.012)


def turtle(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Walking, seen from the side, with a patterned dome."""
    stretch = about(rng, 0.08, 0.4)
    c.fill(paint.light, polygon([(0.86, 0.66), (1.0, 0.76), (0.84, 0.76)]))
    c.fill(
        paint.light,
        tube([(0.28, 0.72), (0.24, 0.92)], 0.15, 0.14),
        tube([(0.74, 0.72), (0.78, 0.92)], 0.15, 0.14),
    )
    neck = [(0.24, 0.7), (0.12, 0.66), (0.08 - stretch, 0.54)]
    c.fill(paint.light, tube(smooth_path(neck), 0.12), ellipse(0.05 - stretch, 0.5, 0.12, 0.095))
    dome = [
        (0.12, 0.74), (0.16, 0.5), (0.3, 0.3), (0.52, 0.22), (0.74, 0.3), (0.88, 0.5),
        (0.92, 0.74),
    ]
    c.fill(paint.main, blob(dome, (0, 6)))
    plate = [(0.4, 0.34), (0.63, 0.34), (0.71, 0.5), (0.63, 0.64), (0.4, 0.64), (0.32, 0.5)]
    c.fill(paint.deep, polygon(plate), edge=0.0)
    inner_plate = [(0.42, 0.38), (0.61, 0.38), (0.67, 0.5), (0.61, 0.6), (0.42, 0.6), (0.36, 0.5)]
    c.fill(paint.main, polygon(inner_plate), edge=0.0)
    rim = [(0.34, 0.27), (0.7, 0.27), (0.88, 0.5), (0.67, 0.74), (0.37, 0.74), (0.16, 0.5)]
    for start, end in zip(plate, rim, strict=True):
        c.line(paint.deep, [start, end], 0.035)
    c.fill(paint.dark, tube([(0.12, 0.755), (0.92, 0.755)], 0.09), edge=0.8)
    _eye(c, 0.02 - stretch, 0.475, 0.035)
    c.line(paint.ink, [(-0.05 - stretch, 0.545), (0.03 - stretch, 0.55)], 0.018)


def snail(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Gliding, seen from the side, under a coiled shell."""
    reach = about(rng, 0.16, 0.2)
    for x, lean in ((0.1, -0.06), (0.19, 0.03)):
        c.fill(CREAM, tube([(x, 0.55), (x + lean, 0.5 - reach)], 0.045))
        c.fill(BLACK, circle(x + lean, 0.48 - reach, 0.04), edge=0.6)
    foot = [
        (0.06, 0.52), (0.18, 0.48), (0.27, 0.6), (0.32, 0.76), (0.7, 0.8), (0.99, 0.92),
        (0.7, 0.95), (0.22, 0.95), (0.1, 0.88), (0.04, 0.66),
    ]
    c.fill(CREAM, blob(foot, (5,)))
    c.line(paint.ink, [(0.05, 0.68), (0.12, 0.71), (0.16, 0.68)], 0.018, smooth=True)
    c.fill(paint.main, circle(0.59, 0.48, 0.37))
    turns = np.radians(np.linspace(90.0, 90.0 + 360.0 * about(rng, 2.1, 0.08), 40))
    radii = np.linspace(0.34, 0.04, 40)
    coil = np.stack([0.59 + radii * np.cos(turns), 0.48 + radii * np.sin(turns)], axis=1)
    c.fill(paint.deep, tube(coil, 0.05, 0.035), edge=0.0)


def butterfly(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Wings spread, seen from above."""
    top = about(rng, 0.07, 0.6)
    low = about(rng, 0.9, 0.05)
    upper = [(0.52, 0.46), (0.6, 0.22), (0.8, top), (0.98, top + 0.04), (0.98, 0.3), (0.84, 0.5)]
    lower = [(0.52, 0.5), (0.78, 0.5), (0.9, 0.64), (0.84, low - 0.04), (0.7, low), (0.58, 0.72)]
    spots = [(0.83, 0.24, 0.085), (0.72, 0.4, 0.05), (0.74, 0.7, 0.07)]
    for side in (-1, 1):
        # The left half mirrors the right one, which the coordinates are written for.
        c.fill(paint.dark, blob([(0.5 + side * (x - 0.5), y) for x, y in lower]))
        c.fill(paint.main, blob([(0.5 + side * (x - 0.5), y) for x, y in upper]))
        marks = [circle(0.5 + side * (x - 0.5), y, radius) for x, y, radius in spots]
        c.fill(paint.light, *marks, edge=0.0)
        feeler = [(0.5 + side * 0.01, 0.26), (0.5 + side * 0.06, 0.14), (0.5 + side * 0.14, 0.06)]
        c.line(BLACK, feeler, 0.025, smooth=True)
        c.fill(BLACK, circle(*feeler[-1], 0.03), edge=0.0)
    c.fill(BLACK, ellipse(0.5, 0.54, 0.045, 0.27), circle(0.5, 0.27, 0.06), edge=0.3)


def duck(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Floating, seen from the side."""
    tail = about(rng, 0.42, 0.08)
    bill = [(0.16, 0.24), (0.04, 0.27), (-0.06, 0.25), (-0.05, 0.35), (0.06, 0.39), (0.18, 0.36)]
    c.fill(AMBER, blob(bill, (2,)))
    c.line(BLACK, [(-0.04, 0.31), (0.14, 0.31)], 0.015)
    body = [
        (0.2, 0.5), (0.4, 0.5), (0.64, 0.56), (0.84, 0.54), (1.0, tail), (1.0, 0.64), (0.9, 0.84),
        (0.66, 0.94), (0.34, 0.93), (0.14, 0.82), (0.1, 0.64),
    ]
    throat = [(0.2, 0.4), (0.42, 0.38), (0.5, 0.6), (0.16, 0.62)]
    c.fill(paint.main, blob(body, (4,)), circle(0.3, 0.26, 0.2), blob(throat))
    wing = [(0.42, 0.64), (0.6, 0.62), (0.84, 0.68), (0.72, 0.82), (0.54, 0.84), (0.44, 0.76)]
    c.fill(paint.dark, blob(wing, (2,)))
    c.line(paint.deep, [(0.56, 0.75), (0.72, 0.73)], 0.02)
    _eye(c, 0.24, 0.22, 0.05)


ANIMALS: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "cat": cat,
    "dog": dog,
    "fish": fish,
    "bird": bird,
    "rabbit": rabbit,
    "turtle": turtle,
    "snail": snail,
    "butterfly": butterfly,
    "duck": duck,
}

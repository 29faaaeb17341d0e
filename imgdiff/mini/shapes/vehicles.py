"""Vehicles on land, on water and in the air."""

# Coordinate lists keep several points to a line.
# fmt: off
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgdiff.mini.shapes.canvas import Canvas
from imgdiff.mini.shapes.geometry import blob, box, circle, ellipse, polygon, ring, tube
from imgdiff.mini.shapes.jitter import about
from imgdiff.mini.shapes.paint import (
    AMBER,
    BLACK,
    CHALK,
    CRIMSON,
    GLASS,
    LAMPLIGHT,
    SLATE,
    STEEL,
    WOOD,
    Paint,
)


def _wheel(c: Canvas, x: float, y: float, radius: float) -> None:
    c.fill(BLACK, circle(x, y, radius))
    c.fill(STEEL, circle(x, y, radius * 0.5), edge=0.0)
    c.fill(SLATE, circle(x, y, radius * 0.18), edge=0.0)


def car(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A saloon seen from the side."""
    roof = about(rng, 0.26, 0.1)
    radius = about(rng, 0.115, 0.08)
    cabin = [
        (0.2, 0.5), (0.31, roof + 0.02), (0.4, roof), (0.6, roof), (0.68, roof + 0.03),
        (0.82, 0.5),
    ]
    hull = [
        (0.0, 0.5), (0.06, 0.45), (0.22, 0.43), (0.8, 0.44), (0.95, 0.5), (1.0, 0.6), (0.99, 0.72),
        (0.02, 0.72),
    ]
    c.fill(paint.main, blob(cabin, (0, 5)), blob(hull, (6, 7)))
    rear_window = [(0.27, 0.46), (0.35, roof + 0.06), (0.48, roof + 0.06), (0.48, 0.46)]
    c.fill(GLASS, polygon(rear_window), edge=0.6)
    front_window = [(0.53, 0.46), (0.53, roof + 0.06), (0.64, roof + 0.06), (0.74, 0.46)]
    c.fill(GLASS, polygon(front_window), edge=0.6)
    c.line(paint.deep, [(0.505, 0.5), (0.505, 0.68)], 0.015)
    c.line(paint.deep, [(0.55, 0.54), (0.61, 0.54)], 0.025)
    c.fill(LAMPLIGHT, ellipse(0.955, 0.56, 0.035, 0.035), edge=0.6)
    c.fill(CRIMSON, box(0.0, 0.52, 0.04, 0.59, 0.01), edge=0.5)
    _wheel(c, 0.24, 0.73, radius)
    _wheel(c, 0.77, 0.73, radius)


def bus(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A city bus seen from the side: one long box with a row of windows."""
    c.fill(paint.main, box(0.0, 0.16, 1.0, 0.77, 0.06))
    count = int(rng.integers(4, 6))
    pitch = 0.68 / count
    for i in range(count):
        left = 0.05 + i * pitch
        c.fill(GLASS, box(left, 0.26, left + pitch - 0.045, 0.42, 0.015), edge=0.6)
    c.fill(GLASS, box(0.755, 0.26, 0.85, 0.66, 0.015), edge=0.6)
    c.line(paint.ink, [(0.8025, 0.26), (0.8025, 0.66)], 0.012)
    c.fill(GLASS, polygon([(0.9, 0.26), (0.99, 0.26), (0.99, 0.47), (0.9, 0.47)]), edge=0.6)
    c.fill(paint.light, box(0.01, 0.52, 0.74, 0.57), edge=0.0)
    c.fill(LAMPLIGHT, circle(0.96, 0.66, 0.03), edge=0.6)
    radius = about(rng, 0.088, 0.08)
    _wheel(c, 0.22, 0.77, radius)
    _wheel(c, 0.66, 0.77, radius)


def truck(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A lorry seen from the side: tall load box, gap, lower cab."""
    top = about(rng, 0.16, 0.2)
    c.fill(SLATE, box(0.02, 0.7, 0.97, 0.78, 0.02))
    c.fill(paint.main, box(0.0, top, 0.62, 0.71, 0.02))
    for x in (0.155, 0.31, 0.465):
        c.line(paint.dark, [(x, top + 0.05), (x, 0.66)], 0.025)
    cab = [(0.67, 0.3), (0.84, 0.3), (0.92, 0.48), (1.0, 0.53), (1.0, 0.76), (0.67, 0.76)]
    c.fill(paint.main, polygon(cab))
    c.fill(GLASS, polygon([(0.72, 0.35), (0.81, 0.35), (0.88, 0.5), (0.72, 0.5)]), edge=0.6)
    c.fill(LAMPLIGHT, box(0.955, 0.58, 1.0, 0.65, 0.01), edge=0.6)
    c.line(paint.deep, [(0.72, 0.57), (0.77, 0.57)], 0.022)
    radius = about(rng, 0.1, 0.06)
    for x in (0.14, 0.38, 0.83):
        _wheel(c, x, 0.78, radius)


def boat(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A sailing boat seen from the side."""
    mast = about(rng, 0.02, 1.0)
    c.fill(WOOD, tube([(0.5, mast), (0.5, 0.75)], 0.035))
    mainsail = [(0.54, mast + 0.04), (0.76, 0.3), (0.93, 0.64), (0.54, 0.64)]
    c.fill(paint.main, blob(mainsail, (0, 2, 3)))
    c.fill(CHALK, blob([(0.46, mast + 0.1), (0.46, 0.64), (0.14, 0.64), (0.34, 0.36)], (0, 1, 2)))
    c.line(paint.dark, [(0.56, 0.5), (0.85, 0.5)], 0.022)
    c.line(paint.dark, [(0.56, 0.34), (0.76, 0.34)], 0.022)
    hull = [(0.0, 0.7), (1.0, 0.7), (0.92, 0.84), (0.78, 0.97), (0.26, 0.97), (0.1, 0.86)]
    c.fill(paint.main, blob(hull, (0, 1)))
    c.fill(paint.light, polygon([(0.03, 0.72), (0.97, 0.72), (0.94, 0.78), (0.06, 0.78)]), edge=0.0)


def airplane(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """An airliner seen from the side and a little above."""
    sweep = about(rng, 0.3, 0.12)
    far_wing = [(0.44, 0.44), (0.58, 0.44), (0.74, 0.44 - sweep), (0.66, 0.43 - sweep)]
    c.fill(paint.dark, blob(far_wing, (0, 1, 2, 3)))
    c.fill(paint.main, polygon([(0.8, 0.44), (0.91, 0.14), (1.02, 0.14), (0.98, 0.48)]))
    body = [
        (0.0, 0.53), (0.05, 0.45), (0.18, 0.39), (0.5, 0.385), (0.8, 0.4), (1.0, 0.44),
        (0.98, 0.5), (0.8, 0.58), (0.5, 0.63), (0.18, 0.63), (0.05, 0.6),
    ]
    c.fill(paint.main, blob(body))
    c.fill(GLASS, polygon([(0.05, 0.47), (0.14, 0.42), (0.15, 0.49), (0.055, 0.51)]), edge=0.5)
    c.fill(GLASS, *(circle(x, 0.465, 0.024) for x in np.linspace(0.24, 0.76, 8)), edge=0.4)
    c.fill(paint.main, polygon([(0.8, 0.49), (0.9, 0.47), (1.04, 0.63), (0.97, 0.64)]))
    c.fill(SLATE, box(0.4, 0.64, 0.54, 0.73, 0.04))
    near_wing = [(0.36, 0.56), (0.56, 0.55), (0.8, 0.6 + sweep), (0.7, 0.62 + sweep)]
    c.fill(paint.main, polygon(near_wing))


def bicycle(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A city bicycle seen from the side."""
    radius = about(rng, 0.2, 0.05)
    for x in (0.21, 0.79):
        c.fill(paint.main, *ring(x, 0.68, radius, 0.085), edge=0.7)
        for angle in (0.0, np.pi / 3, 2 * np.pi / 3):
            dx, dy = radius * 0.8 * np.cos(angle), radius * 0.8 * np.sin(angle)
            c.line(STEEL, [(x - dx, 0.68 - dy), (x + dx, 0.68 + dy)], 0.016)
        c.fill(BLACK, circle(x, 0.68, 0.035), edge=0.0)
    crank, seat, head = (0.46, 0.7), (0.36, 0.3), (0.68, 0.34)
    bars = [
        [(0.21, 0.68), crank], [crank, seat], [crank, head], [(0.39, 0.4), head],
        [(0.21, 0.68), (0.38, 0.4)], [(0.79, 0.68), (0.66, 0.22)],
    ]
    c.fill(paint.main, *(tube(bar, 0.072) for bar in bars), edge=0.8)
    c.fill(BLACK, tube([(0.25, 0.27), (0.44, 0.27)], 0.075), edge=0.4)
    c.fill(BLACK, tube([(0.66, 0.22), (0.74, 0.18), (0.83, 0.22)], 0.05), edge=0.4)
    c.fill(STEEL, circle(*crank, 0.055), edge=0.6)
    c.line(BLACK, [(0.42, 0.8), (0.5, 0.6)], 0.025)


def train(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """A steam locomotive seen from the side."""
    chimney = about(rng, 0.12, 0.25)
    c.fill(paint.deep, polygon([(0.84, 0.72), (0.94, 0.72), (1.02, 0.93), (0.84, 0.93)]))
    c.fill(paint.dark, polygon([(0.75, 0.38), (0.71, chimney), (0.9, chimney), (0.86, 0.38)]))
    c.line(paint.deep, [(0.73, chimney + 0.04), (0.88, chimney + 0.04)], 0.05)
    dome = [(0.5, 0.38), (0.5, 0.27), (0.565, 0.22), (0.63, 0.27), (0.63, 0.38)]
    c.fill(AMBER, blob(dome, (0, 4)))
    c.fill(paint.main, box(0.36, 0.34, 0.95, 0.72, 0.07))
    c.fill(AMBER, box(0.56, 0.34, 0.595, 0.71), box(0.745, 0.34, 0.78, 0.71), edge=0.0)
    c.fill(paint.main, box(0.04, 0.2, 0.4, 0.76))
    c.fill(paint.dark, box(0.0, 0.12, 0.45, 0.21, 0.03))
    c.fill(GLASS, box(0.12, 0.28, 0.31, 0.45, 0.02), edge=0.7)
    c.fill(paint.dark, box(0.02, 0.72, 0.94, 0.82, 0.02))
    _wheel(c, 0.2, 0.82, 0.135)
    _wheel(c, 0.54, 0.87, about(rng, 0.085, 0.06))
    _wheel(c, 0.77, 0.87, 0.085)
    c.line(STEEL, [(0.2, 0.85), (0.77, 0.88)], 0.035)
    c.fill(LAMPLIGHT, circle(0.95, 0.44, 0.045), edge=0.7)


def rocket(c: Canvas, paint: Paint, rng: np.random.Generator) -> None:
    """Standing on its flame."""
    flame = about(rng, 0.98, 0.02)
    fire = [(0.4, 0.8), (0.6, 0.8), (0.6, 0.88), (0.5, flame + 0.04), (0.4, 0.88)]
    c.fill(AMBER, blob(fire, (3,)), edge=0.7)
    c.fill(LAMPLIGHT, ellipse(0.5, 0.87, 0.045, 0.06), edge=0.0)
    wide = about(rng, 0.26, 0.1)
    for side in (-1, 1):
        fin = [
            (0.5 + side * 0.15, 0.5), (0.5 + side * wide, 0.66),
            (0.5 + side * (wide + 0.02), 0.88), (0.5 + side * 0.12, 0.78),
        ]
        c.fill(paint.main, blob(fin, (2, 3)))
    hull = [
        (0.5, 0.0), (0.63, 0.14), (0.69, 0.36), (0.67, 0.62), (0.6, 0.82), (0.4, 0.82),
        (0.33, 0.62), (0.31, 0.36), (0.37, 0.14),
    ]
    c.fill(paint.main, blob(hull, (0, 4, 5)))
    nose = [(0.5, 0.0), (0.58, 0.07), (0.645, 0.19), (0.5, 0.215), (0.355, 0.19), (0.42, 0.07)]
    c.fill(paint.dark, blob(nose, (0, 2, 4)), edge=0.5)
    c.fill(STEEL, circle(0.5, 0.37, 0.1), edge=0.7)
    c.fill(GLASS, circle(0.5, 0.37, 0.07), edge=0.5)
    c.fill(paint.main, tube([(0.5, 0.64), (0.5, 0.86)], 0.055), edge=0.7)


VEHICLES: dict[str, Callable[[Canvas, Paint, np.random.Generator], None]] = {
    "car": car,
    "bus": bus,
    "truck": truck,
    "boat": boat,
    "airplane": airplane,
    "bicycle": bicycle,
    "train": train,
    "rocket": rocket,
}

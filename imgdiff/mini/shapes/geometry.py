"""Closed outlines in the unit square, from which the object shapes are put together.

Every function returns a float64 array [N 2] of (x, y) points with x to the right and y downward,
both nominally in 0..1.  The last point joins the first.  Lengths are fractions of the unit square
and angles are degrees, clockwise as seen on screen.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
PointList = Sequence[tuple[float, float]]

_CURVE_SAMPLES = 6
_DIAGONAL = 0.5**0.5


@lru_cache(maxsize=64)
def _unit_arc(start: float, end: float, count: int) -> Points:
    angles = np.radians(np.linspace(start, end, count))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@lru_cache(maxsize=8)
def _hermite_basis(samples: int) -> Points:
    """Weights [samples 4] of (start, start tangent, end, end tangent) along one curve piece."""
    t = np.arange(samples) / samples
    return np.stack(
        [2 * t**3 - 3 * t**2 + 1, t**3 - 2 * t**2 + t, -2 * t**3 + 3 * t**2, t**3 - t**2], axis=1
    )


@lru_cache(maxsize=64)
def _ramp(count: int) -> Points:
    return np.linspace(0.0, 1.0, count)


def polygon(points: PointList) -> Points:
    """Straight-edged outline through `points`."""
    return np.array(points, dtype=np.float64)


def box(x0: float, y0: float, x1: float, y1: float, radius: float = 0.0) -> Points:
    """Axis-aligned rectangle with corners rounded by `radius`."""
    if radius <= 0.0:
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)
    radius = min(radius, abs(x1 - x0) / 2, abs(y1 - y0) / 2)
    outline = radius * _unit_arc(0.0, 360.0, 20)
    outline[:5] += (x1 - radius, y1 - radius)
    outline[5:10] += (x0 + radius, y1 - radius)
    outline[10:15] += (x0 + radius, y0 + radius)
    outline[15:] += (x1 - radius, y0 + radius)
    return outline


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Points:
    """Ellipse about (cx, cy) with half axes rx and ry, turned by `angle`."""
    # The closing point is left out: a doubled vertex has no direction to push the edge line along.
    outline = _unit_arc(0.0, 360.0, 33)[:-1] * (rx, ry)
    if angle:
        outline = turned(outline, angle)
    return np.add(outline, (cx, cy))


def circle(cx: float, cy: float, radius: float) -> Points:
    """Circle about (cx, cy)."""
    return ellipse(cx, cy, radius, radius)


def turned(points: Points, angle: float, centre: tuple[float, float] = (0.0, 0.0)) -> Points:
    """`points` rotated by `angle` about `centre`."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    result: Points = (points - centre) @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    return result


def blob(points: PointList, corners: Sequence[int] = ()) -> Points:
    """Smooth closed curve through `points`; those with an index in `corners` stay sharp."""
    knots = np.array(points, dtype=np.float64)
    following = np.concatenate([knots[1:], knots[:1]])
    preceding = np.concatenate([knots[-1:], knots[:-1]])
    tangents = 0.5 * (following - preceding)
    if corners:
        tangents[list(corners)] = 0.0
    next_tangents = np.concatenate([tangents[1:], tangents[:1]])
    pieces = np.stack([knots, tangents, following, next_tangents], axis=1)
    curve: Points = _hermite_basis(_CURVE_SAMPLES) @ pieces
    return curve.reshape(-1, 2)


def smooth_path(points: PointList) -> Points:
    """Smooth open curve through `points`, to be given to `tube`."""
    knots = np.array(points, dtype=np.float64)
    tangents = np.empty_like(knots)
    tangents[1:-1] = 0.5 * (knots[2:] - knots[:-2])
    tangents[0] = knots[1] - knots[0]
    tangents[-1] = knots[-1] - knots[-2]
    pieces = np.stack([knots[:-1], tangents[:-1], knots[1:], tangents[1:]], axis=1)
    curve: Points = _hermite_basis(_CURVE_SAMPLES) @ pieces
    return np.concatenate([curve.reshape(-1, 2), knots[-1:]])


def arc_path(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> Points:
    """Part of an ellipse from angle `start` to `end`, to be given to `tube`."""
    return _unit_arc(start, end, 24) * (rx, ry) + (cx, cy)


def tube(path: Points | PointList, width: float, end_width: float | None = None) -> Points:
    """Band of `width` (tapering to `end_width`) that follows an open path, with round ends."""
    line = np.asarray(path, dtype=np.float64)
    steps = line[1:] - line[:-1]
    steps = steps / np.maximum(np.hypot(steps[:, 0], steps[:, 1]), 1e-9)[:, None]
    along = np.concatenate([steps[:1], steps[:-1] + steps[1:], steps[-1:]])
    along = along / np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    last_width = width if end_width is None else end_width
    half = (0.5 * width + 0.5 * (last_width - width) * _ramp(len(line)))[:, None]
    tip = line[-1] + half[-1] * along[-1]
    tail = line[0] - half[0] * along[0]
    side = half * across
    # Three points round each end: the tip and, halfway to it, the two shoulders of a circle.
    diagonal = _DIAGONAL * half[-1] * along[-1], _DIAGONAL * half[-1] * across[-1]
    last = line[-1] + diagonal[0] + diagonal[1], tip, line[-1] + diagonal[0] - diagonal[1]
    diagonal = _DIAGONAL * half[0] * along[0], _DIAGONAL * half[0] * across[0]
    first = line[0] - diagonal[0] - diagonal[1], tail, line[0] - diagonal[0] + diagonal[1]
    return np.concatenate([line + side, last, (line - side)[::-1], first])


def ring(cx: float, cy: float, radius: float, width: float) -> tuple[Points, Points]:
    """Circular band of `width` with an open inside, as two overlapping halves.

    One outline could only go round a hole along a slit, which the edge line would trace.
    """
    halves = [arc_path(cx, cy, radius, radius, start, start + 180.0) for start in (0.0, 180.0)]
    return tube(halves[0], width), tube(halves[1], width)

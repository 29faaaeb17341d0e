"""Textured grounds of the procedural world, in muted colours so that objects stand out."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

GROUNDS = ("plain", "shaded", "striped", "checkered", "dotted", "speckled")
_LIGHT = np.array(
    [
        (236, 228, 210), (214, 226, 236), (222, 236, 216), (240, 220, 220), (228, 220, 240),
        (232, 232, 226), (216, 236, 234), (244, 234, 200), (205, 214, 222), (225, 205, 190),
    ],
    dtype=np.float64,
)  # fmt: skip


def draw_ground(kind: str, size_px: int, rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """A square texture of one of GROUNDS; equal rng states give equal bytes."""
    base = _LIGHT[rng.integers(len(_LIGHT))] * rng.uniform(0.86, 1.02)
    other = base * rng.uniform(0.80, 0.90)
    mix = _MIXES[kind](size_px, rng)
    pixels = base + (other - base) * mix[..., None]
    grain = rng.normal(0.0, 1.5, size=(size_px, size_px, 1))
    return np.asarray(np.clip(pixels + grain, 0, 255), dtype=np.uint8)


def _coordinates(size_px: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rotated pixel coordinates, so that no texture is locked to the grid."""
    angle = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[0:size_px, 0:size_px].astype(np.float64)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    return along + rng.uniform(0, 64), across + rng.uniform(0, 64)


def _plain(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    return np.full((size_px, size_px), rng.uniform(0, 0.2))


def _shaded(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    along, _ = _coordinates(size_px, rng)
    along -= along.min()
    return np.asarray(along / along.max() * 1.8)


def _striped(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    along, _ = _coordinates(size_px, rng)
    return _soft_step(np.sin(along * 2 * np.pi / rng.uniform(12, 22)))


def _checkered(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    along, across = _coordinates(size_px, rng)
    period = rng.uniform(20, 32)
    return _soft_step(np.sin(along * 2 * np.pi / period) * np.sin(across * 2 * np.pi / period) * 3)


def _dotted(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    along, across = _coordinates(size_px, rng)
    period = rng.uniform(13, 19)
    lattice = np.cos(along * 2 * np.pi / period) + np.cos(across * 2 * np.pi / period)
    return _soft_step((lattice - 1.0) * 1.5)


def _speckled(size_px: int, rng: np.random.Generator) -> Float[np.ndarray, "S S"]:
    coarse = rng.random((size_px // 2, size_px // 2))
    return np.asarray(np.kron(coarse, np.ones((2, 2))) ** 2)


def _soft_step(wave: Float[np.ndarray, "S S"]) -> Float[np.ndarray, "S S"]:
    """A step at 0 about one pixel wide: anti-aliased edges without supersampling."""
    return np.asarray(np.clip(wave * 3 + 0.5, 0, 1))


_MIXES = {
    "plain": _plain,
    "shaded": _shaded,
    "striped": _striped,
    "checkered": _checkered,
    "dotted": _dotted,
    "speckled": _speckled,
}

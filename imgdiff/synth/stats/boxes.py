"""Sizes, places and shapes of boxes, for all that were proposed and for those that were kept."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from imgdiff.synth.stats.frames import Frames
from imgdiff.synth.stats.histogram import AREAS, ASPECTS, Grid, Histogram
from imgdiff.synth.stats.reading import Batch

CORNERS = ("left", "top", "right", "bottom")


class Boxes:
    """Box area as a share of the image, width over height, and where the centres lie."""

    def __init__(self) -> None:
        self.number = 0
        self.areas = Histogram(AREAS)
        self.aspects = Histogram(ASPECTS)
        self.centres = Grid()

    def add(
        self, corners_N4: Float64[np.ndarray, "N 4"], frames_N2: Float64[np.ndarray, "N 2"]
    ) -> None:
        """Count boxes (xyxy pixels) of images of these sizes (width, height)."""
        left, top, right, bottom = corners_N4.T
        width, height = frames_N2.T
        wide, high = np.maximum(right - left, 0.0), np.maximum(bottom - top, 0.0)
        self.number += len(corners_N4)
        self.areas.add(wide * high / (width * height))
        shaped = (wide > 0) & (high > 0)
        self.aspects.add(wide[shaped] / high[shaped])
        self.centres.add((left + right) / 2 / width, (top + bottom) / 2 / height)


class BoxCounts:
    """The boxes of one table."""

    def __init__(self, key: str, title: str, limits: tuple[float | None, float | None]) -> None:
        """`limits` are the smallest and the largest accepted share of the image."""
        self.key, self.title, self.limits = key, title, limits
        self.proposed, self.kept = Boxes(), Boxes()

    def add(self, batch: Batch, kept_N: Bool[np.ndarray, " N"], frames: Frames) -> None:
        """Count a batch with the columns pair_id and CORNERS."""
        corners_N4 = np.stack([batch.numbers(name) for name in CORNERS], axis=1)
        frames_N2 = frames.of(*batch.coded("pair_id"))
        self.proposed.add(corners_N4, frames_N2)
        self.kept.add(corners_N4[kept_N], frames_N2[kept_N])

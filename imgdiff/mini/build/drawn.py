"""Scenes drawn into memory: small counts without the thousands that a bank draws at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from imgdiff.core.identity import seed_for
from imgdiff.mini.scene import SCENE_PX, Scene, Split, draw_scene, sample_scene


@runtime_checkable
class Scenes(Protocol):
    """Drawn scenes, as `SceneBank` keeps them."""

    @property
    def scenes(self) -> Sequence[Scene]:
        """What each one shows."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Pixels of one scene."""

    def instance_map(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """0 for ground, k+1 for object k."""


class DrawnScenes:
    """Given scenes, drawn; `Scenes`."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = tuple(scenes)
        drawings = [draw_scene(scene) for scene in self.scenes]
        self._images = [np.asarray(drawing.image) for drawing in drawings]
        self._instances = []
        for drawing in drawings:
            owners_HW = np.zeros((SCENE_PX, SCENE_PX), dtype=np.uint8)
            for number, mask in enumerate(drawing.masks):
                owners_HW[mask] = number + 1
            self._instances.append(owners_HW)

    def __len__(self) -> int:
        return len(self.scenes)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Pixels of one scene."""
        return self._images[index]

    def instance_map(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """0 for ground, k+1 for object k."""
        return self._instances[index]


def sampled(split: Split, count: int, seed: int = 0) -> DrawnScenes:
    """`count` scenes of a split; scene k depends on (seed, split, k) alone."""
    rngs = (
        np.random.default_rng(seed_for(seed, f"{split.value}-{k}", "held-out"))
        for k in range(count)
    )
    return DrawnScenes([sample_scene(rng, split) for rng in rngs])

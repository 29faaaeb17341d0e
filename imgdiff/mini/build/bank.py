"""Pre-drawn scenes on disk, so that training reads pixels instead of drawing them again."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from imgdiff.core.files import atomic_path, write_json
from imgdiff.core.identity import fingerprint, image_id, seed_for
from imgdiff.mini.grounds import GROUNDS, draw_ground
from imgdiff.mini.scene import SCENE_PX, Scene, SceneObject, Split, draw_scene, sample_scene
from imgdiff.mini.shapes import CATEGORIES, draw_object

BANK_VERSION = 2
SPECIMEN_PX = 48
CHUNK = 2_000
SPECIMEN_SCENES = 32
Sampler = Callable[[np.random.Generator, Split], Scene]  # a function of a module


class SceneBank:
    """`count` scenes of a split: pixels and instance maps memory-mapped, scenes in memory.

    `images` is uint8 [N H W 3]; `instances` is uint8 [N H W], 0 for ground and k+1 for object k.
    `sampler` draws the scenes of a part of the world instead of all of it.
    """

    def __init__(
        self,
        folder: Path,
        split: Split,
        count: int,
        seed: int = 0,
        sampler: Sampler = sample_scene,
    ) -> None:
        self.scenes: list[Scene] = []
        starts = range(0, count, CHUNK)
        parts = [_chunk_folder(folder, split, seed, start, sampler) for start in starts]
        _draw_missing(
            [(part, split, seed, start, sampler) for part, start in zip(parts, starts, strict=True)]
        )
        self._images = [np.load(part / "images.npy", mmap_mode="r") for part in parts]
        self._instances = [np.load(part / "instances.npy", mmap_mode="r") for part in parts]
        for part in parts:
            rows = json.loads((part / "scenes.json").read_text())
            self.scenes.extend(_scene_from(row) for row in rows)
        self.scenes = self.scenes[:count]

    def __len__(self) -> int:
        return len(self.scenes)

    def image(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Pixels of one scene."""
        return np.asarray(self._images[index // CHUNK][index % CHUNK])

    def instance_map(self, index: int) -> UInt8[np.ndarray, "H W"]:
        """Which object covers each pixel of one scene."""
        return np.asarray(self._instances[index // CHUNK][index % CHUNK])


def _chunk_folder(folder: Path, split: Split, seed: int, start: int, sampler: Sampler) -> Path:
    key: list[object] = [BANK_VERSION, world_fingerprint(), split, seed, start, CHUNK]
    if sampler is not sample_scene:
        rngs = map(np.random.default_rng, range(SPECIMEN_SCENES))
        key += [str(sampler(rng, split)) for rng in rngs]
    return folder / f"bank-{fingerprint(*key)}"


@functools.lru_cache(maxsize=1)
def world_fingerprint() -> str:
    """Changes with anything that changes how scenes are drawn: a bank of an older world is stale.

    Draws every category and every ground once, and samples some scenes.
    """
    seen: list[str] = []
    for number, category in enumerate(CATEGORIES):
        sprite = draw_object(category, "red", SPECIMEN_PX, np.random.default_rng(number))
        seen.append(image_id(Image.fromarray(sprite.rgba)))
    for number, ground in enumerate(GROUNDS):
        pixels = draw_ground(ground, SPECIMEN_PX, np.random.default_rng(number))
        seen.append(image_id(Image.fromarray(pixels)))
    for split in Split:
        scene = sample_scene(np.random.default_rng(0), split)
        seen += [str(scene), image_id(draw_scene(scene).image)]
    return fingerprint(seen)


def _draw_missing(jobs: Sequence[tuple[Path, Split, int, int, Sampler]]) -> None:
    missing = [job for job in jobs if not (job[0] / "scenes.json").exists()]
    if not missing:
        return
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for _ in pool.imap_unordered(_draw_chunk, missing):
            pass


def _draw_chunk(job: tuple[Path, Split, int, int, Sampler]) -> None:
    """Draw CHUNK scenes; scenes.json is written last and marks the chunk as whole."""
    part, split, seed, start, sampler = job
    images = np.zeros((CHUNK, SCENE_PX, SCENE_PX, 3), dtype=np.uint8)
    instances = np.zeros((CHUNK, SCENE_PX, SCENE_PX), dtype=np.uint8)
    scenes = []
    for row in range(CHUNK):
        rng = np.random.default_rng(seed_for(seed, f"{split.value}-{start + row}", "bank"))
        scene = sampler(rng, split)
        drawing = draw_scene(scene)
        images[row] = np.asarray(drawing.image)
        for number, mask in enumerate(drawing.masks):
            instances[row][mask] = number + 1
        scenes.append(dataclasses.asdict(scene))
    for name, array in (("images.npy", images), ("instances.npy", instances)):
        with atomic_path(part / name) as temporary, temporary.open("wb") as handle:
            np.save(handle, array)
    write_json(part / "scenes.json", scenes)


def _scene_from(row: dict[str, object]) -> Scene:
    objects = tuple(SceneObject(**item) for item in row["objects"])  # type: ignore[attr-defined]
    return Scene(
        objects=objects, ground=str(row["ground"]), ground_seed=int(str(row["ground_seed"]))
    )

"""What the mini LLaVA sees: scenes with red boxes, on larger canvases, and collages of two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from imgdiff.core.images import DIVIDER_PX, side_by_side
from imgdiff.mini.build.views import MEAN_COLOUR, Shot
from imgdiff.mini.build.vlm_parts import patch_labels
from imgdiff.mini.red_boxes import with_red_boxes
from imgdiff.mini.scene import SCENE_PX

IMAGE_PX, PATCH_PX = 192, 16
GRID = IMAGE_PX // PATCH_PX
FRAMED_SHARE = 0.5  # of images on a larger canvas: the tower meets objects at many scales
FRAME_PX = (SCENE_PX, 276)
FRAME_COLOURS = (MEAN_COLOUR, (0, 0, 0), (255, 255, 255), (200, 200, 200))


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the model sees of a scene, and what is where in its square image.

    `boxed` are the objects with a red box, from left to right; `in_box` is 1 inside of one.
    """

    shot: Shot
    boxed: tuple[int, ...]
    image: Image.Image
    owners: UInt8[np.ndarray, "S S"]
    in_box: UInt8[np.ndarray, "S S"]


def look(source: Shot, boxed: tuple[int, ...], rng: np.random.Generator) -> Look:
    """The scene with its red boxes, or (FRAMED_SHARE) that on a larger plain canvas."""
    layers = layers_of(source, boxed, rng)
    if rng.random() < FRAMED_SHARE:
        layers = framed(layers, rng)
    image, owners, inside = layers
    return Look(
        shot=source, boxed=boxed, image=image, owners=squared(owners), in_box=squared(inside)
    )


def layers_of(source: Shot, boxed: tuple[int, ...], rng: np.random.Generator) -> list[Image.Image]:
    """The scene with red boxes around some objects, its owner map, and what lies in the boxes."""
    boxes = [source.box(k) for k in boxed]
    inside = Image.new("L", source.image.size)
    for box in boxes:
        ImageDraw.Draw(inside).rectangle(box.as_tuple(), fill=1)
    return [with_red_boxes(source.image, boxes, rng), source.owners, inside]


def collage(
    sources: Sequence[Shot], boxed: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> tuple[Look, ...]:
    """One image of two scenes, once for each of them: its maps are empty on the other side."""
    drawn = [layers_of(source, marked, rng) for source, marked in zip(sources, boxed, strict=True)]
    image = side_by_side([layers[0] for layers in drawn])
    looks = []
    for number, (_, *maps) in enumerate(drawn):
        canvases = [Image.new("L", image.size) for _ in maps]
        for canvas, layer in zip(canvases, maps, strict=True):
            canvas.paste(layer, (number * (SCENE_PX + DIVIDER_PX), 0))
        owners, inside = (squared(canvas) for canvas in canvases)
        looks.append(
            Look(
                shot=sources[number],
                boxed=boxed[number],
                image=image,
                owners=owners,
                in_box=inside,
            )
        )
    return tuple(looks)


def merged_labels(seen: Sequence[Look]) -> Int[Tensor, "4 P"]:
    """Patch labels of one image; of a collage each half by its own scene."""
    owners = np.stack([part.owners for part in seen])
    labels = patch_labels(owners, [part.shot.scene for part in seen], GRID)
    if len(seen) == 1:
        return labels[:, 0]
    in_left = torch.arange(GRID * GRID) % GRID < GRID // 2
    return torch.where(in_left, labels[:, 0], labels[:, 1])


def framed(layers: Sequence[Image.Image], rng: np.random.Generator) -> list[Image.Image]:
    """The first layer at a random place of a larger plain canvas, the others on zeros alike."""
    wide, high = (int(v) for v in rng.integers(FRAME_PX[0], FRAME_PX[1] + 1, size=2))
    place = (int(rng.integers(wide - SCENE_PX + 1)), int(rng.integers(high - SCENE_PX + 1)))
    colour = FRAME_COLOURS[int(rng.integers(len(FRAME_COLOURS)))]
    canvases = [Image.new("RGB", (wide, high), colour)]
    canvases += [Image.new("L", (wide, high)) for _ in layers[1:]]
    for canvas, layer in zip(canvases, layers, strict=True):
        canvas.paste(layer, place)
    return canvases


def squared(layer: Image.Image) -> UInt8[np.ndarray, "S S"]:
    """A map in the frame of the model's square image: padded and scaled as the processor does."""
    side = max(layer.size)
    canvas = Image.new("L", (side, side))
    canvas.paste(layer, ((side - layer.width) // 2, (side - layer.height) // 2))
    return np.asarray(canvas.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.NEAREST))

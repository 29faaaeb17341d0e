"""InternVL2's dynamic tiling: an image as square views, from a grid that suits its shape.

As OpenGVLab/InternVL does it (internvl_chat: train/dataset.py `dynamic_preprocess`,
`find_closest_aspect_ratio`, `build_transform`), bit for bit. Plain Pillow: it is as long as
setting up transformers' GotOcr2ImageProcessorPil, which gives the same pixels, and needs no
second statement of the grid to count tokens from sizes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.core.errors import ConfigError, DataError

TRAINING_TILES = 6  # max_dynamic_patch of the authors' fine-tuning scripts
INFERENCE_TILES = 12  # and of their inference code
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Grid = tuple[int, int]  # columns, rows


def check_max_tiles(max_tiles: int) -> None:
    """ConfigError unless at least one tile is allowed."""
    if max_tiles < 1:
        raise ConfigError(
            f"max_tiles={max_tiles}: an image needs at least one tile. The authors train with "
            f"{TRAINING_TILES} and ask with up to {INFERENCE_TILES}."
        )


def tiles_per_image(max_tiles: int, images: int) -> int:
    """How many tiles each image of one sample may take: the sample's share, at least one."""
    return max(1, max_tiles // max(1, images))


@functools.lru_cache(maxsize=65536)
def grid_of(width: int, height: int, max_tiles: int, view_px: int) -> Grid:
    """The grid whose shape is nearest to that of an image of `width` x `height` pixels.

    Of equally near ones (2x1 and 4x2) the larger, if the image has more than half its pixels.
    """
    if width < 1 or height < 1:
        raise DataError(f"an image of {width} x {height} pixels cannot be shown")
    chosen, nearest = (1, 1), float("inf")
    for columns, rows in _grids(max_tiles):
        distance = abs(width / height - columns / rows)
        fills = width * height > 0.5 * view_px * view_px * columns * rows
        if distance < nearest or (distance == nearest and fills):
            chosen, nearest = (columns, rows), distance
    return chosen


@functools.lru_cache(maxsize=64)
def _grids(max_tiles: int) -> tuple[Grid, ...]:
    """All grids of at most `max_tiles` tiles, fewest first.

    Among grids of equally many tiles the order decides nothing: between two shapes of one size
    there is always a nearer third (tested).
    """
    sides = range(1, max_tiles + 1)
    grids = ((columns, rows) for columns in sides for rows in sides if columns * rows <= max_tiles)
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def count_views(width: int, height: int, max_tiles: int, view_px: int) -> int:
    """How many views `split` makes of an image of this size: tiles, and a thumbnail if several."""
    columns, rows = grid_of(width, height, max_tiles, view_px)
    tiles = columns * rows
    return tiles + 1 if tiles > 1 else 1


def split(image: Image.Image, max_tiles: int, view_px: int) -> list[Image.Image]:
    """Square RGB views of side `view_px`: the tiles row by row, then the whole image if several."""
    picture = image.convert("RGB")
    columns, rows = grid_of(*picture.size, max_tiles, view_px)
    whole = picture.resize((columns * view_px, rows * view_px), Image.Resampling.BICUBIC)
    corners = [(x * view_px, y * view_px) for y in range(rows) for x in range(columns)]
    views = [whole.crop((x, y, x + view_px, y + view_px)) for x, y in corners]
    if len(views) > 1:
        views.append(picture.resize((view_px, view_px), Image.Resampling.BICUBIC))
    return views


def normalised(views: Sequence[Image.Image], view_px: int) -> Float[Tensor, "K 3 S S"]:
    """Views (RGB, side S = view_px) as ImageNet-normalised float32."""
    if not views:
        return torch.zeros(0, 3, view_px, view_px)
    grey_KSS3 = torch.from_numpy(np.stack([np.asarray(view) for view in views]))
    unit_K3SS = grey_KSS3.permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return unit_K3SS.sub(mean).div(std).contiguous()

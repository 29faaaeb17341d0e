"""Normalised views turned back into pictures, laid out as they were cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends.readers import Grid, Reader

GAP_PX = 6  # between tiles
WHOLE_GAP_PX = 24  # before the view of the whole image
GROUND = (255, 255, 255)
LEVELS = 255


def pictures_of(
    views: Float[Tensor, "K 3 S S"], grids: Sequence[Grid], reader: Reader
) -> tuple[Image.Image, ...]:
    """One picture per image of a sample: its view, or its tiles and then the whole."""
    shown = iter(_images(views, reader))
    return tuple(_laid_out(shown, grid, reader.view_px) for grid in grids)


def _images(views: Float[Tensor, "K 3 S S"], reader: Reader) -> Iterator[Image.Image]:
    """The views as 8-bit RGB.

    What normalising did is read off the reader itself: it is linear in each channel, so a black
    and a white image tell all of it.
    """
    black, white = (
        reader.views([Image.new("RGB", (reader.view_px,) * 2, colour)])[0, :, :1, :1]
        for colour in ("black", "white")
    )
    levels = ((views - black) / (white - black) * LEVELS).round().clamp(0, LEVELS)
    for view in levels.to(torch.uint8):
        yield Image.fromarray(view.permute(1, 2, 0).contiguous().numpy())


def _laid_out(views: Iterator[Image.Image], grid: Grid, side: int) -> Image.Image:
    columns, rows = grid
    if columns * rows == 1:
        return next(views)
    step = side + GAP_PX
    width = columns * step - GAP_PX
    canvas = Image.new("RGB", (width + WHOLE_GAP_PX + side, rows * step - GAP_PX), GROUND)
    for row in range(rows):
        for column in range(columns):
            canvas.paste(next(views), (column * step, row * step))
    canvas.paste(next(views), (width + WHOLE_GAP_PX, 0))
    return canvas

"""Pixels as a transformers image processor gives them, bit for bit, at a fraction of its time.

A processor scales and normalises every number of an image in three passes over float arrays, which
takes longer than to resize the image. There are only 256 values a channel: they are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch import Tensor

from imgdiff.core.images import to_rgb

CHANNELS, VALUES = 3, 256
_RAW = {"do_rescale": False, "do_normalize": False}
_SAME_SIZE = {"do_resize": False, "do_center_crop": False}


class PixelReader:
    """What `processor(images)` gives for RGB images, all of one size after it.

    Resizing and cropping are the processor's own; so is the table, which is what it makes of an
    image that holds each value once.
    """

    def __init__(self, processor: Any) -> None:
        """`processor` is of transformers' PIL kind, which works on 8-bit arrays."""
        self._processor = processor
        self._table_CV = _table(processor)

    def __call__(self, images: Sequence[Image.Image]) -> Float[Tensor, "N 3 H W"]:
        """float32 pixels of one image or more, in their order."""
        rgb = [to_rgb(image) for image in images]
        raw = self._processor(images=rgb, return_tensors="np", **_RAW)["pixel_values"]
        pixels_NCHW = np.empty((len(rgb), *raw[0].shape), dtype=np.float32)
        for row_CHW, raw_CHW in zip(pixels_NCHW, raw, strict=True):
            for plane_HW, values_HW, table_V in zip(row_CHW, raw_CHW, self._table_CV, strict=True):
                # `clip` only spares NumPy a copy: no value lies outside
                np.take(table_V, values_HW, out=plane_HW, mode="clip")
        return torch.from_numpy(pixels_NCHW)


def _table(processor: Any) -> Float32[np.ndarray, "3 256"]:
    """What the processor makes of each value of each channel."""
    # 16 x 16, since an image one or three pixels high may be read as channels first
    values_HW = np.arange(VALUES, dtype=np.uint8).reshape(16, 16)
    grey = Image.fromarray(np.stack([values_HW] * CHANNELS, axis=-1))
    made = processor(images=[grey], return_tensors="np", **_SAME_SIZE)["pixel_values"]
    return np.asarray(made, dtype=np.float32).reshape(CHANNELS, VALUES)

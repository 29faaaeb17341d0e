"""Pixels as a transformers image processor gives them, bit for bit, at a fraction of its time.

A processor scales and normalises every number of an image in three passes over float arrays, which
takes longer than to resize the image. There are only 256 values a channel: they are looked up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor

from imgdiff.backends.runtime import threads_beside_model
from imgdiff.core.ahead import in_threads
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
        """float32 pixels of one image or more, in their order.

        Several threads share the images where `runtime.threads_beside_model` allows it.
        """
        rgb = [to_rgb(image) for image in images]
        for image in rgb:
            image.load()  # here, since a batch may hold one image for two threads
        threads = threads_beside_model()
        each = math.ceil(len(rgb) / threads)
        starts = range(0, len(rgb), each)
        raws = in_threads([rgb[at : at + each] for at in starts], self._raw, threads)
        pixels_NCHW = np.empty((len(rgb), *raws[0][0].shape), dtype=np.float32)
        rows = [pixels_NCHW[at : at + each] for at in starts]
        in_threads(list(zip(rows, raws, strict=True)), self._look_up, threads)
        return torch.from_numpy(pixels_NCHW)

    def _raw(self, images: Sequence[Image.Image]) -> Sequence[UInt8[np.ndarray, "3 H W"]]:
        """Resized and cropped."""
        made = self._processor(images=images, return_tensors="np", **_RAW)["pixel_values"]
        return list(made)

    def _look_up(
        self,
        share: tuple[Float32[np.ndarray, "n 3 H W"], Sequence[UInt8[np.ndarray, "3 H W"]]],
    ) -> None:
        """Fill pixels from values."""
        for row_CHW, raw_CHW in zip(*share, strict=True):
            for plane_HW, values_HW, table_V in zip(row_CHW, raw_CHW, self._table_CV, strict=True):
                # `clip` only spares NumPy a copy: no value lies outside
                np.take(table_V, values_HW, out=plane_HW, mode="clip")


def _table(processor: Any) -> Float32[np.ndarray, "3 256"]:
    """What the processor makes of each value of each channel."""
    # 16 x 16, since an image one or three pixels high may be read as channels first
    values_HW = np.arange(VALUES, dtype=np.uint8).reshape(16, 16)
    grey = Image.fromarray(np.stack([values_HW] * CHANNELS, axis=-1))
    made = processor(images=[grey], return_tensors="np", **_SAME_SIZE)["pixel_values"]
    return np.asarray(made, dtype=np.float32).reshape(CHANNELS, VALUES)

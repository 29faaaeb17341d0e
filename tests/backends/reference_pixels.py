"""What the authors' code makes of an image, restated with Pillow and NumPy.

From llava/mm_utils.py (`expand2square`) and CLIPImageProcessor of transformers 4.37.2: the shortest
edge resized with Pillow's bicubic filter (a centre crop then takes nothing off a square), uint8
times float in float64 and then float32, minus mean and over standard deviation in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def square(image: Image.Image) -> Image.Image:
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), tuple(int(part * 255) for part in MEAN))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def pixels(image: Image.Image, side_px: int) -> np.ndarray[Any, Any]:
    """3 x S x S, float32."""
    small = square(image).resize((side_px, side_px), Image.Resampling.BICUBIC)
    scaled = (np.asarray(small) * (1 / 255)).astype(np.float32)
    mean, std = np.array(MEAN, dtype=np.float32), np.array(STD, dtype=np.float32)
    return ((scaled - mean) / std).transpose(2, 0, 1)

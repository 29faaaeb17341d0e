"""Opening untrusted image files as plain RGB, and laying pairs side by side."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from imgdiff.core.errors import DataError
from imgdiff.core.files import atomic_path
from imgdiff.core.geometry import Box

DIVIDER_PX = 20
MAX_PIXELS = 89_478_485  # Pillow's own warning limit: 256 MiB of RGB
BYTE_MAX = 255.0
WORD_MAX = 65535.0
RED = (255, 0, 0)
_FILTERS = threading.Lock()


def open_rgb(path: Path) -> Image.Image:
    """The first frame of an image file, upright (EXIF), as 8-bit RGB.

    Transparent pixels are laid on white; 16-bit and float grey is scaled to 8 bits. A truncated,
    empty, foreign or oversized file raises DataError with the path and the reason.
    """
    try:
        with _opened(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: {image.width}x{image.height} exceeds {MAX_PIXELS} px")
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: more than {MAX_PIXELS} pixels (decompression bomb)") from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable image ({error})") from None


def _opened(path: Path) -> Image.Image:
    """Reads the header. Warning filters are of the whole process, so one thread at a time."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(path)


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of an image of any Pillow mode; alpha is laid on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _wide_grey_to_rgb(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        ground = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _wide_grey_to_rgb(image: Image.Image) -> Image.Image:
    """Wide grey to 0..255 (Pillow's own convert would clip at 255).

    16-bit modes are full range. Modes I and F do not say their range, so it is the smallest of
    1 (F only), 255 and 65535 that holds the values; NaN is black.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0)
    ranges = {"F": (1.0, BYTE_MAX, WORD_MAX), "I": (BYTE_MAX, WORD_MAX)}.get(
        image.mode, (WORD_MAX,)
    )
    top = next((limit for limit in ranges if values.max(initial=0.0) <= limit), WORD_MAX)
    grey = np.clip(values / top * BYTE_MAX, 0.0, BYTE_MAX).round().astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def with_red_box(image: Image.Image, box: Box, margin_px: float = 5.0) -> Image.Image:
    """A copy with a 3-px red rectangle drawn inward on `box` grown by `margin_px` and clamped.

    Same drawing as the released pipeline: where the box is clamped to the right or bottom border
    only two of the three pixels are visible.
    """
    marked = image.copy()
    edge = box.grown(margin_px).clipped_to(image.width, image.height)
    ImageDraw.Draw(marked).rectangle(edge.as_tuple(), outline=RED, width=3)
    return marked


def side_by_side(images: Sequence[Image.Image], divider_px: int = DIVIDER_PX) -> Image.Image:
    """Images left to right, top aligned, with a black bar of `divider_px` between neighbours."""
    width = sum(image.width for image in images) + divider_px * (len(images) - 1)
    canvas = Image.new("RGB", (width, max(image.height for image in images)))
    left = 0
    for image in images:
        canvas.paste(image, (left, 0))
        left += image.width + divider_px
    return canvas


def save_image(image: Image.Image, path: Path, quality: int = 95) -> None:
    """Write PNG or JPEG (by suffix; JPEG without chroma subsampling) atomically.

    Encoded in memory first: writing to a file itself, Pillow does not see that the last piece did
    not fit on a full disk, and leaves a truncated image without an error.
    """
    kind: Literal["PNG", "JPEG"] = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    encoded = io.BytesIO()
    with atomic_path(path) as temporary:
        if kind == "PNG":
            image.save(encoded, format=kind, compress_level=4)
        else:
            image.save(encoded, format=kind, quality=quality, subsampling=0)
        temporary.write_bytes(encoded.getvalue())

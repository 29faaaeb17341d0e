"""Looking at image files before a run: each file once, in threads, as closely as asked for.

A quick look (`header`) reads a few hundred bytes of a JPEG, PNG or WebP: the size and the end of
the file. Whatever it cannot vouch for (trailing bytes, other formats, PNGs with text that may hold
an orientation) is decoded, so that a good file is never called bad.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside
from imgdiff.core.images import MAX_PIXELS, open_rgb
from imgdiff.train.samples import Size
from imgdiff.train.source_config import ImageCheck

_JPEG_END = b"\xff\xd9"
_PNG_SIGNATURE_BYTES = 8
_PNG_MAY_TURN = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}  # may say that the image lies on its side
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
UNKNOWN: Size = (0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """What is known of an image: its upright size, or the reason and sentence against it."""

    size: Size = UNKNOWN
    reason: str = ""
    message: str = ""


class ImageFiles:
    """The images met so far; memory grows with distinct files only (about 0.3 KB each)."""

    def __init__(self, check: ImageCheck, threads: int) -> None:
        Image.preinit()  # not by several threads at once
        self._check = check
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="images")
        self._seen: dict[tuple[Path, str], Looked] = {}

    def look(self, root: Path, names: Sequence[str]) -> dict[str, Looked]:
        """The verdict on each name, a path relative to `root`."""
        distinct = dict.fromkeys(names)
        new = [name for name in distinct if (root, name) not in self._seen]
        verdicts = self._pool.map(lambda name: look_at(root, name, self._check), new)
        self._seen.update(((root, name), found) for name, found in zip(new, verdicts, strict=True))
        return {name: self._seen[root, name] for name in distinct}

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)


def look_at(root: Path, name: str, check: ImageCheck) -> Looked:
    """The verdict on one image file; nothing is raised."""
    try:
        path = inside(root, name)
    except DataError as error:
        return Looked(reason="image path", message=f"{error}.")
    if not _is_file(path):
        message = f"image {name!r} is not in {root}. Restore it or remove the row."
        return Looked(reason="image missing", message=message)
    if check is ImageCheck.exists:
        return Looked()
    try:
        quick = _quick_size(path) if check is ImageCheck.header else None
        return Looked(size=quick or open_rgb(path).size)
    except DataError as error:
        return Looked(
            reason="image unreadable",
            message=f"image {name!r}: {error}. Copy the file again or remove the row.",
        )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system takes
        return False


def _quick_size(path: Path) -> Size | None:
    """Upright size of a whole JPEG, PNG or WebP; None where only decoding can tell."""
    try:
        with path.open("rb") as handle, Image.open(handle) as image:
            width, height = image.size
            kind = str(image.format)
            if kind not in _ENDS_WELL or width * height > MAX_PIXELS:
                return None
            turn = None if kind == "PNG" else image.getexif().get(ExifTags.Base.Orientation)
            if not _ENDS_WELL[kind](handle):
                return None
            return (height, width) if turn in _SIDEWAYS else (width, height)
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, Warning):
        return None


def _jpeg_is_whole(handle: BinaryIO) -> bool:
    handle.seek(-len(_JPEG_END), os.SEEK_END)
    return handle.read() == _JPEG_END


def _webp_is_whole(handle: BinaryIO) -> bool:
    handle.seek(4)
    (declared,) = struct.unpack("<I", handle.read(4))
    return handle.seek(0, os.SEEK_END) >= declared + 8


def _png_is_whole(handle: BinaryIO) -> bool:
    """Whether every chunk up to IEND is there, and none can say that the image lies on its side."""
    end = handle.seek(0, os.SEEK_END)
    place = _PNG_SIGNATURE_BYTES
    while place + 12 <= end:
        handle.seek(place)
        length, kind = struct.unpack(">I4s", handle.read(8))
        if kind in _PNG_MAY_TURN:
            return False
        place += 12 + length  # length, kind and checksum are four bytes each
        if kind == b"IEND":
            return place <= end
    return False


_ENDS_WELL = {"JPEG": _jpeg_is_whole, "PNG": _png_is_whole, "WEBP": _webp_is_whole}

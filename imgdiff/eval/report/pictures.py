"""Images of answers as small JPEGs inside the page, each encoded once, memory flat."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.core.images import open_rgb

JPEG_QUALITY = 80
AT_ONCE = 32  # images in memory
THREADS = 4  # at most; Pillow works outside Python's lock


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What became of an image file: its size on the page, or why it is not there."""

    name: str  # without folders
    width: int = 0
    height: int = 0
    missing: str = ""  # "absent", "unreadable" or "left out"


@dataclass(kw_only=True)
class Album:
    """The image files of a page, each once however many items show it."""

    numbers: dict[str, int] = field(default_factory=dict)  # by path

    def number(self, path: str) -> int:
        """The number of the image on the page, from 0."""
        return self.numbers.setdefault(path, len(self.numbers))

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths in the order of their numbers."""
        return tuple(self.numbers)


def write_pictures(paths: Sequence[str], side_px: int, out: IO[bytes]) -> tuple[Picture, ...]:
    """Write a data block `p<number>` for each image that can be read; longest side `side_px`.

    A block is inert text, so the browser decodes an image only when its item is shown. Smaller
    images keep their size. With `side_px` 0 no image is read.
    """
    pictures: list[Picture] = []
    workers = min(THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(paths), AT_ONCE):
            part = paths[start : start + AT_ONCE]
            for picture, encoded in pool.map(lambda path: _encode(path, side_px), part):
                if encoded:
                    out.write(b'<script type="text/plain" id="p%d">' % len(pictures))
                    out.write(b"data:image/jpeg;base64,")
                    out.write(base64.b64encode(encoded))
                    out.write(b"</script>\n")
                pictures.append(picture)
    return tuple(pictures)


def _encode(path: str, side_px: int) -> tuple[Picture, bytes]:
    """The picture and its JPEG, which is empty where there is none."""
    name = Path(path).name
    if side_px == 0:
        return Picture(name=name, missing="left out"), b""
    if not _is_there(path):
        return Picture(name=name, missing="absent"), b""
    try:
        image = open_rgb(Path(path))
    except DataError:
        return Picture(name=name, missing="unreadable"), b""
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return Picture(name=name, width=image.width, height=image.height), buffer.getvalue()


def _is_there(path: str) -> bool:
    """Whether the path names a file; a name that no file can have names none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def missing_notes(pictures: Sequence[Picture]) -> Iterator[str]:
    """Sentences about images that are not on the page."""
    for kind, words in (
        ("absent", "not on this machine"),
        ("unreadable", "damaged or not an image"),
        ("left out", "left out, as was asked for"),
    ):
        names = [picture.name for picture in pictures if picture.missing == kind]
        if names:
            files = "image file is" if len(names) == 1 else "image files are"
            first = "" if kind == "left out" else f" The first: {names[0]}."
            yield f"{len(names):,} {files} {words}.{first}"

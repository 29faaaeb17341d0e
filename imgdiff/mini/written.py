"""Folders that the world writes: named by what is in them, marked when whole, resumed when not."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgdiff.core.files import write_json
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import save_image
from imgdiff.mini.scene import Scene, draw_scene

MARKER = "complete.json"
_DRAWN = ("scene.py", "language.py", "grounds.py", "shapes/*.py")
_ASKED = ("instructions.py", "red_boxes.py", "words.py")
_CHANGED = ("change*.py",)


def drawing_identity() -> str:
    """12 hex digits of the source that draws and words scenes."""
    return _source_identity(_DRAWN)


def world_identity() -> str:
    """12 hex digits of the source of the world: changes when it may draw or say anything else."""
    return _source_identity((*_DRAWN, *_ASKED))


def changes_identity() -> str:
    """12 hex digits of the source that changes scenes and tells the changes."""
    return _source_identity(_CHANGED)


@functools.lru_cache(maxsize=3)
def _source_identity(patterns: tuple[str, ...]) -> str:
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for pattern in patterns:
        for file in sorted(here.glob(pattern)):
            digest.update(f"{file.name}:".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def folder_for(parent: Path, name: str, *settings: Any) -> Path:
    """`parent/NAME-KEY`, where KEY changes with the settings and with the world itself."""
    return parent / f"{name}-{fingerprint(world_identity(), *settings)}"


def is_complete(folder: Path) -> bool:
    """Whether everything of the folder was written."""
    return (folder / MARKER).is_file()


def mark_complete(folder: Path, facts: Mapping[str, Any]) -> None:
    """Call last: readers trust the folder from now on."""
    write_json(folder / MARKER, {"world": world_identity(), **facts})


def save_scene(scene: Scene, path: Path) -> None:
    """Draw into a JPEG or PNG file unless it is there already (each is written atomically)."""
    if not path.exists():
        save_image(draw_scene(scene).image, path)

"""The checkpoint that export and chat are pointed at. Light."""

from __future__ import annotations

from pathlib import Path

from imgdiff.backends.checkpoints import find, is_whole, refuse_random
from imgdiff.core.errors import ConfigError

KEY = "checkpoint"
DEFAULT = "outputs/train/checkpoint"  # what imgdiff.train writes by default


def trained_folder(name: str) -> Path:
    """The folder of `checkpoint=name`; ConfigError where there is none, or one without weights."""
    refuse_random(KEY, name)
    folder = find(name)
    if folder is None or not folder.is_dir() or not is_whole(folder):
        found = "no checkpoint there" if folder is None else f"{folder} is no folder with weights"
        raise ConfigError(
            f"{KEY}={name}: {found}. Run `python -m imgdiff.train` first (it writes {DEFAULT}), or "
            "give a folder, mini:llava, or a name that is in the hub's local cache."
        )
    return folder

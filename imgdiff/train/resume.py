"""Points from which a killed run continues; written so that a good one always remains."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import lightning.pytorch as pl

from imgdiff.core.console import say
from imgdiff.core.files import not_written

FOLDER = "resume"
KEPT = 2  # the last one, and the one before it in case that one is damaged
_SUFFIX = ".ckpt"


def latest(output: Path) -> Path | None:
    """The newest point that is whole, or None. A damaged one is named and passed over."""
    points = sorted((output / FOLDER).glob(f"step-*{_SUFFIX}"), reverse=True)
    for point in points:
        # A file is a zip whose directory stands at its end; sharded strategies write folders.
        if point.is_dir() or zipfile.is_zipfile(point):
            return point
        say(f"{point}: damaged, not used; continuing from the one before it")
    return None


def save(trainer: pl.Trainer, output: Path, step: int) -> None:
    """Write the point of `step` (of all ranks), then remove the older ones.

    It appears under its name when it is whole and on the disk. A full disk raises StoreError.
    """
    folder = output / FOLDER
    point = folder / f"step-{step:08d}{_SUFFIX}"
    unfinished = folder / f".{point.name}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if trainer.is_global_zero:
            _remove(unfinished)
        trainer.strategy.barrier()
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            _flush(unfinished)
            unfinished.replace(point)
            for old in sorted(folder.glob(f"step-*{_SUFFIX}"))[:-KEPT]:
                _remove(old)
        trainer.strategy.barrier()
    except OSError as error:
        raise not_written(point, error) from error


def clear(output: Path) -> None:
    """Remove every point, whole or not."""
    shutil.rmtree(output / FOLDER, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Bring a file, or all files below a folder, from the system's memory to the disk."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())

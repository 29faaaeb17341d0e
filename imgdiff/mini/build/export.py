"""Writing a checkpoint folder file by file, so that a reader never finds half a model."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from transformers import PreTrainedModel

from imgdiff.backends.loading import quietly
from imgdiff.core.files import atomic_path

WEIGHTS = "model.safetensors"


@runtime_checkable
class Saveable(Protocol):
    """A tokenizer or an image processor."""

    def save_pretrained(self, save_directory: str) -> object:
        """Write its files into a folder."""


def export(model: PreTrainedModel, companions: Sequence[Saveable], folder: Path) -> None:
    """Write float16 weights, config and companions to `folder`; each file appears whole.

    The model itself stays as it is. A weight beyond float16 raises FloatingPointError.
    """
    half = copy.deepcopy(model).to("cpu").half()
    for name, value in half.state_dict().items():
        if not torch.isfinite(value).all():
            raise FloatingPointError(
                f"{folder}: {name} does not fit float16; train it longer or less"
            )
    with tempfile.TemporaryDirectory() as scratch, quietly():
        half.save_pretrained(scratch)
        for companion in companions:
            companion.save_pretrained(scratch)
        files = sorted(Path(scratch).iterdir(), key=lambda file: file.name == WEIGHTS)
        for file in files:  # the weights last: who finds them finds everything
            copy_file(file, folder / file.name)


def copy_file(source: Path, target: Path) -> None:
    """Copy one file atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a flat folder, each atomically; other files of `target` are removed."""
    names = {file.name for file in source.iterdir() if file.is_file()}
    for name in sorted(names):
        copy_file(source / name, target / name)
    for file in target.iterdir():
        if file.is_file() and file.name not in names:
            file.unlink()

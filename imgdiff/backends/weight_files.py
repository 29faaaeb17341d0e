"""The weights of a checkpoint folder, one tensor at a time, from .safetensors or .bin shards."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imgdiff.core.errors import BackendError, StoreError
from imgdiff.core.files import not_written, read_json, write_json

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # the first that is there is read
SHARD_SIZE = "5GB"


def shards(folder: Path) -> list[Path]:
    """The weight files of a folder; BackendError where there are none or one is missing."""
    for name in WEIGHT_FILES:
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _indexed(folder, index)
        if (folder / name).is_file():
            return [folder / name]
    raise BackendError(
        f"{folder} holds no weights ({' or '.join(WEIGHT_FILES)}, or an index of shards). "
        "Give the whole folder as downloaded"
    )


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every weight, one at a time, on the CPU."""
    for path in shards(folder):
        if path.suffix == ".bin":
            yield from load_bin(path).items()
        else:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    yield name, file.get_tensor(name)


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight; of .safetensors only headers are read."""
    found: dict[str, tuple[int, ...]] = {}
    for path in shards(folder):
        if path.suffix == ".bin":
            found |= {name: tuple(value.shape) for name, value in load_bin(path).items()}
        else:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    found[name] = tuple(file.get_slice(name).get_shape())
    return found


def load_bin(path: Path) -> dict[str, Tensor]:
    """The tensors of one .bin file, mapped instead of read where its format allows."""
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # the format before torch 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict) or not all(torch.is_tensor(v) for v in found.values()):
        raise BackendError(f"{path}: no table of tensors. Give the file as it was downloaded")
    return found


def write_shards(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write .safetensors of at most 5 GB and, for several, their index."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    plan = split_torch_state_dict_into_shards(dict(state), max_shard_size=SHARD_SIZE)
    for file, names in plan.filename_to_tensors.items():
        part = {name: state[name].detach().cpu().contiguous() for name in names}
        save_file(part, folder / file, metadata={"format": "pt"})
        (folder / file).chmod(0o644)  # safetensors writes files that only their owner can read
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / f"{WEIGHT_FILES[0]}.index.json", index)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears as `folder` on a clean exit; StoreError where it exists with files."""
    from safetensors import SafetensorError

    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty. Remove it or name another folder")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.replace(folder)
    except SafetensorError as error:
        raise not_written(folder, OSError(str(error))) from error
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _indexed(folder: Path, index: Path) -> list[Path]:
    paths = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise BackendError(
            f"{folder} lacks {', '.join(missing)}, which {index.name} names. "
            "Download the checkpoint again"
        )
    return paths


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BackendError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return BackendError(f"{path}: cannot be read ({lines[0]}). Download it again")

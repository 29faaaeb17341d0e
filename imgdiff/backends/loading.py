"""What the transformers-based backends share: quiet loading, device and number type, clean text."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from imgdiff.backends.configs import Dtype
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' loading bars and hints; the caller's settings are put back."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def loading(key: str, model: str) -> Iterator[None]:
    """`quietly`, and what a damaged, foreign or too large checkpoint raises is a BackendError."""
    from safetensors import SafetensorError

    try:
        with quietly():
            yield
    except torch.OutOfMemoryError:
        raise BackendError(
            f"{key}={model}: its weights do not fit into the GPU's memory. Free what other "
            "programs or workers hold, raise memory_limit where it is set, or choose a narrower "
            "dtype, a smaller model or a GPU with more memory."
        ) from None
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(
            f"{key}={model}: cannot be loaded ({lines[0]}). Download the checkpoint again, or name "
            "another one."
        ) from error


def device() -> torch.device:
    """A GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def effective_dtype(asked: Dtype) -> torch.dtype:
    """The number type that weights are held in: as asked on a GPU, float32 on a CPU."""
    if device().type == "cpu":
        return torch.float32
    dtype: torch.dtype = getattr(torch, asked.value)
    return dtype


def stored_dtype(folder: Path) -> torch.dtype:
    """The number type that config.json of a checkpoint names; float32 where it names none."""
    config = read_json(folder / "config.json")
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    found = getattr(torch, str(name), torch.float32)
    return found if isinstance(found, torch.dtype) else torch.float32


def rounded(model: Any, dtype: torch.dtype) -> Any:
    """The model with its parameters in `dtype`, in place.

    Not `model.to(dtype)`: that would round the frequencies of the rotary embedding too, which
    `from_pretrained` keeps in float32.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def require_files(key: str, model: str, folder: Path, *names: str) -> None:
    """BackendError unless `folder` is a folder that holds each of `names`."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise BackendError(
            f"{key}={model}: {folder} lacks {', '.join(missing)}. "
            "Point the setting at the whole checkpoint folder as it was downloaded."
        )


def clean(text: str) -> str:
    """The text without lone surrogates, which no tokenizer takes (each becomes `?`)."""
    return text.encode("utf-8", "replace").decode("utf-8")

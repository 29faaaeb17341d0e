"""What the transformers-based backends share: quiet loading, device and number type, clean text."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from imgdiff.backends.configs import Dtype
from imgdiff.core.errors import BackendError


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
    """`quietly`, and whatever a damaged or foreign checkpoint raises becomes a BackendError."""
    from safetensors import SafetensorError

    try:
        with quietly():
            yield
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

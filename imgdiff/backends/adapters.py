"""Checkpoint folders that hold adapters of peft: the base they belong to, and one model of both.

`python -m imgdiff.train tuning=lora` writes such a folder, with a file beside the adapters that
names the base and the identity of its files. peft is imported here and in `imgdiff.train` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imgdiff.backends.checkpoints import content_identity, find, is_whole
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

SETTINGS_FILE = "adapter_config.json"  # peft's
BASE_FILE = "imgdiff_base.json"  # ours: {"base": name in the settings, "identity": of its files}
_ORIGINAL_FORM = "non_lora_trainables.bin"  # of a LoRA run of haotian-liu/LLaVA
_EXPORT = "python -m imgdiff.train.export checkpoint={} base=FOLDER output_dir=FOLDER"


@dataclass(frozen=True, kw_only=True)
class Adapters:
    """A folder of adapters and the base that they were trained on, both on this machine."""

    folder: Path
    base_name: str  # as the settings of the training run had it
    base: Path


def holds_adapters(folder: Path) -> bool:
    """Whether a checkpoint folder holds adapters instead of a model."""
    return (folder / SETTINGS_FILE).is_file()


def find_adapters(key: str, model: str, folder: Path, base: str | None = None) -> Adapters:
    """The adapters of a folder with their base: `base`, or else the one that the folder names.

    `key` and `model` are the setting that led here. BackendError, before a weight is read, where
    the base is not on this machine or is not the one that the adapters were trained on.
    """
    if (folder / _ORIGINAL_FORM).is_file():
        raise BackendError(
            f"{key}={model}: holds {_ORIGINAL_FORM}, so it is a LoRA run of the LLaVA repository. "
            "Merge it there (scripts/merge_lora_weights.py) and name the merged folder."
        )
    recorded = _recorded(folder)
    name = str(base or recorded.get("base") or "")
    remedy = f"Name the base's folder: `{_EXPORT.format(model)}`."
    if not name:
        raise BackendError(
            f"{key}={model}: its adapters do not say which base they belong to. {remedy}"
        )
    found = find(name)
    if found is None and base is None and (noted := _noted(folder)):
        found = find(noted)  # where the name is relative, and seen from another folder
    if found is None or not is_whole(found):
        raise BackendError(
            f"{key}={model}: holds adapters on {name}, of which no weights are on this machine. "
            f"Get it with `hf download {name}`, or put its folder back. {remedy}"
        )
    _check_base(f"{key}={model}", name, found, recorded.get("identity"))
    return Adapters(folder=folder, base_name=name, base=found)


def _recorded(folder: Path) -> dict[str, Any]:
    """What the folder says of its base; without our file, the name that peft has noted."""
    if (folder / BASE_FILE).is_file():
        found = read_json(folder / BASE_FILE)
    else:
        found = {"base": _noted(folder)}
    return found if isinstance(found, dict) else {}


def _noted(folder: Path) -> str:
    """The base that peft has noted, by its whole path where it was a folder; else empty."""
    return str(read_json(folder / SETTINGS_FILE).get("base_model_name_or_path") or "")


def _check_base(setting: str, name: str, folder: Path, identity: object) -> None:
    if holds_adapters(folder):
        raise BackendError(
            f"{setting}: its base {name} holds adapters itself. Merge those first: `"
            f"{_EXPORT.format(name)}`."
        )
    if identity is not None and content_identity(folder) != identity:
        raise BackendError(
            f"{setting}: holds adapters on a base whose files have the identity {identity}; those "
            f"of {name} have {content_identity(folder)}. Give the very folder that the run started "
            "from: on other weights the adapters mean nothing."
        )


def stored_weights(adapters: Adapters) -> dict[str, Any]:
    """The adapters' weights by peft's names, on the CPU; BackendError where they are damaged."""
    from peft import load_peft_weights
    from safetensors import SafetensorError

    try:
        return load_peft_weights(str(adapters.folder), device="cpu")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(
            f"{adapters.folder}: its adapters cannot be read ({lines[0]}). Copy the folder again."
        ) from error


def attached(model: Any, adapters: Adapters) -> Any:
    """The peft model of a base and its adapters, not merged, in evaluation mode on the CPU.

    BackendError where the adapters have no place in this model, or are damaged.
    """
    from peft import PeftModel, get_peft_model_state_dict

    stored = stored_weights(adapters)
    try:
        with quietly():
            wrapped = PeftModel.from_pretrained(model, adapters.folder, torch_device="cpu")
            held = get_peft_model_state_dict(wrapped)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(
            f"{adapters.folder}: its adapters cannot be put on {adapters.base_name} ({lines[0]}). "
            "Give the base that they were trained on."
        ) from error
    lost = sorted(set(stored) ^ set(held))
    if lost:
        raise BackendError(
            f"{adapters.folder}: {len(lost)} of its weights do not fit {adapters.base_name}, e.g. "
            f"{lost[0]}. Give the base that they were trained on."
        )
    return wrapped.eval()


def merged(model: Any, adapters: Adapters) -> Any:
    """The base with its adapters worked in, without peft; `model` should be float32.

    BackendError as in `attached`, and where a merged weight is not finite.
    """
    return unloaded(attached(model, adapters), adapters)


def unloaded(wrapped: Any, adapters: Adapters) -> Any:
    """The plain model inside a peft model, its adapters worked in."""
    try:
        with quietly(), torch.no_grad():
            return wrapped.merge_and_unload(safe_merge=True).eval()
    except ValueError as error:
        raise BackendError(
            f"{adapters.folder}: its adapters cannot be merged ({error}). Look at the losses of "
            "the run: were they finite?"
        ) from error

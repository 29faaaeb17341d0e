"""Which code wrote a LLaVA folder, and whether it is a LLaVA-1.5; from config.json alone."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

# What transformers' class can express; LLaVA-1.5 was released with these.
VARIANT = {
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
}
_ABSENT = {  # what the original code takes where its config.json is silent, as LLaVA-1.0's is
    "mm_projector_type": "linear",
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "square",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": True,
}


class Layout(Enum):
    """Who can read a LLaVA folder."""

    transformers = "transformers"
    original = "original"  # haotian-liu/LLaVA


def layout_of(folder: Path) -> Layout:
    """Which code wrote a LLaVA folder, from config.json; BackendError where it is no LLaVA."""
    config = model_config(folder)
    kind = config.get("model_type")
    if kind == "llava" and "text_config" in config and "vision_config" in config:
        return Layout.transformers
    architectures = config.get("architectures") or []
    if "LlavaLlamaForCausalLM" in architectures or (
        kind in ("llava", "llava_llama") and "mm_vision_tower" in config
    ):
        return Layout.original
    raise BackendError(
        f"{folder / 'config.json'}: model_type={kind!r}, architectures={architectures} is no "
        "LLaVA-1.5; give a folder of transformers (LlavaForConditionalGeneration) or of "
        "haotian-liu/LLaVA (LlavaLlamaForCausalLM)"
    )


def check_variant(folder: Path) -> None:
    """BackendError unless an original folder is a LLaVA-1.5, not one of its relatives."""
    config = model_config(folder)
    for key, needed in VARIANT.items():
        found = config.get(key, _ABSENT[key])
        if found != needed:
            raise BackendError(
                f"{folder / 'config.json'}: {key}={found!r}; LLaVA-1.5 has {needed!r}. "
                "Choose a LLaVA-1.5 checkpoint"
            )


def model_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint folder; BackendError where there is none."""
    path = folder / "config.json"
    if not path.is_file():
        raise BackendError(f"{folder} lacks config.json; give the whole folder as downloaded")
    found = read_json(path)
    if not isinstance(found, dict):
        raise BackendError(f"{path} is no model configuration; give the folder as downloaded")
    return found

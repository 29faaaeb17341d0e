"""A LLaVA-1.5 of transformers in the files that haotian-liu/LLaVA's own code loads.

Names and fields: llava/model/builder.py (`load_pretrained_model`), llava/train/train.py (what the
two kinds of run save) and config.json of liuhaotian/llava-v1.5-7b.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imgdiff.backends.llama_tokenizer import original_vocabulary
from imgdiff.backends.llava_layout import VARIANT
from imgdiff.backends.llava_weights import (
    EMBEDDINGS,
    MAX_TOKENS,
    PROJECTOR,
    SENTENCEPIECE,
)
from imgdiff.backends.weight_files import new_folder, write_shards
from imgdiff.core.errors import BackendError
from imgdiff.core.files import write_json

VISION_TOWER = "openai/clip-vit-large-patch14-336"
LANGUAGE = "model.language_model."
VISION = "model.vision_tower."
PEFT = "base_model.model."  # peft puts it before the name of every weight of the wrapped model
_LAYERS = {ours: theirs for theirs, ours in PROJECTOR.items()}
_TEXT_FIELDS = (
    "bos_token_id", "eos_token_id", "hidden_act", "hidden_size", "initializer_range",
    "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "pretraining_tp", "rms_norm_eps",
)  # fmt: skip
_FIXED_FIELDS = {
    "freeze_mm_mlp_adapter": False,
    "freeze_mm_vision_resampler": False,
    "mm_resampler_type": None,
    "pad_token_id": 0,  # Vicuna pads with <unk>
    "tie_word_embeddings": False,
    "transformers_version": "4.31.0",
    "tune_mm_mlp_adapter": False,
    "tune_mm_vision_resampler": False,
    "use_cache": True,
    "use_mm_proj": True,
}
_EXPORTABLE = {
    "model_type": "llava",
    "text_config.model_type": "llama",
    "vision_config.model_type": "clip_vision_model",
    "projector_hidden_act": "gelu",
    "multimodal_projector_bias": True,
    "vision_feature_select_strategy": "default",
}
_TOKENIZER_FIELDS = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "legacy": False,
    "model_max_length": MAX_TOKENS,
    "pad_token": "<unk>",
    "padding_side": "right",
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
}


@dataclass(frozen=True, kw_only=True)
class LoraShape:
    """What adapter_config.json says of a low-rank run; the recipe's values are 128, 256, 0.05."""

    rank: int
    alpha: int
    dropout: float


def write_llava(
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    vision_tower: str = VISION_TOWER,
    include_vision: bool = False,
) -> None:
    """Write a new folder for `load_pretrained_model(folder, None, "llava")`.

    `model` is a LlavaForConditionalGeneration, its number type is kept; `tokenizer` tells which
    rows were added after the original vocabulary: they are cut off. `vision_tower` is the name or
    folder that the original code loads CLIP from; its weights are written too (and read instead)
    with `include_vision`, for a run that trained it. The original code tokenizes with
    `tokenizer.model`, copied from where the tokenizer was read; without it only tokenizer.json is
    written, which newer code reads. StoreError where `folder` exists or cannot be written.
    """
    words = original_vocabulary(tokenizer)
    config = _config(model, words, vision_tower) | {"unfreeze_mm_vision_tower": include_vision}
    state = {}
    for name, value in model.state_dict().items():
        if include_vision or not name.startswith(VISION):
            rows = value[:words].clone() if name in EMBEDDINGS else value
            state[original_name(name)] = rows
    with new_folder(folder) as unfinished:
        write_json(unfinished / "config.json", config)
        _write_tokenizer(tokenizer, words, unfinished)
        write_shards(state, unfinished)


def write_llava_adapter(
    state: Mapping[str, Tensor],
    lora: LoraShape,
    model: Any,
    tokenizer: Any,
    folder: Path,
    *,
    base: str,
    vision_tower: str = VISION_TOWER,
) -> None:
    """Write a new folder for `load_pretrained_model(folder, base, "llava-lora")`.

    `state` is peft's (`get_peft_model_state_dict`, gathered if it was sharded) of a run that
    adapted the language model and trained the projector (`modules_to_save`); `model` is the
    wrapped LlavaForConditionalGeneration, for its config; `base` names the language model, e.g.
    lmsys/vicuna-7b-v1.5. BackendError for a weight that the original form has no place for, or
    without a projector. The folder's name must hold `llava` and `lora`: the original code decides
    by it.
    """
    if not all(word in folder.name.lower() for word in ("llava", "lora")):
        raise BackendError(
            f"{folder}: the original code takes a folder for a LoRA run only if its name holds "
            "'llava' and 'lora'; name it e.g. llava-v1.5-7b-lora"
        )
    adapters, others = _split_adapter(state)
    targets = sorted({name.split(".lora_")[0].rpartition(".")[2] for name in adapters})
    with new_folder(folder) as unfinished:
        write_json(
            unfinished / "config.json", _config(model, original_vocabulary(tokenizer), vision_tower)
        )
        write_json(unfinished / "adapter_config.json", _adapter_config(lora, targets, base))
        write_shards(adapters, unfinished)
        (unfinished / "model.safetensors").rename(unfinished / "adapter_model.safetensors")
        torch.save(others, unfinished / "non_lora_trainables.bin")


def original_name(name: str) -> str:
    """The original code's name of a weight of LlavaForConditionalGeneration."""
    if name.startswith(VISION):
        bare = name.removeprefix(VISION).removeprefix("vision_model.")
        return f"model.vision_tower.vision_tower.vision_model.{bare}"
    found = re.match(r"model\.multi_modal_projector\.(\w+)\.(\w+)$", name)
    if found:
        return f"model.mm_projector.{_LAYERS[found[1]]}.{found[2]}"
    return name.replace(LANGUAGE, "model.", 1)


def _split_adapter(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Low-rank weights, and the rest that was trained, both under the original code's names."""
    adapters: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, value in state.items():
        bare = name.removeprefix(PEFT)
        theirs = PEFT + original_name(bare)
        if ".lora_" in bare and bare.startswith(LANGUAGE):
            adapters[theirs] = value.detach().cpu()
        elif bare.startswith("model.multi_modal_projector.") and theirs != name:
            others[theirs] = value.detach().cpu().clone()
        else:
            raise BackendError(
                f"{name}: LLaVA's LoRA form holds low-rank weights of the language model and the "
                "projector. Merge the adapter and write the whole model with write_llava"
            )
    if not others or not adapters:
        raise BackendError(
            f"this state has {len(adapters)} low-rank and {len(others)} projector weights; LLaVA's "
            "LoRA form needs both. Train with modules_to_save=['multi_modal_projector']"
        )
    return adapters, others


def _config(model: Any, words: int, vision_tower: str) -> dict[str, Any]:
    """config.json with the fields of the released checkpoint."""
    _check_exportable(model.config)
    text, vision = model.config.text_config, model.config.vision_config
    rope = dict(text.rope_parameters)
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type")
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "vocab_size": words,
        "torch_dtype": str(model.dtype).removeprefix("torch."),
        **{field: getattr(text, field) for field in _TEXT_FIELDS},
        "rope_theta": theta,
        "rope_scaling": None if kind == "default" else {"type": kind, **rope},
        "mm_hidden_size": vision.hidden_size,
        "mm_vision_tower": vision_tower,
        "mm_vision_select_layer": model.config.vision_feature_layer,
        "unfreeze_mm_vision_tower": False,
        **VARIANT,
        **_FIXED_FIELDS,
    }


def _check_exportable(config: Any) -> None:
    """BackendError unless the original code has a class of this shape."""
    found = {
        "model_type": config.model_type,
        "text_config.model_type": config.text_config.model_type,
        "vision_config.model_type": config.vision_config.model_type,
        "projector_hidden_act": getattr(config, "projector_hidden_act", None),
        "multimodal_projector_bias": getattr(config, "multimodal_projector_bias", None),
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
    }
    for key, value in found.items():
        if value != _EXPORTABLE[key]:
            raise BackendError(
                f"{key}={value!r}: the original code has no such LLaVA, only {_EXPORTABLE[key]!r}. "
                "Keep this model in the format of transformers"
            )


def _adapter_config(lora: LoraShape, targets: list[str], base: str) -> dict[str, Any]:
    return {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
    }


def _write_tokenizer(tokenizer: Any, words: int, folder: Path) -> None:
    """tokenizer.json without the added tokens, tokenizer.model where known, and their config."""
    table = json.loads(tokenizer.backend_tokenizer.to_str())
    table["added_tokens"] = [token for token in table["added_tokens"] if token["id"] < words]
    write_json(folder / "tokenizer.json", table)
    write_json(folder / "tokenizer_config.json", _TOKENIZER_FIELDS)
    source = _sentencepiece(tokenizer)
    if source is not None:
        shutil.copyfile(source, folder / SENTENCEPIECE)


def _sentencepiece(tokenizer: Any) -> Path | None:
    """`tokenizer.model` beside the files that this tokenizer was read from."""
    path = Path(getattr(tokenizer, "name_or_path", "")) / SENTENCEPIECE
    return path if path.is_file() else None

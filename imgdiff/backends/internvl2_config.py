"""config.json of InternVL2: the original's (`InternVLChatModel`) read as one of transformers.

Both kinds of checkpoint are told apart here by `model_type`, never by name. A converted model
keeps the template's name and the whole original config under the key `imgdiff` of its own
config.json: unlike a file beside it, the key stays with the model through every save_pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgdiff.backends.internvl2_text import ChatTemplate, template_named
from imgdiff.backends.loading import require_files
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

ORIGINAL, CONVERTED = "internvl_chat", "internvl"  # model_type
INTERNLM2, QWEN2 = "InternLM2ForCausalLM", "Qwen2ForCausalLM"
MEMORY = "imgdiff"  # our key in the config of a converted model
_SHARED = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads hidden_act max_position_embeddings rms_norm_eps initializer_range"
).split()
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_REQUIRED = {  # what the formulas assume; other InternVL versions differ
    "ps_version": "v2",
    "select_layer": -1,
    "use_llm_lora": 0,
    "use_backbone_lora": 0,
    "pad2square": False,
}


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of an InternVL2 checkpoint of either kind; BackendError for any other."""
    require_files("model", str(folder), folder, "config.json")
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in (ORIGINAL, CONVERTED):
        raise BackendError(
            f"{folder}: config.json says model_type={kind!r}; an InternVL2 checkpoint says "
            f"{ORIGINAL!r} (as published) or {CONVERTED!r} (converted). Name such a folder."
        )
    return dict(raw)


def template_of(raw: Mapping[str, Any], folder: Path) -> ChatTemplate:
    """The chat template that the checkpoint was made with; never guessed."""
    if raw["model_type"] == ORIGINAL:
        return template_named(raw.get("template"))
    memory = raw.get(MEMORY)
    if not isinstance(memory, dict) or "template" not in memory:
        raise BackendError(
            f"{folder}: config.json does not say which template the model speaks. Convert the "
            "original checkpoint with imgdiff.backends.internvl2_weights.convert, or add "
            f'"{MEMORY}": {{"template": "Hermes-2"}} if it is InternVL2-1B ("internlm2-chat" for '
            "8B). Conversions of InternVL2.5 and later speak another one."
        )
    return template_named(memory["template"])


def view_side(raw: Mapping[str, Any]) -> int:
    """Side of the vision tower's views in pixels."""
    size = raw["vision_config"]["image_size"]
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def tokens_per_view(raw: Mapping[str, Any]) -> int:
    """How many tokens one view takes after the pixel shuffle: 256 for 448 px."""
    patch = raw["vision_config"]["patch_size"]
    patch_px = int(patch[0] if isinstance(patch, (list, tuple)) else patch)
    return int((view_side(raw) // patch_px) ** 2 * float(raw["downsample_ratio"]) ** 2)


def to_transformers(raw: Mapping[str, Any], image_token_id: int, *, tied: bool) -> Any:
    """InternVLConfig of an original config.json.

    `tied` says whether the head shares the embedding's weights; the class's own default (True)
    would silently overwrite a head. BackendError names a key that is missing or not InternVL2's.
    """
    from transformers import InternVLConfig

    _check(raw)
    try:
        return InternVLConfig(
            vision_config=_vision(raw["vision_config"]),
            text_config=_text(raw["llm_config"]) | {"tie_word_embeddings": tied},
            image_token_id=image_token_id,
            image_seq_length=tokens_per_view(raw),
            downsample_ratio=float(raw["downsample_ratio"]),
            projector_hidden_act="gelu",
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=tied,
            **{MEMORY: {"template": raw["template"], "original": dict(raw)}},
        )
    except KeyError as error:
        raise BackendError(
            f"config.json lacks {error}. Use the checkpoint's own config.json."
        ) from None


def says_tied(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json of either kind asks for one matrix as embedding and head.

    A converted one without the key does: that is the default of transformers' class.
    """
    if raw["model_type"] == CONVERTED:
        return bool(raw.get("tie_word_embeddings", True))
    return bool(raw["llm_config"].get("tie_word_embeddings", False))


def original_config(config: Any) -> dict[str, Any]:
    """The original config.json that a converted model remembers, as the authors' code reads it."""
    memory = getattr(config, MEMORY, None)
    if not isinstance(memory, dict) or "original" not in memory:
        raise BackendError(
            "this model does not remember its original config.json, so it cannot be written in "
            "the original format. Load the original checkpoint with "
            "imgdiff.backends.internvl2_weights.load, or convert it anew."
        )
    return dict(memory["original"])


def _check(raw: Mapping[str, Any]) -> None:
    template_named(raw.get("template"))
    for key, wanted in _REQUIRED.items():
        if raw.get(key, wanted) != wanted:
            raise BackendError(
                f"config.json: {key}={raw[key]!r}, InternVL2's is {wanted!r}. Use a published "
                "InternVL2 checkpoint (merge a LoRA first, with the authors' tools/merge_lora.py)."
            )
    forced = raw.get("force_image_size") or view_side(raw)
    if forced != view_side(raw):
        raise BackendError(
            f"config.json: force_image_size={forced} but vision_config.image_size="
            f"{view_side(raw)}. Resize the position embedding first (the authors' "
            "tools/resize_pos_embed.py)."
        )
    language = _architecture(raw["llm_config"])
    if language not in (INTERNLM2, QWEN2):
        raise BackendError(
            f"config.json: llm_config.architectures names {language!r}; {INTERNLM2} (8B) and "
            f"{QWEN2} (1B) can be loaded. Choose one of these checkpoints."
        )


def _architecture(language: Mapping[str, Any]) -> str:
    return str((language.get("architectures") or [""])[0])


def _vision(raw: Mapping[str, Any]) -> dict[str, Any]:
    """InternViT; `initializer_factor` is the start of the layer scale."""
    same = (
        "hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act norm_type "
        "layer_norm_eps image_size patch_size num_channels attention_dropout initializer_range"
    ).split()
    return {
        **{key: raw[key] for key in same},
        "attention_bias": raw["qkv_bias"],
        "use_qk_norm": raw["qk_normalization"],
        "layer_scale_init_value": raw["initializer_factor"],
        "projection_dropout": raw["dropout"],
    }


def _text(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Llama for InternLM2 (the same formulas under other names), Qwen2 for Qwen2."""
    values = {key: raw[key] for key in _SHARED} | {key: raw.get(key) for key in _IDS}
    values |= {"rope_parameters": _rope(raw), "use_cache": True}
    if _architecture(raw) == QWEN2:
        if raw.get("use_sliding_window"):
            raise BackendError(
                "config.json: llm_config.use_sliding_window=true is not InternVL2's. Set it to "
                "false, or use the checkpoint's own config.json."
            )
        return {"model_type": "qwen2", "use_sliding_window": False, **values}
    return {"model_type": "llama", "attention_bias": bool(raw["bias"]), "mlp_bias": False, **values}


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary embedding: plain, or InternLM2's scaling (dynamic: only past max_position)."""
    scaling = raw.get("rope_scaling")
    theta = float(raw["rope_theta"])
    if not scaling:
        return {"rope_type": "default", "rope_theta": theta}
    kind = scaling.get("type", scaling.get("rope_type"))
    if kind not in ("dynamic", "linear"):
        raise BackendError(
            f"config.json: llm_config.rope_scaling={dict(scaling)!r}; InternVL2's is dynamic or "
            "linear. Use the checkpoint's own config.json."
        )
    return {"rope_type": kind, "rope_theta": theta, "factor": float(scaling["factor"])}

"""InternVL2 weights: original checkpoints into transformers' native class, and back.

The original (remote code) fuses query, key and value; transformers keeps them apart. Names and
layouts: OpenGVLab/InternVL, internvl_chat/internvl/model (internvl_chat/modeling_intern_vit.py,
internlm2/modeling_internlm2.py). One tensor is read at a time, so memory holds about one model.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from imgdiff.backends import internvl2_config as configs
from imgdiff.backends.internvl2_text import IMAGE_PART, STOP
from imgdiff.backends.internvl2_tokenizer import added_id, open_tokenizer
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.files import write_json

SHARD_BYTES = 5_000_000_000
_INDEX = "model.safetensors.index.json"
_HEAD = "lm_head.weight"
_EMBEDDING = "model.language_model.embed_tokens.weight"
_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt")
_SHOWN = 8  # names in an error
_REMEDY = "Download the whole checkpoint folder again, or name another one."

_Renames = tuple[tuple[str, str], ...]
# transformers' name -> the original's, applied in order
_VISION: _Renames = (
    ("model.vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("model.vision_tower.embeddings.", "vision_model.embeddings."),
    (".cls_token", ".class_embedding"), (".position_embeddings", ".position_embedding"),
    (".patch_embeddings.projection.", ".patch_embedding."),
    (".attention.projection_layer.", ".attn.proj."), (".attention.", ".attn."),
    (".layernorm_before.", ".norm1."), (".layernorm_after.", ".norm2."),
    (".lambda_1", ".ls1"), (".lambda_2", ".ls2"),
)  # fmt: skip
_PROJECTOR: _Renames = (
    ("model.multi_modal_projector.layer_norm.", "mlp1.0."),
    ("model.multi_modal_projector.linear_1.", "mlp1.1."),
    ("model.multi_modal_projector.linear_2.", "mlp1.3."),
)
_LANGUAGE: dict[str, _Renames] = {
    "llama": (  # InternLM2
        ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.output."),
        (".embed_tokens.", ".tok_embeddings."), (".self_attn.o_proj.", ".attention.wo."),
        (".self_attn.", ".attention."), (".mlp.gate_proj.", ".feed_forward.w1."),
        (".mlp.up_proj.", ".feed_forward.w3."), (".mlp.down_proj.", ".feed_forward.w2."),
        (".input_layernorm.", ".attention_norm."), (".post_attention_layernorm.", ".ffn_norm."),
    ),
    "qwen2": (
        ("model.language_model.", "language_model.model."), ("lm_head.", "language_model.lm_head."),
    ),
}  # fmt: skip
_SEPARATE = re.compile(r"\.(q|k|v)_proj\.")


@dataclass(frozen=True, kw_only=True)
class Link:
    """One tensor of the original and the parameters of transformers' model that it holds.

    `groups` is 0 where query, key and value lie one after the other (InternViT), else the number
    of query heads per key-value head: they lie together (InternLM2's wqkv).
    """

    original: str
    parts: tuple[str, ...]
    groups: int = 0
    head_dim: int = 1

    def cut(self, fused: Tensor) -> tuple[Tensor, ...]:
        """The parts' values, in their order; views or copies of `fused`."""
        if len(self.parts) == 1:
            return (fused,)
        if not self.groups:
            return fused.chunk(len(self.parts))
        heads = fused.unflatten(0, (-1, self.groups + 2, self.head_dim))
        return tuple(
            heads[:, chosen].flatten(0, 2)
            for chosen in (slice(0, -2), slice(-2, -1), slice(-1, None))
        )

    def fuse(self, values: Sequence[Tensor]) -> Tensor:
        """The original tensor of the parts' values: `cut` backwards, bit for bit."""
        if len(self.parts) == 1:
            return values[0]
        if not self.groups:
            return torch.cat(list(values))
        counts = (self.groups, 1, 1)
        heads = [
            value.unflatten(0, (-1, count, self.head_dim))
            for value, count in zip(values, counts, strict=True)
        ]
        return torch.cat(heads, dim=1).flatten(0, 2)


def load(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """InternVLForConditionalGeneration of an original or converted folder, on the CPU.

    In the checkpoint's own number type unless `dtype` says another. No key may be missing or left
    over, and a head that differs from the embedding is never tied to it; BackendError otherwise.
    """
    raw = configs.read_config(folder)
    if raw["model_type"] == configs.ORIGINAL:
        return _load_original(folder, raw, dtype)
    return _load_converted(folder, dtype)


def convert(folder: Path, target: Path) -> None:
    """Write an original checkpoint as a folder of transformers: weights, config and tokenizer.

    Its config.json remembers the template and the original config (`imgdiff`).
    """
    model, tokenizer = load(folder), open_tokenizer(folder)
    with quietly():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def to_original(model: Any, target: Path, companions: Path | None = None) -> None:
    """Write a model that `load` or `convert` made in the authors' own format.

    `target` gets safetensors and config.json; from `companions` (the original checkpoint folder)
    every other file is copied: tokenizer, generation settings and the remote code, without which
    vLLM, lmdeploy and the authors' code do not open it. An adapter must be merged before.
    BackendError where the model does not fit its original config.
    """
    raw = configs.original_config(model.config)
    rows = model.get_input_embeddings().weight.shape[0]
    if rows != raw["llm_config"]["vocab_size"]:
        raise BackendError(
            f"the model has {rows} embeddings, its original config.json says "
            f"{raw['llm_config']['vocab_size']}. Undo the resizing of the vocabulary first."
        )
    target.mkdir(parents=True, exist_ok=True)
    if companions is not None:
        copy_companions(companions, target)
    raw["torch_dtype"] = str(model.dtype).removeprefix("torch.")
    _write_shards(model, links(model.config), target)
    write_json(target / "config.json", raw)


def copy_companions(folder: Path, target: Path) -> None:
    """Copy what lies beside the weights of a checkpoint folder (no sub-folders)."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and not any(file.match(pattern) for pattern in _WEIGHT_FILES):
            shutil.copyfile(file, target / file.name)


def refuse_silent_tie(folder: Path) -> None:
    """BackendError where a converted folder says tied but holds a head of its own.

    transformers' InternVLConfig says tied by default. Filling such a model from a state dict, or
    any `tie_weights` (resizing the vocabulary calls it), then makes head and embedding one matrix,
    with no key missing and none left over. `from_pretrained` of 5.23 keeps them apart, with a
    warning only. A head that equals the embedding loses nothing and passes.
    """
    raw = configs.read_config(folder)
    if raw["model_type"] != configs.CONVERTED or not configs.says_tied(raw):
        return
    with _tensors(folder) as files:
        head = next((name for name in files if name.endswith(_HEAD)), None)
        embedding = next((name for name in files if name.endswith("embed_tokens.weight")), None)
        if head is None or embedding is None:
            return
        if torch.equal(files[head](), files[embedding]()):
            return
    raise BackendError(
        f"{folder}: config.json says tie_word_embeddings=true (or nothing, which means true) but "
        f"the weights hold {head} that differs from {embedding}; it would be lost. Set "
        '"tie_word_embeddings": false at the top level of config.json.'
    )


def links(config: Any) -> tuple[Link, ...]:
    """Every tensor of the original checkpoint of this InternVLConfig, in a fixed order."""
    from transformers import InternVLForConditionalGeneration

    with torch.device("meta"), quietly():
        names = list(InternVLForConditionalGeneration(config).state_dict())
    text = config.text_config
    groups = text.num_attention_heads // text.num_key_value_heads
    fused: dict[str, list[str]] = {}
    for name in names:
        if name == _HEAD and config.tie_word_embeddings:
            continue
        fused.setdefault(_original_name(name, text.model_type), []).append(name)
    return tuple(
        Link(
            original=original,
            parts=tuple(parts),
            groups=groups if ".wqkv." in original else 0,
            head_dim=text.hidden_size // text.num_attention_heads,
        )
        for original, parts in fused.items()
    )


def _original_name(name: str, language: str) -> str:
    """The original's name of one parameter; query, key and value get that of the fused one."""
    if name.startswith("model.vision_tower."):
        renames = _VISION
        name = _SEPARATE.sub(".qkv.", name)
    elif name.startswith("model.multi_modal_projector."):
        renames = _PROJECTOR
    else:
        renames = _LANGUAGE[language]
        name = _SEPARATE.sub(".wqkv.", name) if language == "llama" else name
    for ours, theirs in renames:
        name = name.replace(ours, theirs)
    return name


def _load_original(folder: Path, raw: dict[str, Any], dtype: torch.dtype | None) -> Any:
    from transformers import InternVLForConditionalGeneration
    from transformers.initialization import no_init_weights

    image_id, stop_id = added_id(folder, IMAGE_PART), added_id(folder, STOP)
    with _tensors(folder) as files:
        heads = {"language_model.output.weight", "language_model.lm_head.weight"}
        tied = configs.says_tied(raw) and not heads & set(files)
        config = configs.to_transformers(raw, image_id, tied=tied)
        pairs = links(config)
        _compare(folder, {link.original for link in pairs}, set(files))
        kept = getattr(torch, str(raw.get("torch_dtype") or "float32"))
        with no_init_weights(), quietly():
            model = InternVLForConditionalGeneration._from_config(config, dtype=dtype or kept)
        _fill(model, pairs, files, folder)
    if tied:
        model.tie_weights()
    model.generation_config.eos_token_id = stop_id
    return model.eval()


def _fill(
    model: Any, pairs: Sequence[Link], files: dict[str, Callable[[], Tensor]], folder: Path
) -> None:
    """Copy every tensor of the original into the model's parameters."""
    for link in pairs:
        values = link.cut(files[link.original]())
        for name, value in zip(link.parts, values, strict=True):
            parameter = model.get_parameter(name)
            if parameter.shape != value.shape:
                raise BackendError(
                    f"{folder}: {link.original} gives {name} the shape {tuple(value.shape)}, "
                    f"config.json asks for {tuple(parameter.shape)}. {_REMEDY}"
                )
            with torch.no_grad():
                parameter.copy_(value)


def _load_converted(folder: Path, dtype: torch.dtype | None) -> Any:
    from transformers import InternVLForConditionalGeneration

    refuse_silent_tie(folder)
    try:
        with quietly():
            model, info = InternVLForConditionalGeneration.from_pretrained(
                folder, dtype=dtype or "auto", output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BackendError(f"{folder}: cannot be loaded ({error}). {_REMEDY}") from None
    _report(folder, sorted(info["missing_keys"]), sorted(info["unexpected_keys"]))
    return model.eval()


def _compare(folder: Path, wanted: set[str], found: set[str]) -> None:
    _report(folder, sorted(wanted - found), sorted(found - wanted))


def _report(folder: Path, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """BackendError that names the keys, unless there are none."""
    if missing or unexpected:
        raise BackendError(
            f"{folder}: weights and config.json do not fit: {len(missing)} missing "
            f"({_listed(missing)}), {len(unexpected)} unexpected ({_listed(unexpected)}). {_REMEDY}"
        )


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


@contextmanager
def _tensors(folder: Path) -> Iterator[dict[str, Callable[[], Tensor]]]:
    """Readers of all tensors of a folder's safetensors files, by name; nothing is read before."""
    from safetensors import SafetensorError, safe_open

    files = sorted(folder.glob("*.safetensors"))
    _check_files(folder, files)
    readers: dict[str, Callable[[], Tensor]] = {}
    try:
        for file in files:
            opened = safe_open(file, framework="pt")
            names: list[str] = opened.keys()  # type: ignore[no-untyped-call]
            readers |= {name: partial(opened.get_tensor, name) for name in names}
    except (OSError, SafetensorError) as error:
        raise BackendError(f"{folder}: a weights file is damaged ({error}). {_REMEDY}") from None
    yield readers


def _check_files(folder: Path, files: Sequence[Path]) -> None:
    """BackendError where no safetensors file is there, or one that the index names is not."""
    if not files:
        raise BackendError(
            f"{folder} holds no .safetensors file. Download the published checkpoint (it has them)."
        )
    index = folder / _INDEX
    if not index.is_file():
        return
    named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    absent = sorted(named - {file.name for file in files})
    if absent:
        raise BackendError(f"{folder} lacks {_listed(absent)}. {_REMEDY}")


def _write_shards(model: Any, pairs: Sequence[Link], target: Path) -> None:
    """Safetensors files of at most SHARD_BYTES (one tensor at least) and their index."""
    from safetensors.torch import save_file

    sizes = [sum(model.get_parameter(part).nbytes for part in link.parts) for link in pairs]
    shards: list[list[Link]] = [[]]
    filled = 0
    for link, size in zip(pairs, sizes, strict=True):
        if shards[-1] and filled + size > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(link)
        filled += size
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {link.original: _fused(model, link) for link in shard}
        save_file(tensors, target / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    write_json(target / _INDEX, {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map})


def _fused(model: Any, link: Link) -> Tensor:
    values = [model.get_parameter(part).detach().cpu() for part in link.parts]
    return link.fuse(values).contiguous()

"""The formats: each source opened as a model of transformers and written as one folder, or none."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from imgdiff.backends import internvl2_weights
from imgdiff.backends.adapters import BASE_FILE, SETTINGS_FILE, Adapters, stored_weights
from imgdiff.backends.checkpoint_kind import Kind
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.internvl2_tokenizer import open_tokenizer
from imgdiff.backends.llama_tokenizer import open_llama_tokenizer
from imgdiff.backends.llava_export import VISION_TOWER, LoraShape, write_llava, write_llava_adapter
from imgdiff.backends.llava_weights import read_llava
from imgdiff.backends.loading import loading, quietly, rounded, stored_dtype
from imgdiff.backends.weight_files import new_folder
from imgdiff.core.files import read_json
from imgdiff.train.export.config import ExportConfig, Format
from imgdiff.train.export.merging import merge
from imgdiff.train.export.sources import Source
from imgdiff.train.trained import KEY

_WEIGHTS = (".safetensors", ".bin", ".pt", ".index.json", ".md")
_NOT_COPIED = ("config.json", "generation_config.json", "metrics.json", SETTINGS_FILE, BASE_FILE)


@dataclass(frozen=True, kw_only=True)
class Written:
    """The number type of what was written; how far merging moved the logits, and the largest."""

    dtype: torch.dtype
    merged: tuple[float, float] | None = None


def write(config: ExportConfig, source: Source) -> Written:
    """Write `output_dir`, whole or not at all; a full disk raises StoreError."""
    if source.adapters is not None and not config.merge:
        return _write_adapters(config, source, source.adapters)
    if source.kind is Kind.llava_original:
        return _bring_in_llava(config, source)
    model, merged = _opened(config, source)
    if config.format is Format.llava:
        write_llava(
            model,
            open_llama_tokenizer(source.weights),
            Path(config.output_dir),
            vision_tower=config.vision_tower or VISION_TOWER,
        )
    elif config.format is Format.internvl2:
        with new_folder(Path(config.output_dir)) as unfinished:
            internvl2_weights.to_original(model, unfinished, source.companions)
            _readable(unfinished)
    else:
        _write_plain(config, source, model)
    return Written(dtype=model.dtype, merged=merged)


def _opened(config: ExportConfig, source: Source) -> tuple[Any, tuple[float, float] | None]:
    """The plain model in the number type that is written, and what merging did."""
    dtype = _asked_dtype(config) or stored_dtype(source.weights)
    with loading(KEY, source.name):
        model = _load(source, dtype if source.adapters is None else torch.float32)
    if source.adapters is None:
        return model, None
    merged = merge(model, source, source.adapters)
    model = rounded(merged.model, dtype)
    model.config.dtype = dtype
    return model, (merged.moved, merged.largest)


def _asked_dtype(config: ExportConfig) -> torch.dtype | None:
    return None if config.dtype is None else getattr(torch, config.dtype.value)


def _load(source: Source, dtype: torch.dtype) -> Any:
    if source.kind.is_internvl:
        return internvl2_weights.load(source.weights, dtype)
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration.from_pretrained(source.weights, dtype=dtype)


def _write_plain(config: ExportConfig, source: Source, model: Any) -> None:
    """A folder of transformers: weights, config, tokenizer, and for a LLaVA its processor."""
    with new_folder(Path(config.output_dir)) as unfinished, quietly():
        if source.kind.is_internvl:  # an original folder holds a tokenizer of remote code
            open_tokenizer(source.weights).save_pretrained(unfinished)
        else:
            for folder in dict.fromkeys((source.weights, source.folder)):
                _copy_companions(folder, unfinished)
        model.save_pretrained(unfinished)
        _readable(unfinished)


def _copy_companions(folder: Path, target: Path) -> None:
    """Tokenizer, processor and the like; never weights, nor what says that these are adapters."""
    for file in sorted(folder.iterdir()):
        skip = file.name.endswith(_WEIGHTS) or file.name in _NOT_COPIED
        if file.is_file() and not skip:
            shutil.copyfile(file, target / file.name)


def _readable(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read


def _bring_in_llava(config: ExportConfig, source: Source) -> Written:
    tower = locate("vision_tower", str(config.vision_tower))
    with loading(KEY, source.name):
        llava = read_llava(source.weights, tower)
    asked = _asked_dtype(config)
    if asked is not None:
        rounded(llava.model, asked)
        llava.model.config.dtype = asked
    llava.write(Path(config.output_dir))
    return Written(dtype=llava.model.dtype)


def _write_adapters(config: ExportConfig, source: Source, adapters: Adapters) -> Written:
    """As LLaVA's own LoRA runs; no weight of the base is read."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    settings = read_json(adapters.folder / SETTINGS_FILE)
    state = stored_weights(adapters)
    with torch.device("meta"), loading(KEY, source.name):
        shell = LlavaForConditionalGeneration._from_config(
            LlavaConfig.from_pretrained(source.weights), dtype=stored_dtype(source.weights)
        )
    write_llava_adapter(
        state,
        LoraShape(
            rank=settings["r"], alpha=settings["lora_alpha"], dropout=settings["lora_dropout"]
        ),
        shell,
        open_llama_tokenizer(source.weights),
        Path(config.output_dir),
        base=adapters.base_name,
        vision_tower=config.vision_tower or VISION_TOWER,
    )
    return Written(dtype=next(iter(state.values())).dtype)

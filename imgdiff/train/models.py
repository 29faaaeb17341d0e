"""Opening the model that a run starts from: its reader, then its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imgdiff.backends.adapters import holds_adapters
from imgdiff.backends.chat_templates import TEMPLATES
from imgdiff.backends.checkpoint_kind import Kind, kind_of
from imgdiff.backends.checkpoints import (
    Needed,
    content_identity,
    find,
    locate,
    refuse_random,
    require,
)
from imgdiff.backends.loading import loading
from imgdiff.backends.readers import LlavaReader, Reader
from imgdiff.backends.segment_attention import attend_by_segment
from imgdiff.core.console import say
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.identity import fingerprint
from imgdiff.train.config import (
    AssemblyConfig,
    Attention,
    ModelConfig,
    Precision,
    TrainConfig,
    Tuning,
)
from imgdiff.train.tuning import prepare

KEY = "model.path"
TRAINED = (Kind.llava, Kind.internvl, Kind.internvl_original)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The checkpoint that a run starts from, found and recognised, no weight loaded."""

    name: str  # as the settings have it
    folder: Path
    kind: Kind
    identity: str  # of its files

    @property
    def is_internvl(self) -> bool:
        """Whether it is an InternVL2, else a LLaVA-1.5."""
        return self.kind.is_internvl


def find_base(config: ModelConfig, cache: Path, *, needs_weights: bool = True) -> Base:
    """The base checkpoint of a run; an assembled one is put together in `cache` the first time.

    BackendError where it is missing, holds no weights (where those are needed), or is of another
    architecture; ConfigError for random weights.
    """
    if config.assembly.wanted:
        folder = _assembled(config.assembly, cache)
    else:
        refuse_random(KEY, config.path)
        if needs_weights or find(config.path) is None:
            require([Needed(key=KEY, model=config.path, size=config.size)])
        folder = locate(KEY, config.path)
    name = str(folder) if config.assembly.wanted else config.path
    _refuse_adapters(name, folder)
    kind = kind_of(KEY, name, folder, TRAINED)
    return Base(name=name, folder=folder, kind=kind, identity=content_identity(folder))


def _refuse_adapters(name: str, folder: Path) -> None:
    if holds_adapters(folder):
        raise BackendError(
            f"{KEY}={name}: holds adapters, not a model. Merge them first: `python -m "
            f"imgdiff.train.export checkpoint={name} output_dir=FOLDER`, then train from FOLDER."
        )


def _assembled(config: AssemblyConfig, cache: Path) -> Path:
    """The folder of the model put together from its parts, written once (about 14 GB for 7B)."""
    from imgdiff.backends.llava_weights import assemble

    keys = ("language", "vision", "projector")
    names = {f"model.assembly.{key}": str(getattr(config, key)) for key in keys}
    for key, name in names.items():
        refuse_random(key, name)
    require(
        Needed(key=key, model=name, size=size)
        for (key, name), size in zip(names.items(), ("13 GB", "1.7 GB", "0.04 GB"), strict=True)
    )
    parts = [locate(key, name) for key, name in names.items()]
    folder = cache / "assembled" / fingerprint(*(content_identity(part) for part in parts))
    if not folder.is_dir():
        say(f"putting the model together in {folder}")
        with loading("model.assembly", " + ".join(names.values())):
            assemble(*parts).write(folder)
    return folder


def open_reader(config: ModelConfig, base: Base) -> Reader:
    """Text and pixels of the base's family; loads a tokenizer and no weights."""
    if base.is_internvl:
        from imgdiff.backends.internvl2_reader import InternVl2Reader

        return InternVl2Reader(base.folder, config.max_tiles)
    return LlavaReader(base.folder, TEMPLATES[config.template.value])


def load_model(config: TrainConfig, base: Base) -> nn.Module:
    """The base's weights on the CPU, frozen and adapted as `tuning` says.

    What trains is float32 (the optimiser steps on these); what is frozen is bfloat16 on a GPU.
    """
    half = torch.cuda.is_available() and config.precision is Precision.bfloat16
    adapted = config.tuning.kind is not Tuning.full
    dtype = torch.bfloat16 if half and adapted else torch.float32
    with loading(KEY, base.name):
        model = _weights(config, base, dtype)
    if config.without_padding and config.model.attention is Attention.sdpa:
        attend_by_segment(model.model.language_model)
    if half:
        model.model.vision_tower.to(torch.bfloat16)
    torch.manual_seed(config.seed)  # adapters begin at random, whatever loading has drawn
    tuned = prepare(model, config.tuning)
    for parameter in tuned.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.float()
    if config.model.recompute:
        _recompute(model, inputs_need_grad=adapted)
    return tuned


def _weights(config: TrainConfig, base: Base, dtype: torch.dtype) -> Any:
    options: dict[str, Any] = {
        "dtype": dtype,
        "attn_implementation": config.model.attention.value,
    }
    quantised = config.tuning.kind is Tuning.qlora
    if quantised:
        options["quantization_config"] = _four_bits()
    if base.is_internvl:
        return _internvl(base, options, quantised=quantised)
    from transformers import LlavaForConditionalGeneration

    return LlavaForConditionalGeneration.from_pretrained(base.folder, **options)


def _internvl(base: Base, options: dict[str, Any], *, quantised: bool) -> Any:
    from imgdiff.backends.internvl2_weights import load, refuse_silent_tie

    if not quantised:
        model = load(base.folder, options["dtype"])
        model.set_attn_implementation(options["attn_implementation"])
        return model
    if base.kind is Kind.internvl_original:
        raise ConfigError(
            f"tuning=qlora: {base.name} is converted while it loads and cannot be quantised on the "
            f"way. Convert it once (`python -m imgdiff.train.export checkpoint={base.name} "
            "format=hf output_dir=FOLDER`) and set model.path=FOLDER."
        )
    from transformers import InternVLForConditionalGeneration

    refuse_silent_tie(base.folder)
    return InternVLForConditionalGeneration.from_pretrained(base.folder, **options)


def _four_bits() -> Any:
    """QLoRA's own settings: NF4, constants quantised too, products in bfloat16."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["vision_tower", "multi_modal_projector", "lm_head"],
    )


def _recompute(model: Any, *, inputs_need_grad: bool) -> None:
    """Recompute the language model's activations in the backward pass."""
    language = model.model.language_model
    language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if inputs_need_grad:  # frozen embeddings would end the graph below the first block
        language.enable_input_require_grads()

"""What trains: frozen parts, adapters, and one group of parameters per learning rate."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.train.config import TrainConfig, Tuning, TuningConfig

VISION = "vision_tower"
PROJECTOR = "multi_modal_projector"
# Suffixes alone ("q_proj") would also hit CLIP, and "all-linear" the projector. Llama, Vicuna,
# Qwen2 and converted InternLM2 name their layers alike.
ADAPTED = (
    r".*language_model\.layers\.\d+\."
    r"(self_attn\.(q_proj|k_proj|v_proj|o_proj)|mlp\.(gate_proj|up_proj|down_proj))"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One line of the table of what trains. `rate` is None for what is frozen."""

    name: str
    tensors: int
    parameters: int
    trained: int
    rate: float | None
    weight_decay: float


def prepare(model: nn.Module, config: TuningConfig) -> nn.Module:
    """Freeze what does not train and add adapters; the model, or a peft model around it.

    The vision tower is frozen under every tuning. BackendError where the adapters find no layer.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_trains(name, config.kind))
    if not config.has_adapters:
        return model
    return _with_adapters(model, config)


def _trains(name: str, kind: Tuning) -> bool:
    if f"{VISION}." in name:
        return False
    return kind is Tuning.full or (kind is Tuning.projector and f"{PROJECTOR}." in name)


def _with_adapters(model: nn.Module, config: TuningConfig) -> nn.Module:
    from peft import LoraConfig, get_peft_model

    hit = [name for name, _ in model.named_modules() if re.fullmatch(ADAPTED, name)]
    if not hit:
        raise BackendError(
            "tuning=lora: this model has no language_model.layers.N.self_attn/mlp projections to "
            "adapt; use tuning=full, or a LLaVA-1.5 or InternVL2 checkpoint"
        )
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=ADAPTED,
        modules_to_save=[PROJECTOR] if config.train_projector else None,
        bias="none",
    )
    return get_peft_model(model, settings)


def inner(model: nn.Module) -> Any:
    """The multimodal model itself: without peft's wrapper, its adapters in place."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def set_modes(model: nn.Module, *, training: bool) -> None:
    """Training mode but for the frozen tower, which stays in evaluation mode.

    `from_pretrained` returns evaluation mode and Lightning leaves modes as they are: without this
    neither the adapters' dropout nor recomputation would be on.
    """
    model.train(training)
    for name, part in model.named_modules():
        if name.endswith(VISION):
            part.eval()


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups for AdamW, one per learning rate, none of them empty (DeepSpeed fails on those)."""
    groups: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[rate_of(name, config)].append(parameter)
    if not groups:
        raise ConfigError(f"tuning={config.tuning.kind.value}: nothing would train in this model")
    return [
        {"params": parameters, "lr": rate, "weight_decay": config.weight_decay}
        for rate, parameters in groups.items()
    ]


def rate_of(name: str, config: TrainConfig) -> float:
    """Peak learning rate of a parameter."""
    projector_rate = config.projector_learning_rate
    is_projector = f"{PROJECTOR}." in name
    return projector_rate if is_projector and projector_rate is not None else config.learning_rate


def parts(model: nn.Module, config: TrainConfig) -> list[Part]:
    """What trains and what does not, by part of the model, in a fixed order."""
    held: dict[str, list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if ".original_module." not in name:  # what peft has copied for training
            held[_part_of(name)].append((name, parameter))
    return [_part(name, held[name], config) for name in _ORDER if name in held]


_ORDER = ("vision tower", "projector", "embeddings", "language model", "adapters", "head")


def _part_of(name: str) -> str:
    marks = (
        ("lora_", "adapters"),
        (f"{VISION}.", "vision tower"),
        (f"{PROJECTOR}.", "projector"),
        ("embed_tokens.", "embeddings"),
        ("lm_head.", "head"),
    )
    return next((part for mark, part in marks if mark in name), "language model")


def _part(name: str, held: Sequence[tuple[str, nn.Parameter]], config: TrainConfig) -> Part:
    trained = [(key, value) for key, value in held if value.requires_grad]
    return Part(
        name=name,
        tensors=len(held),
        parameters=sum(numel(value) for _, value in held),
        trained=sum(numel(value) for _, value in trained),
        rate=rate_of(trained[0][0], config) if trained else None,
        weight_decay=config.weight_decay if trained else 0.0,
    )


def numel(parameter: nn.Parameter) -> int:
    """How many numbers a weight stands for, also where it is sharded away or held in 4 bits."""
    packed = getattr(parameter, "quant_state", None)  # bitsandbytes: two numbers in a byte
    if packed is not None:
        return math.prod(packed.shape)
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def trained_names(model: nn.Module) -> Iterator[str]:
    """Names of the parameters that train, as in the state of the model."""
    return (name for name, parameter in model.named_parameters() if parameter.requires_grad)

"""Arithmetic of a training step, for the share of a device's peak that is used (MFU).

Counted: matrix products of the language model and its attention on tokens that are not padding,
forward and backward, and the forward pass of the vision tower. Not counted: recomputation, which
is work but no progress (the usual meaning of model FLOPs utilisation; PaLM, appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from imgdiff.train.config import Precision, Tuning
from imgdiff.train.tuning import PROJECTOR, VISION, inner, numel

_FORWARD = 2  # one multiplication and one addition per weight and token
# Looked up and not multiplied; the adapters; what peft keeps of a module that it has copied.
_NO_WORK = ("embed", "lora_", "original_module")


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Floating-point operations of one model under one tuning."""

    per_token: float  # matrix products of language model and head
    per_square: float  # attention, per squared length of a sample
    per_view: float  # vision tower and projector, per view

    def step(self, tokens: int, squares: int, views: int) -> float:
        """Operations for `tokens` in samples whose squared lengths sum to `squares`."""
        return self.per_token * tokens + self.per_square * squares + self.per_view * views


def arithmetic(model: nn.Module, tuning: Tuning) -> Arithmetic:
    """Counted from the shapes of the weights."""
    base = inner(model)
    # Forward once; backward once for activations, and once more for weights that train.
    passes = 3 if tuning is Tuning.full else 2
    weights = {"language": 0, "vision": 0, "projector": 0}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not any(mark in name for mark in _NO_WORK):
            weights[_kind(name)] += numel(parameter)
    text, vision = base.config.text_config, base.config.vision_config
    if bool(getattr(base.config, "tie_word_embeddings", False)):
        weights["language"] += text.vocab_size * text.hidden_size  # the head, once more
    side = (
        vision.image_size[0] if isinstance(vision.image_size, (list, tuple)) else vision.image_size
    )
    patch = (
        vision.patch_size[0] if isinstance(vision.patch_size, (list, tuple)) else vision.patch_size
    )
    patches = (side // patch) ** 2
    attention = 4 * patches**2 * vision.hidden_size * vision.num_hidden_layers
    return Arithmetic(
        per_token=passes * _FORWARD * float(weights["language"]),
        # Two products of length x length x width, half of it behind the causal mask.
        per_square=passes * 2.0 * text.hidden_size * text.num_hidden_layers,
        per_view=float(
            _FORWARD * patches * weights["vision"]
            + attention
            + 3 * _FORWARD * patches * weights["projector"]
        ),
    )


def peak(precision: Precision) -> float | None:
    """Operations per second that the device is sold with; None where that is not known."""
    from lightning.fabric.utilities.throughput import get_available_flops

    if not torch.cuda.is_available():
        return None
    dtype: Any = torch.bfloat16 if precision is Precision.bfloat16 else torch.float32
    return get_available_flops(torch.device("cuda", torch.cuda.current_device()), dtype)


def _kind(name: str) -> str:
    if f"{VISION}." in name:
        return "vision"
    return "projector" if f"{PROJECTOR}." in name else "language"

"""Muon (Jordan et al. 2024) for matrices and kernels of the layers, AdamW for everything else.

Its matrix products cost little where bfloat16 products are fast, and it needs fewer steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from imgdiff.mini.build.loop import LoopConfig, groups_of


@runtime_checkable
class Part(Protocol):
    """What `Together` asks of an optimiser."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameters with their settings."""

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's
        """Forget the gradients."""

    def step(self) -> Any:
        """Move the parameters."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""


class ConvolutionMuon:
    """Muon on kernels [O I h w], each taken as the matrix [O I*h*w] that it multiplies by."""

    def __init__(self, kernels: Iterable[nn.Parameter], config: LoopConfig) -> None:
        self._kernels = list(kernels)
        self._flat = [nn.Parameter(kernel.detach().flatten(1)) for kernel in self._kernels]
        for kernel, flat in zip(self._kernels, self._flat, strict=True):
            if flat.data_ptr() != kernel.data_ptr():
                raise ValueError("a kernel is not contiguous: a step would move a copy of it")
        self._muon = matrix_muon(self._flat, config)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the flat views."""
        return self._muon.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002
        """Forget the gradients."""
        for kernel in self._kernels:
            kernel.grad = None

    def step(self) -> None:
        """One step; the views share the kernels' memory."""
        for kernel, flat in zip(self._kernels, self._flat, strict=True):
            flat.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        self._muon.step()

    def state_dict(self) -> dict[str, Any]:
        """Muon's."""
        return self._muon.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self._muon.load_state_dict(state_dict)


def matrix_muon(matrices: Iterable[nn.Parameter], config: LoopConfig) -> torch.optim.Muon:
    """Muon, scaled to AdamW's step size."""
    return torch.optim.Muon(
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


class Together:
    """Several optimisers used as one."""

    def __init__(self, *parts: Part) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all; a learning rate set here is set there."""
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """One step of each."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the states of all back."""
        for part, saved in zip(self._parts, state["parts"], strict=True):
            part.load_state_dict(saved)


def muon(model: nn.Module, config: LoopConfig) -> Together:
    """For `loop.train`: Muon, scaled to AdamW's step size, on the layers' weight matrices."""
    matrices = {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim == 2 and ".layer" in name  # noqa: PLR2004
    }
    others = [p for name, p in model.named_parameters() if name not in matrices]
    return Together(
        matrix_muon(matrices.values(), config),
        torch.optim.AdamW(
            groups_of(others, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
        ),
    )

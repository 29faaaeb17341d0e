"""Muon (Jordan et al. 2024) for the matrices of transformer layers, AdamW for everything else.

Its matrix products cost little where bfloat16 products are fast, and it needs fewer steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from imgdiff.mini.build.loop import LoopConfig, groups_of


class Together:
    """Two optimisers used as one."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both; a learning rate set here is set there."""
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
        """The states of both."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the states of both back."""
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
        torch.optim.Muon(
            matrices.values(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            groups_of(others, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
        ),
    )

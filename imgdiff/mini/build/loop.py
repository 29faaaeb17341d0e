"""One resumable training loop for every checkpoint of the mini family."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imgdiff.core.files import atomic_path

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class LoopConfig:
    """How long and how fast to train. `save_every` and `log_every` count steps."""

    steps: int
    learning_rate: float
    warmup: int = 200
    hold: int = 0  # steps at the peak before the rate falls, if more than the warm-up
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    save_every: int = 250
    log_every: int = 50


def device() -> torch.device:
    """A GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast() -> torch.autocast:
    """bfloat16 where the processor multiplies it fast; weights stay float32."""
    return torch.autocast(device().type, dtype=torch.bfloat16)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Linear warm-up, the peak until step `hold`, then cosine to 2 % of it."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    falls = max(config.warmup, config.hold)
    if step < falls:
        return config.learning_rate
    done = (step - falls) / max(1, config.steps - falls)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def groups_of(parameters: Iterable[nn.Parameter], decay: float) -> list[dict[str, object]]:
    """Matrices decay, vectors (norms, biases) do not; empty groups are left out."""
    trained = [p for p in parameters if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(model: nn.Module, config: LoopConfig) -> torch.optim.AdamW:
    """The optimiser that `train` uses unless given another."""
    groups = groups_of(model.parameters(), config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def train(
    model: nn.Module,
    loss_of: Callable[[int], dict[str, Tensor]],
    config: LoopConfig,
    state_file: Path,
    optimiser_of: Callable[[nn.Module, LoopConfig], Any] = adamw,
) -> None:
    """Minimise the sum of `loss_of(step)`; resumes from `state_file` if it is there.

    `loss_of` draws its batch from (seed, step) only, so a resumed run sees the same batches.
    """

    def gradients_of(step: int) -> dict[str, Tensor]:
        parts = loss_of(step)
        model.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        return parts

    descend(model, gradients_of, config, state_file, optimiser_of)


def descend(
    model: nn.Module,
    gradients_of: Callable[[int], dict[str, Tensor]],
    config: LoopConfig,
    state_file: Path,
    optimiser_of: Callable[[nn.Module, LoopConfig], Any] = adamw,
) -> None:
    """As `train`, for who differentiates himself.

    `gradients_of(step)` leaves the gradients in the model's `.grad` and tells the losses.
    """
    optimiser = optimiser_of(model, config)
    start = _resume(model, optimiser, state_file)
    model.train()
    clock = time.monotonic()
    for step in range(start, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, config)
        parts = gradients_of(step)
        total = sum(value.item() for value in parts.values())
        if not math.isfinite(total):
            raise FloatingPointError(f"loss is {total} at step {step} of {state_file}")
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
        if (step + 1) % config.log_every == 0:
            pace = (time.monotonic() - clock) / (step + 1 - start)
            _report(state_file.stem, step + 1, config.steps, pace, parts)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            _save(model, optimiser, step + 1, state_file)
    model.eval()


def _report(name: str, step: int, steps: int, pace: float, parts: dict[str, Tensor]) -> None:
    losses = "  ".join(f"{key} {value.item():.3f}" for key, value in parts.items())
    left = pace * (steps - step) / 60
    log.info("%s %d/%d  %s  %.2f s/step  %.0f min left", name, step, steps, losses, pace, left)


def _save(model: nn.Module, optimiser: Any, step: int, path: Path) -> None:
    with atomic_path(path) as temporary:
        torch.save(
            {"step": step, "model": model.state_dict(), "optimiser": optimiser.state_dict()},
            temporary,
        )


def _resume(model: nn.Module, optimiser: Any, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    log.info("%s: resumed at step %d", path.stem, state["step"])
    return int(state["step"])

"""What is optimised: language model and projector of a LLaVA, its vision tower frozen."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from imgdiff.core.errors import BackendError
from imgdiff.train.config import TrainConfig
from imgdiff.train.data import Batch

FROZEN = "vision_tower"


class FineTuning(pl.LightningModule):
    """LLaVA-1.5's second stage (scripts/v1_5/finetune.sh): AdamW without clipping, cosine.

    The loss of a step is the mean over the supervised tokens of its batch.
    """

    def __init__(self, model: Any, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.losses: list[float] = []
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(f"{FROZEN}." not in name)

    def train(self, mode: bool = True) -> FineTuning:  # noqa: FBT001, FBT002 (torch's signature)
        """Training mode for what is trained; the frozen tower stays in evaluation mode."""
        super().train(mode)
        for name, part in self.model.named_modules():
            if name.endswith(FROZEN):
                part.eval()
        return self

    def on_fit_start(self) -> None:
        """`from_pretrained` returns evaluation mode, and Lightning leaves modes as they are."""
        self.train()

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Token-mean loss of one batch."""
        loss: Tensor = self.model(**batch, use_cache=False).loss
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BackendError(
                f"loss is {value} at step {self.global_step + 1}; lower learning_rate="
                f"{self.config.learning_rate}, or set precision=float32"
            )
        self.losses.append(value)
        rate = self.config.learning_rate * rate_factor(
            self.global_step, self.config.max_steps, self.config.warmup_ratio
        )
        self.log_dict({"loss": value, "learning_rate": rate})
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW (0.9, 0.999, 1e-8) and one learning rate per step."""
        config = self.config
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(
            trained, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(step, config.max_steps, config.warmup_ratio)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Share of the peak learning rate at `step` (from 0): linear from 0, then cosine to 0.

    As transformers' cosine schedule with ceil(warmup_ratio * steps) warm-up steps.
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))

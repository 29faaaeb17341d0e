"""One forward pass and its loss, and what the optimiser gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import lightning.pytorch as pl
import torch
from jaxtyping import Float, Int
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn import functional as F

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.backends.segment_attention import LENGTHS
from imgdiff.core.identity import seed_for
from imgdiff.train.collate import MicroBatch
from imgdiff.train.config import Attention, TrainConfig
from imgdiff.train.schedule import rate_factor
from imgdiff.train.tuning import inner, parameter_groups, set_modes, trained_names


@dataclass(kw_only=True)
class Tally:
    """Sums over the micro-batches of one optimiser step on one device."""

    losses: Float[Tensor, ""]  # of micro-batch means
    token_losses: Float[Tensor, " N"]  # by source
    tokens: Int[Tensor, " N"]  # supervised, by source
    micro_batches: int
    samples: int
    seen: int  # which samples, see `collate.Item.mark`
    useful: int  # tokens that are not padding
    squares: int  # of the lengths of the samples
    placed: int  # tokens with padding
    views: int  # of images

    def __add__(self, other: Tally) -> Tally:
        names = (field.name for field in fields(self))
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


class FineTuning(pl.LightningModule):
    """AdamW on the token-mean loss of each micro-batch, as LLaVA-1.5 and InternVL2 train.

    `open_model` loads and prepares the model on the device's process; `vocabulary` is how many
    outputs of the head the loss sees (added rows such as `<image>` are no words).
    """

    # Resume points hold what trains; what is frozen comes from the base checkpoint.
    strict_loading = False

    def __init__(
        self,
        open_model: Callable[[], nn.Module],
        config: TrainConfig,
        *,
        steps: int,
        vocabulary: int,
        sources: int,
        view_px: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.model: Any = None
        self._open_model = open_model
        self._steps = steps
        self._vocabulary = vocabulary
        self._sources = sources
        self._view_px = view_px
        self.tally: Tally | None = None

    def configure_model(self) -> None:
        """Load once, where the strategy wants it."""
        if self.model is None:
            self.model = self._open_model()

    def on_fit_start(self) -> None:
        """Modes are set here, and not left to Lightning."""
        set_modes(self.model, training=True)

    def training_step(self, batch: MicroBatch, index: int) -> Float[Tensor, ""]:
        """Mean loss over the supervised tokens of one micro-batch."""
        # Dropout follows the place in the run, so it is the same after a restart.
        place = f"{self.global_rank}:{index}"
        torch.manual_seed(seed_for(self.config.seed, place, "dropout"))
        hidden = self._hidden(batch)
        labels = batch.labels[:, 1:]
        kept = labels != IGNORED
        # The head runs where something is to be predicted, and nowhere else.
        logits = inner(self.model).lm_head(hidden[:, :-1][kept])[:, : self._vocabulary]
        losses = F.cross_entropy(logits.float(), labels[kept], reduction="none")
        self._count(batch, losses.detach(), batch.sources[:, 1:][kept])
        return losses.mean() + self._blank_image(batch, hidden)

    def _hidden(self, batch: MicroBatch) -> Float[Tensor, "R T H"]:
        """Last hidden states. Padding ends a row, where nothing before it can see it."""
        inputs: dict[str, Any] = {"input_ids": batch.input_ids, "use_cache": False}
        if batch.position_ids is not None:
            inputs["position_ids"] = batch.position_ids
            if self.config.model.attention is Attention.sdpa:
                inputs[LENGTHS] = batch.lengths
        if batch.pixel_values is not None:
            inputs["pixel_values"] = batch.pixel_values
        return inner(self.model).model(**inputs).last_hidden_state

    def _blank_image(self, batch: MicroBatch, hidden: Tensor) -> Tensor | float:
        """0, made from a blank image where a micro-batch shows none.

        So the projector has a gradient (of 0) on every device in every step: without it the
        devices of a sharded run would wait for each other for ever.
        """
        if batch.pixel_values is not None:
            return 0.0
        side = self._view_px
        blank = torch.zeros(1, 3, side, side, device=hidden.device, dtype=hidden.dtype)
        features = inner(self.model).model.get_image_features(pixel_values=blank, return_dict=True)
        rows = features.pooler_output
        seen = torch.stack(list(rows)) if isinstance(rows, (list, tuple)) else rows
        return 0.0 * seen.float().sum()

    def _count(self, batch: MicroBatch, losses: Tensor, sources: Tensor) -> None:
        """Add a micro-batch to the tally of its step; nothing is moved off the device."""
        zeros = torch.zeros(self._sources, device=losses.device)
        new = Tally(
            losses=losses.mean(),
            token_losses=zeros.index_add(0, sources, losses),
            tokens=torch.bincount(sources, minlength=self._sources),
            micro_batches=1,
            samples=batch.samples,
            seen=batch.seen,
            useful=sum(batch.lengths),
            squares=sum(length * length for length in batch.lengths),
            placed=batch.input_ids.numel(),
            views=batch.views,
        )
        self.tally = new if self.tally is None else self.tally + new

    def take_tally(self) -> Tally:
        """The sums of the step that ends, and begin anew."""
        tally, self.tally = self.tally, None
        if tally is None:
            raise RuntimeError("no micro-batch since the last step")
        return tally

    def rate(self, step: int) -> float:
        """Learning rate of optimiser step `step` (from 0)."""
        factor = rate_factor(step, self._steps, self.config.warmup_ratio)
        return self.config.learning_rate * factor

    def configure_optimizers(self) -> Any:
        """AdamW (0.9, 0.999, 1e-8), one group and one rate per part."""
        config = self.config
        optimiser = torch.optim.AdamW(
            parameter_groups(self.model, config),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=torch.cuda.is_available(),
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(step, self._steps, config.warmup_ratio)
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """By the norm over all devices; Lightning refuses where FSDP holds a part on each."""
        whole = self.trainer.strategy.model
        if gradient_clip_val is not None and isinstance(whole, FullyShardedDataParallel):
            whole.clip_grad_norm_(gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what is frozen (also for strategies that gather the whole model).

        Not under FSDP, whose loader asks for every tensor.
        """
        state = checkpoint.get("state_dict")
        if state and not isinstance(self.trainer.strategy, FSDPStrategy):
            kept = {f"model.{name}" for name in trained_names(self.model)}
            checkpoint["state_dict"] = {k: v for k, v in state.items() if k in kept}

"""The heavy half of a run: model, Trainer, checkpoint folder."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
)

from imgdiff.backends.chat_templates import TEMPLATES
from imgdiff.backends.loading import loading, quietly
from imgdiff.core.console import Meter, console, meter, say
from imgdiff.core.errors import BackendError
from imgdiff.core.files import not_written
from imgdiff.train.config import Precision, TrainConfig
from imgdiff.train.data import Collator, PlannedSamples, Reader
from imgdiff.train.module import FineTuning
from imgdiff.train.sources import Source

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".index.json", ".md")
LINES_PER_RUN = 10  # of progress, where there is no terminal
PRECISIONS = {Precision.bfloat16: "bf16-mixed", Precision.float32: "32-true"}


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Mean loss of the first and of the last steps."""

    first: float
    last: float


def fit(
    config: TrainConfig,
    base: Path,
    sources: Sequence[Source],
    plan: Sequence[tuple[int, int]],
    checkpoint: Path,
) -> Losses:
    """Train on the planned samples and write `checkpoint` (whole or not at all)."""
    torch.set_num_threads(config.threads)
    reader = open_reader(config, base)
    samples = PlannedSamples(sources, plan, reader)
    pl.seed_everything(config.seed, verbose=False)
    model = _load(config.model.path, base)
    module = FineTuning(model, config)
    loader = DataLoader(
        samples,
        batch_size=config.batch_size,
        collate_fn=Collator(pad_id=reader.tokenizer.pad_token_id),
    )
    with warnings.catch_warnings():
        # Lightning's advice on workers, and its use of names that torch renames.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        _trainer(config, checkpoint.parent).fit(module, loader)
    write_checkpoint(model, base, checkpoint)
    count = max(1, min(10, len(module.losses) // 4))
    return Losses(first=fmean(module.losses[:count]), last=fmean(module.losses[-count:]))


def open_reader(config: TrainConfig, base: Path) -> Reader:
    """Tokenizer and image processor of the checkpoint; pads images to a square, as LLaVA-1.5."""
    try:
        shape = LlavaConfig.from_pretrained(base)
        tokenizer = AutoTokenizer.from_pretrained(base)
        images = LlavaImageProcessorPil.from_pretrained(base, do_pad=True)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"model.path={config.model.path}: not a LLaVA checkpoint of transformers ({error})"
        ) from None
    vision = shape.vision_config
    return Reader(
        tokenizer=tokenizer,
        image_processor=images,
        image_tokens=(vision.image_size // vision.patch_size) ** 2,
        template=TEMPLATES[config.model.template.value],
        max_tokens=config.model.max_tokens,
    )


def _load(name: str, base: Path) -> Any:
    with loading("model.path", name):
        return LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)


def _trainer(config: TrainConfig, output: Path) -> pl.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return pl.Trainer(
        max_epochs=1,
        precision=PRECISIONS[config.precision],  # type: ignore[arg-type]
        devices=1,
        logger=CSVLogger(output, name="", version=""),
        log_every_n_steps=1,
        callbacks=[Progress(config.max_steps)],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        deterministic=True,
    )


class Progress(pl.Callback):
    """A bar with rate and time left on a terminal, else ten lines per run."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._started = 0.0
        self._stack = ExitStack()
        self._meter: Meter | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the empty bar."""
        self._started = time.monotonic()
        self._meter = self._stack.enter_context(meter(self._steps, "fine-tuning"))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """One step more."""
        loss = float(trainer.callback_metrics["loss"])
        done = batch_idx + 1
        if self._meter is not None:
            self._meter.advance(1, f"fine-tuning  loss {loss:.3f}")
        every = max(1, self._steps // LINES_PER_RUN)
        if not console.is_terminal and (done % every == 0 or done == self._steps):
            rate = done / (time.monotonic() - self._started)
            left = (self._steps - done) / rate
            say(
                f"step {done}/{self._steps}  loss {loss:.3f}  {rate:.2f} steps/s  {left:.0f} s left"
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar, also after an error."""
        self._stack.close()


def write_checkpoint(model: Any, base: Path, folder: Path) -> None:
    """Weights in float32, config, and every other small file of the base checkpoint.

    The folder appears under its name only when it is whole. A full disk raises StoreError.
    """
    from safetensors import SafetensorError

    try:
        _write_checkpoint(model, base, folder)
    except SafetensorError as error:
        raise not_written(folder, OSError(str(error))) from error
    except OSError as error:
        raise not_written(folder, error) from error


def _write_checkpoint(model: Any, base: Path, folder: Path) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quietly():
        model.save_pretrained(unfinished)
    for file in sorted(base.iterdir()):
        is_weight = file.name.endswith(WEIGHT_SUFFIXES)
        if file.is_file() and not is_weight and not (unfinished / file.name).exists():
            shutil.copyfile(file, unfinished / file.name)
    for file in unfinished.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    unfinished.replace(folder)

"""The heavy half of a run: model, Trainer, checkpoint folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from imgdiff.backends.readers import Reader
from imgdiff.core.console import show_table
from imgdiff.core.errors import ConfigError
from imgdiff.train import resume
from imgdiff.train.checkpoints import write_checkpoint
from imgdiff.train.config import LoggingConfig, TrainConfig
from imgdiff.train.data import Planned
from imgdiff.train.flops import peak
from imgdiff.train.loading import PlannedData
from imgdiff.train.models import Base, load_model
from imgdiff.train.module import FineTuning
from imgdiff.train.ranks import rank
from imgdiff.train.steps import Steps
from imgdiff.train.strategies import build_trainer, zero3_loading
from imgdiff.train.tuning import Part, parts


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Mean loss of the first and of the last steps."""

    first: float
    last: float


def fit(
    config: TrainConfig, base: Base, reader: Reader, planned: Planned, output: Path
) -> Losses | None:
    """Train the plan, from the newest resume point if there is one, and write the checkpoint.

    None on every process but the first.
    """
    torch.set_num_threads(config.threads)
    names = [source.name for source in planned.table.sources]
    module = FineTuning(
        lambda: _open(config, base),
        config,
        steps=planned.plan.steps,
        vocabulary=reader.vocabulary,
        sources=len(names),
        view_px=reader.view_px,
    )
    steps = Steps(
        output,
        module,
        steps=planned.plan.steps,
        save_every=config.save_every,
        sources=names,
        peak=peak(config.precision),
    )
    with _quiet_lightning():
        trainer = build_trainer(
            config, planned.plan.steps, callbacks=[steps], logger=_loggers(config.logging, output)
        )
        point = resume.latest(output)
        data = PlannedData(planned, reader, config)
        trainer.fit(module, datamodule=data, ckpt_path=point, weights_only=True)
        write_checkpoint(trainer, module.model, base, reader, output / "checkpoint")
    if not trainer.is_global_zero:
        return None
    count = max(1, min(10, len(steps.losses) // 4))
    return Losses(first=fmean(steps.losses[:count]), last=fmean(steps.losses[-count:]))


def _open(config: TrainConfig, base: Base) -> nn.Module:
    """The prepared model, and the table of what trains for the person at the terminal."""
    kept = zero3_loading(config)
    model = load_model(config, base)
    del kept
    if rank() == 0:
        show_parts(parts(model, config))
    return model


def show_parts(found: list[Part]) -> None:
    """The table of what trains."""
    rows = [
        (
            part.name,
            f"{part.parameters:,}",
            f"{part.trained:,}",
            "frozen" if part.rate is None else f"{part.rate:g}",
            "" if part.rate is None else f"{part.weight_decay:g}",
        )
        for part in found
    ]
    total = sum(part.parameters for part in found), sum(part.trained for part in found)
    rows.append(("all", f"{total[0]:,}", f"{total[1]:,}", "", ""))
    header = ("part", "parameters", "trained", "peak rate", "decay")
    show_table("What trains", header, rows)


def _loggers(config: LoggingConfig, output: Path) -> list[Any]:
    """Loggers beside metrics.csv; ConfigError where a package is missing."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    try:
        found: list[Any] = []
        if config.tensorboard:
            found.append(TensorBoardLogger(output, name="", version="tensorboard"))
        if config.wandb_project is not None:
            found.append(WandbLogger(project=config.wandb_project, save_dir=output))
    except (ImportError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"logging: {error}. Install the package, or set logging.tensorboard=false and "
            "logging.wandb_project=null."
        ) from None
    return found


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice on workers and its use of names that torch renames."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield

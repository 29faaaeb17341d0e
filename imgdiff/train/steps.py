"""What happens after every optimiser step: figures gathered, checked, written, shown, saved."""

from __future__ import annotations

import csv
import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from imgdiff.core.console import Meter, console, meter, say
from imgdiff.core.errors import BackendError
from imgdiff.core.files import atomic_path, not_written
from imgdiff.train import resume
from imgdiff.train.flops import Arithmetic, arithmetic
from imgdiff.train.module import FineTuning, Tally

METRICS_FILE = "metrics.csv"
LINES_PER_RUN = 10  # of progress at least, where there is no terminal
LINE_SECONDS = 60.0  # between two of them at most
KILO = 1000
WINDOW = 30  # steps that the rates are taken over


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step of all devices. Losses are means; a source without a token has none."""

    number: int  # from 1
    loss: float
    by_source: tuple[float | None, ...]
    learning_rate: float
    samples: int
    useful_tokens: int
    placed_tokens: int
    operations: float  # floating-point, see flops.py
    seen: int  # tells which samples: equal for equal samples in equal places of the plan


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of the last steps."""

    steps: float  # per second
    samples: float
    useful_tokens: float
    padding: float  # share of the tokens
    utilisation: float | None  # share of the devices' peak; None where that is not known

    def text(self) -> str:
        """One short line."""
        tokens = f"{self.useful_tokens / KILO:.1f}k"
        parts = [f"{self.samples:.1f} samples/s", f"{tokens} tok/s", f"pad {self.padding:.0%}"]
        if self.utilisation is not None:
            parts.append(f"MFU {self.utilisation:.0%}")
        return "  ".join(parts)


class Steps(pl.Callback):
    """Gathers the tally of each step over all devices; the first process writes and shows it."""

    def __init__(
        self,
        output: Path,
        module: FineTuning,
        *,
        steps: int,
        save_every: int,
        sources: Sequence[str],
        peak: float | None,
    ) -> None:
        self._output, self._steps, self._save_every = output, steps, save_every
        self._module = module
        self._sources = tuple(sources)
        self._arithmetic: Arithmetic | None = None
        self._peak = peak
        self.losses: list[float] = []
        self._metrics = Metrics(output / METRICS_FILE, self._sources)
        self._clock = Clock()
        self._stack = ExitStack()
        self._meter: Meter | None = None
        self._seen = 0
        self._said = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar where the run begins or goes on."""
        self._seen = trainer.global_step
        self._arithmetic = arithmetic(self._module.model, self._module.config.tuning.kind)
        if trainer.is_global_zero:
            self.losses = self._metrics.begin_after(self._seen)
            self._meter = self._stack.enter_context(meter(self._steps, "fine-tuning"))
            self._meter.advance(self._seen)
            if self._seen:
                say(f"continuing after step {self._seen} of {self._steps}")
        self._clock.tick(None)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """At the end of a step: gather, check, write, show, save."""
        if trainer.global_step == self._seen:
            return  # a micro-batch within a step
        self._seen = trainer.global_step
        step = self._gathered(trainer)
        _check_finite(step)
        if trainer.is_global_zero:
            self._write(trainer, step)
        if self._seen % self._save_every == 0 and self._seen < self._steps:
            resume.save(trainer, self._output, self._seen)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        self._stack.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message is not drawn over."""
        self._stack.close()

    def _gathered(self, trainer: pl.Trainer) -> Step:
        sums = _vector(self._module.take_tally())
        if trainer.world_size > 1:
            sums = trainer.strategy.reduce(sums, reduce_op="sum")
        return self._step(sums.tolist())

    def _step(self, sums: list[float]) -> Step:
        count = len(self._sources)
        losses, micro_batches, samples, seen, useful, squares, placed, views = sums[:_SCALARS]
        by_source = zip(sums[_SCALARS : _SCALARS + count], sums[_SCALARS + count :], strict=True)
        work = self._arithmetic
        return Step(
            number=self._seen,
            loss=losses / micro_batches,
            by_source=tuple(total / tokens if tokens else None for total, tokens in by_source),
            learning_rate=self._module.rate(self._seen - 1),
            samples=int(samples),
            useful_tokens=int(useful),
            placed_tokens=int(placed),
            operations=work.step(int(useful), int(squares), int(views)) if work else 0.0,
            seen=int(seen),
        )

    def _write(self, trainer: pl.Trainer, step: Step) -> None:
        self._clock.tick(step)
        rates = self._clock.rates(self._peak and self._peak * trainer.world_size)
        self.losses.append(step.loss)
        self._metrics.append(step, rates)
        for logger in trainer.loggers:
            logger.log_metrics(figures(step, rates, self._sources), step=step.number)
        if self._meter is not None:
            self._meter.advance(1, f"loss {step.loss:.3f}  {rates.text()}")
        every = max(1, self._steps // LINES_PER_RUN)
        due = step.number % every == 0 or time.monotonic() - self._said > LINE_SECONDS
        if not console.is_terminal and (due or step.number == self._steps):
            self._said = time.monotonic()
            left = (self._steps - step.number) / rates.steps if rates.steps else 0.0
            say(
                f"step {step.number}/{self._steps}  loss {step.loss:.3f}  {rates.text()}  "
                f"{left:.0f} s left"
            )


_SCALARS = 8  # of `_vector`, before the figures by source


def _vector(tally: Tally) -> torch.Tensor:
    """A tally as one float64 tensor: sums of integers stay exact."""
    counts = (
        tally.micro_batches, tally.samples, tally.seen, tally.useful, tally.squares,
        tally.placed, tally.views,
    )  # fmt: skip
    where = tally.losses.device
    numbers = torch.tensor(counts, dtype=torch.float64, device=where)
    parts = (tally.losses[None], numbers, tally.token_losses, tally.tokens)
    return torch.cat([part.to(where, torch.float64) for part in parts])


def _check_finite(step: Step) -> None:
    if not math.isfinite(step.loss):
        raise BackendError(
            f"loss is {step.loss} at step {step.number}; lower learning_rate="
            f"{step.learning_rate:.2g}, or set precision=float32"
        )


class Clock:
    """Rates over the last steps."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[float, Step | None]] = deque(maxlen=WINDOW + 1)

    def tick(self, step: Step | None) -> None:
        """A step ends now; None: the run begins."""
        self._ticks.append((time.monotonic(), step))

    def rates(self, peak: float | None) -> Rates:
        """`peak`: operations per second of all devices together."""
        seconds = max(self._ticks[-1][0] - self._ticks[0][0], 1e-9)
        steps = [step for _, step in list(self._ticks)[1:] if step is not None]
        useful, placed = (
            sum(s.useful_tokens for s in steps),
            sum(s.placed_tokens for s in steps),
        )
        operations = sum(step.operations for step in steps)
        return Rates(
            steps=len(steps) / seconds,
            samples=sum(step.samples for step in steps) / seconds,
            useful_tokens=useful / seconds,
            padding=1.0 - useful / placed if placed else 0.0,
            utilisation=operations / seconds / peak if peak and operations else None,
        )


def figures(step: Step, rates: Rates, sources: Sequence[str]) -> dict[str, float]:
    """What loggers get, by the names that metrics.csv has as columns."""
    values = {"loss": step.loss, "learning_rate": step.learning_rate}
    for name, loss in zip(sources, step.by_source, strict=True):
        if loss is not None:
            values[f"loss_{name}"] = loss
    values |= {
        "samples": float(step.samples),
        "useful_tokens": float(step.useful_tokens),
        "padding": 1.0 - step.useful_tokens / step.placed_tokens,
        "samples_per_second": rates.samples,
        "useful_tokens_per_second": rates.useful_tokens,
    }
    if rates.utilisation is not None:
        values["mfu"] = rates.utilisation
    return values


class Metrics:
    """metrics.csv: one row per step, also over a restart."""

    def __init__(self, path: Path, sources: Sequence[str]) -> None:
        self._path, self._sources = path, tuple(sources)
        self._columns = [
            "step", "loss", *(f"loss_{name}" for name in sources), "learning_rate", "samples",
            "useful_tokens", "padding", "samples_per_second", "useful_tokens_per_second", "mfu",
            "seen",
        ]  # fmt: skip

    def begin_after(self, step: int) -> list[float]:
        """Keep the rows up to `step` alone; their losses."""
        rows: list[dict[str, str]] = []
        if self._path.exists() and step:
            with self._path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if _number(row) <= step]
        with atomic_path(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        return [float(row["loss"]) for row in rows]

    def append(self, step: Step, rates: Rates) -> None:
        """One row. A full disk raises StoreError."""
        row: dict[str, object] = {"step": step.number, "seen": f"{step.seen:014x}"}
        for name, value in figures(step, rates, self._sources).items():
            row[name] = f"{value:.6g}" if name not in ("samples", "useful_tokens") else int(value)
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise not_written(self._path, error) from error


def _number(row: dict[str, str]) -> int:
    """The step of a row; a line that a kill cut off sorts behind every step."""
    cells = (row.get("step") or "", row.get("loss") or "")
    return int(cells[0]) if cells[0].isdigit() and cells[1] else 1 << 62

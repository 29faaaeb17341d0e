"""The whole run, sample by sample, before it begins.

A plan is a pure function of settings, table and lengths: which sample stands at which place, and
where micro-batches begin. It does not know the number of workers or ranks, so neither changes the
order. Epochs never mix: each ends with its own last step, which is smaller where the samples do
not fill it (as transformers' Trainer). If fewer samples than micro-batches are left for that step,
the first samples of the epoch fill it up to one each (as accelerate's `even_batches`), so that no
rank is left without work.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from imgdiff.core.errors import ConfigError, StoreError
from imgdiff.core.files import atomic_path
from imgdiff.core.identity import fingerprint
from imgdiff.train import batching
from imgdiff.train.lengths import Lengths
from imgdiff.train.mixing import concatenated, rows_per_epoch, weighted
from imgdiff.train.table import Table

PLAN_VERSION = 1
_GROUPING = 1_000_003  # the generator of groupings; no source has this number
NOTHING_LEFT_OUT = np.empty(0, dtype=np.int64)


class Batching(str, enum.Enum):
    """How samples are grouped into micro-batches; see `imgdiff.train.batching`."""

    plain = "plain"
    modality = "modality"  # LLaVA's recipe
    length_bucket = "length_bucket"
    pack = "pack"


@dataclass(kw_only=True, slots=True)
class PlanConfig:
    """Geometry and length of a run."""

    batching: Batching = Batching.plain
    batch_size: int = 128  # samples of one optimiser step, over all ranks
    micro_batch_size: int = 16  # samples that one rank works on at once
    epochs: float = 1.0  # passes over all sources times their repeats
    max_steps: int | None = None  # optimiser steps; overrides epochs
    # Steps whose samples are sorted together (length_bucket). More gives less padding and a less
    # random order; 4 gives 96 %, 16 gives 99 % useful tokens on a synthetic mix as LLaVA's (128
    # samples in micro-batches of 16, where `modality` gives 62 %).
    window_steps: int = 16
    # Micro-batches of a step that are of like length (length_bucket): as many as devices work side
    # by side, so that few wait: on that mix 92 % of the tokens worked or waited for are useful
    # with 8 of 8, 66 % with 1 (`pack`: 99 %). Part of the plan: the order does not follow devices.
    lockstep: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        for key in ("batch_size", "micro_batch_size", "window_steps", "lockstep", "max_steps"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key}={value}: must be at least 1")
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise ConfigError(f"epochs={self.epochs}: must be above 0")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more")
        if self.batch_size % self.micro_batch_size:
            fits = [n for n in range(1, self.batch_size + 1) if self.batch_size % n == 0]
            raise ConfigError(
                f"batch_size={self.batch_size} is no multiple of micro_batch_size="
                f"{self.micro_batch_size}; a step is made of equal micro-batches. Set "
                f"micro_batch_size to one of {fits}, or change batch_size."
            )
        if self.micro_per_step % self.lockstep:
            raise ConfigError(
                f"lockstep={self.lockstep}: must divide the {self.micro_per_step} micro-batches of "
                "a step (batch_size / micro_batch_size). Set it to the number of devices."
            )

    @property
    def micro_per_step(self) -> int:
        """Micro-batches of one optimiser step, over all ranks."""
        return self.batch_size // self.micro_batch_size

    @property
    def needs_lengths(self) -> bool:
        """Whether the grouping needs token counts."""
        return self.batching in (Batching.length_bucket, Batching.pack)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """P places with the row of the table that each shows, in K micro-batches.

    Micro-batch k holds places starts[k] .. starts[k + 1]; micro_per_step of them make a step.
    """

    rows: Int32[np.ndarray, " P"]
    starts: Int64[np.ndarray, " E"]  # K + 1 edges
    micro_per_step: int
    identity: str

    @property
    def micro_batches(self) -> int:
        """How many micro-batches the run has, over all ranks."""
        return len(self.starts) - 1

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.micro_batches // self.micro_per_step

    def places(self, micro_batch: int) -> range:
        """The places of one micro-batch."""
        return range(int(self.starts[micro_batch]), int(self.starts[micro_batch + 1]))

    def save(self, path: Path) -> None:
        """Write as .npz, whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                rows=self.rows,
                starts=self.starts,
                micro_per_step=np.int64(self.micro_per_step),
                identity=np.str_(self.identity),
            )


def load_plan(path: Path, identity: str | None = None) -> Plan:
    """A saved plan. StoreError where it is damaged, or is not the plan of that identity."""
    try:
        with np.load(path) as stored:
            plan = Plan(
                rows=stored["rows"],
                starts=stored["starts"],
                micro_per_step=int(stored["micro_per_step"]),
                identity=str(stored["identity"]),
            )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise StoreError(
            f"{path}: not a plan ({error}). Delete it; it is then made anew."
        ) from None
    if identity is not None and plan.identity != identity:
        raise StoreError(
            f"{path}: plan {plan.identity}, expected {identity}: settings or data have changed. "
            "Restore them to continue that run, or start anew in another folder."
        )
    return plan


def make_plan(
    config: PlanConfig,
    table: Table,
    max_tokens: int,
    lengths: Lengths | None = None,
    excluded: Int64[np.ndarray, " X"] = NOTHING_LEFT_OUT,
) -> Plan:
    """The plan of a run; `lengths` where `config.needs_lengths`. Rows `excluded` are left out.

    Lengths beyond `max_tokens` count as that, being cut there.
    """
    if config.needs_lengths and lengths is None:
        raise ConfigError(f"batching={config.batching.value}: token lengths must be counted first")
    orders = _epochs(config, table, excluded)
    measure = _measure(config, table, max_tokens, lengths)
    parts, sizes = [], []
    for epoch, order in enumerate(orders):
        parts.append(order[_grouped(config, measure[order], epoch)])
        sizes.append(_sizes(config, len(order)))
    all_sizes = np.concatenate(sizes)
    micro_batches = _steps(config, table, excluded) * config.micro_per_step
    starts = np.concatenate([[0], np.cumsum(all_sizes[:micro_batches])]).astype(np.int64)
    rows = np.concatenate(parts)[: starts[-1]].astype(np.int32)
    return Plan(
        rows=rows,
        starts=starts,
        micro_per_step=config.micro_per_step,
        identity=fingerprint(
            PLAN_VERSION,
            dataclasses.asdict(config),
            table.identity,
            [(source.repeat, source.weight) for source in table.sources],
            lengths.identity if lengths is not None and config.needs_lengths else None,
            hashlib.sha256(rows.tobytes() + starts.tobytes()).hexdigest(),
        ),
    )


def _steps(config: PlanConfig, table: Table, excluded: Int64[np.ndarray, " X"]) -> int:
    """Optimiser steps of the run: an epoch takes as many as its samples need, rounded up."""
    if config.max_steps is not None:
        return config.max_steps
    samples = sum(len(rows) for rows in rows_per_epoch(table, excluded))
    per_epoch = -(-samples // config.batch_size)
    return math.ceil(Fraction(str(config.epochs)) * per_epoch)


def _epochs(
    config: PlanConfig, table: Table, excluded: Int64[np.ndarray, " X"]
) -> Iterator[Int64[np.ndarray, " S"]]:
    """Mixed rows of every epoch that the run touches. By weights, the run is one long epoch."""
    epochs = rows_per_epoch(table, excluded)
    steps = _steps(config, table, excluded)
    weights = [source.weight for source in table.sources if source.weight is not None]
    if weights:
        yield weighted(epochs, weights, steps * config.batch_size, config.seed)
        return
    epoch = 0
    while steps > 0:
        order = _filled(concatenated(epochs, config.seed, epoch), config)
        yield order
        steps -= -(-len(order) // config.batch_size)
        epoch += 1


def _filled(order: Int64[np.ndarray, " S"], config: PlanConfig) -> Int64[np.ndarray, " F"]:
    """`order`, its last step with at least one sample per micro-batch."""
    rest = len(order) % config.batch_size
    missing = max(0, config.micro_per_step - rest) if rest else 0
    return np.concatenate([order, order[np.arange(missing) % len(order)]])


def _measure(
    config: PlanConfig, table: Table, max_tokens: int, lengths: Lengths | None
) -> Int64[np.ndarray, " N"]:
    """What the grouping looks at, per row: tokens, or words (below 0 without an image)."""
    if config.needs_lengths and lengths is not None:
        return np.minimum(lengths.tokens_N, max_tokens).astype(np.int64)
    if config.batching is Batching.modality:
        words = table.column("words").astype(np.int64)
        return np.where(table.column("pictures") > 0, words, -words)
    return np.zeros(len(table), dtype=np.int64)


def _grouped(
    config: PlanConfig, measure: Int64[np.ndarray, " S"], epoch: int
) -> Int64[np.ndarray, " S"]:
    """The places of one epoch, in the order that the grouping gives."""
    rng = np.random.default_rng([config.seed, _GROUPING, epoch])
    shape = (config.micro_batch_size, config.micro_per_step)
    if config.batching is Batching.modality:
        return batching.modality(np.abs(measure), measure > 0, *shape, rng)
    if config.batching is Batching.length_bucket:
        return batching.length_bucket(measure, *shape, config.window_steps, config.lockstep, rng)
    if config.batching is Batching.pack:
        return batching.pack(measure, *shape)
    return np.arange(len(measure))


def _sizes(config: PlanConfig, samples: int) -> Int64[np.ndarray, " M"]:
    """Samples of every micro-batch of an epoch."""
    whole, rest = divmod(samples, config.batch_size)
    full = np.full(whole * config.micro_per_step, config.micro_batch_size, dtype=np.int64)
    last = batching.sizes_of_step(rest, config.micro_per_step) if rest else []
    return np.concatenate([full, np.asarray(last, dtype=np.int64)])


class PlanBatches:
    """Batch sampler of one rank: its micro-batches as lists of places, from `start` on.

    Rank r of `world` takes micro-batches r, r + world, ... of every step. `start` counts this
    rank's own; it may be set until iteration begins. The length is that of the whole run, also
    after a resume: Lightning ends an epoch by it.
    """

    def __init__(self, plan: Plan, rank: int = 0, world: int = 1, start: int = 0) -> None:
        if plan.micro_per_step % world:
            fits = [n for n in range(1, plan.micro_per_step + 1) if plan.micro_per_step % n == 0]
            raise ConfigError(
                f"{world} devices cannot share {plan.micro_per_step} micro-batches per step "
                f"(batch_size / micro_batch_size) equally. Use {fits} devices, or choose sizes "
                f"whose quotient is a multiple of {world}."
            )
        if not 0 <= rank < world:
            raise ConfigError(f"rank={rank}: must lie in 0 .. {world - 1}")
        self.plan, self.rank, self.world, self.start = plan, rank, world, start

    def __len__(self) -> int:
        return self.plan.micro_batches // self.world

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start, len(self)):
            yield list(self.plan.places(number * self.world + self.rank))


def useful_share(plan: Plan, tokens_N: Int64[np.ndarray, " N"]) -> float:
    """Tokens of samples over all tokens, where every micro-batch is padded to its longest."""
    tokens = np.asarray(tokens_N)[plan.rows].astype(np.int64)
    longest = np.maximum.reduceat(tokens, plan.starts[:-1])
    return float(tokens.sum() / (longest * np.diff(plan.starts)).sum())

"""The data of a run: its sources, table and plan, and the batches that a device takes from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from imgdiff.backends.world_data import instructions_folder
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import not_written
from imgdiff.train.config import BASE, SYNTH, WORLD, DataConfig, TrainConfig
from imgdiff.train.fit_check import check_fit
from imgdiff.train.lengths import token_lengths
from imgdiff.train.plan import Plan, PlanConfig, make_plan
from imgdiff.train.source_config import SourceConfig
from imgdiff.train.table import Table, open_table

if TYPE_CHECKING:  # it imports torch
    from imgdiff.backends.readers import Reader

WORLD_SEED = 0  # the drawn base instructions are one data set, whatever the seed of the run


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Everything about the data of a run that is settled before a weight is loaded."""

    table: Table
    plan: Plan
    notices: tuple[str, ...]  # what was left out or cut, for the person at the terminal


def plan_run(config: TrainConfig, reader: Reader) -> Planned:
    """Read, check and order all data; found in `cache_dir` where that was done before."""
    cache = Path(config.cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(cache, error) from error
    # Processes of one run may start side by side (torchrun, Slurm): one works, the others find it.
    with FileLock(cache / ".plan.lock"):
        return _plan(config, reader)


def _plan(config: TrainConfig, reader: Reader) -> Planned:
    rules = config.data.rules
    table = open_table(sources_of(config), rules, Path(config.cache_dir))
    settings = plan_settings(config)
    lengths = token_lengths(table, reader) if settings.needs_lengths else None
    fit = check_fit(table, reader, config.model.max_tokens, rules.defects)
    plan = make_plan(settings, table, config.model.max_tokens, lengths, fit.excluded)
    return Planned(table=table, plan=plan, notices=(*table.notices, *fit.notices))


def plan_settings(config: TrainConfig) -> PlanConfig:
    """The part of the settings that the order of samples depends on."""
    return PlanConfig(
        batching=config.batching,
        batch_size=config.batch_size,
        micro_batch_size=config.micro_samples,
        epochs=config.epochs,
        max_steps=config.max_steps,
        window_steps=config.bucket_steps,
        lockstep=config.lockstep,
        seed=config.seed,
    )


def sources_of(config: TrainConfig) -> dict[str, SourceConfig]:
    """The files by name, base first. A missing one raises ConfigError with the setting."""
    data, found = config.data, {}
    share = data.share
    if data.base is not None and share != 1.0:
        weight = None if share is None or share == 0.0 else 1.0 - share
        path = _base_file(data, Path(config.cache_dir))
        found[BASE] = SourceConfig(path=str(path), weight=weight)
    if data.synth is not None and share != 0.0:
        weight = None if share is None or share == 1.0 else share
        found[SYNTH] = SourceConfig(path=str(_synth_file(data)), weight=weight)
    for name, source in data.sources.items():
        found[name] = dataclasses.replace(source)
    return found


def _base_file(config: DataConfig, cache: Path) -> Path:
    if config.base == WORLD:
        return instructions_folder(cache, config.world_samples, WORLD_SEED) / "instructions.json"
    path = Path(str(config.base)).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"data.base={config.base}: no such file. Point it at instruction data in LLaVA's "
            f"format, or set data.base={WORLD} for instructions that are drawn on demand."
        )
    return path


def _synth_file(config: DataConfig) -> Path:
    path = Path(str(config.synth)).expanduser() / "dataset" / "img_diff.json"
    if not path.is_file():
        raise ConfigError(
            f"data.synth={config.synth}: no dataset/img_diff.json there. Run `python -m "
            f"imgdiff.synth output_dir={config.synth}` first, or set data.synth=null to train "
            "without difference data."
        )
    return path

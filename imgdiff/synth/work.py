"""Shards on their way through the stages, in one process or several.

Shards go in waves: within a wave every stage runs over all shards before the next stage starts, so
one model is resident at a time; a finished wave is on disk. All randomness and all batches depend
on the shard alone, so the number of processes and any interruption leave the bytes as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from imgdiff.backends.executors import Report
from imgdiff.core.console import meter
from imgdiff.core.files import read_json
from imgdiff.core.store import Store
from imgdiff.synth.config import StopAfter, SynthConfig
from imgdiff.synth.export import export_shard
from imgdiff.synth.run_profile import RunProfile
from imgdiff.synth.stages import PAIR_STAGES, REGION_STAGES, REMOVAL_STAGES, STAGES
from imgdiff.synth.states import open_items, state_from_json
from imgdiff.synth.tools import Backends, Tools

WAVE_SHARDS = 20


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a run keeps its work in progress, and the fingerprint of its item source."""

    output: Path
    store: Path
    source: str

    def shard(self, number: int) -> Path:
        """The source rows of a shard."""
        return self.output / "work" / f"source-{number:06d}.json"

    def part(self, number: int) -> Path:
        """The finished rows of a shard."""
        return self.output / "work" / f"part-{number:06d}.json"

    @property
    def dataset(self) -> Path:
        """The exported data set."""
        return self.output / "dataset"


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What a part of a run took: the roles whose models were loaded, and the profile's rows."""

    models_loaded: list[str]
    profile: list[dict[str, Any]]

    @classmethod
    def of(cls, backends: Backends) -> Effort:
        """That of one process."""
        return cls(models_loaded=backends.loaded, profile=backends.profile.to_json())

    @classmethod
    def joined(cls, parts: Sequence[Effort]) -> Effort:
        """That of several processes."""
        whole = RunProfile()
        for part in parts:
            whole.add(part.profile)
        loaded = sorted({role for part in parts for role in part.models_loaded})
        return cls(models_loaded=loaded, profile=whole.to_json())


def stages_of(config: SynthConfig) -> list[str]:
    """The stages this run goes through."""
    names = list(PAIR_STAGES)
    if config.stop_after is StopAfter.edit:
        return names[:1]
    if config.stop_after is StopAfter.generate:
        return names[:2]
    names += REMOVAL_STAGES if config.edit.removes else ()
    names += REGION_STAGES if config.edit.replaces else ()
    if config.stop_after is StopAfter.decide:
        names = [name for name in names if name != "sentence"]
    return names


def work_shards(
    config: SynthConfig, layout: Layout, shards: Sequence[int], report: Report
) -> Effort:
    """Finish these shards."""
    store = Store(layout.store, layout.source)
    with Backends(config) as backends:
        for start in range(0, len(shards), WAVE_SHARDS):
            wave = [s for s in shards[start : start + WAVE_SHARDS] if not layout.part(s).exists()]
            _work_wave(config, layout, wave, store, backends, report)
        return Effort.of(backends)


def _work_wave(
    config: SynthConfig,
    layout: Layout,
    shards: Sequence[int],
    store: Store,
    backends: Backends,
    report: Report,
) -> None:
    states = {s: [state_from_json(row) for row in read_json(layout.shard(s))] for s in shards}
    tools = {s: Tools(config, store, backends, s) for s in shards}
    names = stages_of(config)
    profile = backends.profile
    for name in names:
        with profile.stage(name, sum(len(list(open_items(items))) for items in states.values())):
            for shard in shards:
                STAGES[name](states[shard], tools[shard])
                report(len(states[shard]) / (len(names) + 1), name)
    with profile.stage("export", sum(map(len, states.values()))):
        for shard in shards:
            export_shard(states[shard], tools[shard], layout.dataset, layout.part(shard))
            report(len(states[shard]) / (len(names) + 1), "export")


def run_shards(config: SynthConfig, layout: Layout, count: int, items: int) -> Effort:
    """All shards, with a progress bar, wherever `config.executor` has them done."""
    waiting = [shard for shard in range(count) if not layout.part(shard).exists()]
    done = items - sum(len(read_json(layout.shard(shard))) for shard in waiting)
    with meter(items, "synth") as bar:
        bar.advance(done)

        def report(amount: float, label: str) -> None:
            bar.advance(amount, label)

        work = partial(work_shards, config, layout)
        return Effort.joined(config.executor.spread(work, waiting, report, config.processes))

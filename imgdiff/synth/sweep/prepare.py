"""Before a multirun's jobs: compute what any row lacks once, and finish rows that only decide."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from imgdiff.core.console import say
from imgdiff.core.files import remove_unfinished
from imgdiff.synth.config import StopAfter, SynthConfig
from imgdiff.synth.manifest import already_done, complete, sole_run, whole_settings
from imgdiff.synth.pipeline import check_inputs, layout_of, write_decision, write_shards
from imgdiff.synth.sweep.decide import decide_rows
from imgdiff.synth.sweep.plan import Group, check_images, groups
from imgdiff.synth.work import Effort

DECIDED = (StopAfter.decide, StopAfter.export)


def prepare(rows: Sequence[SynthConfig]) -> list[dict[str, Any]]:
    """Make the jobs of all rows cheap: rows of `stop_after=decide` are whole after this.

    Rows of `stop_after=export` find every score and sentence in the store; their jobs only write
    the data sets. Returns the profile of what this took. Raises ConfigError for rows that would
    draw images of their own.
    """
    check_images(rows)
    asked = [group for group in groups(rows) if group.configs[0].stop_after in DECIDED]
    return Effort.joined([_prepare(group) for group in asked]).profile


def _prepare(group: Group) -> Effort:
    first = group.configs[0]
    check_inputs(first)
    with ExitStack() as held:
        for config in group.configs:
            held.enter_context(sole_run(Path(config.output_dir)))
        waiting = [config for config in group.configs if not _done(config)]
        if not waiting:
            return Effort.joined([])
        clock = time.monotonic()
        layout = layout_of(waiting[0])
        remove_unfinished(layout.output)
        shards, items = write_shards(waiting[0], layout)
        say(f"{items:,} items under {len(waiting)} rows of thresholds")
        rules = [config.rules for config in waiting]
        decided = decide_rows(waiting[0], rules, layout, shards, items)
        effort = decided.effort
        if first.stop_after is StopAfter.export:
            return effort
        minutes = (time.monotonic() - clock) / 60
        for config, decision in zip(waiting, decided.rows, strict=True):
            write_decision(config, decision)
            complete(
                Path(config.output_dir),
                whole_settings(config),
                minutes=minutes,
                models_loaded=effort.models_loaded,
            )
        return effort


def _done(config: SynthConfig) -> bool:
    settings, output = whole_settings(config), Path(config.output_dir)
    return already_done(output, settings, overwrite=config.overwrite)

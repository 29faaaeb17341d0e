"""Deciding the rows of a sweep: by look-up; what is missing is computed once for all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from imgdiff.backends.executors import Report
from imgdiff.core.console import meter
from imgdiff.core.files import read_json
from imgdiff.core.store import Store
from imgdiff.synth.audit import audit_counts, removal_counts
from imgdiff.synth.config import DescribeBy, StopAfter, SynthConfig
from imgdiff.synth.funnel import Decision
from imgdiff.synth.run_profile import RunProfile
from imgdiff.synth.selection import RegionsFrom, Rules
from imgdiff.synth.stages import PAIR_STAGES, STAGES
from imgdiff.synth.states import CandidateState, ItemState, open_items, state_from_json
from imgdiff.synth.sweep.rows import Shards, look_up
from imgdiff.synth.tools import Backends, Tools
from imgdiff.synth.work import WAVE_SHARDS, Effort, Layout, stages_of

DRAWING = tuple(PAIR_STAGES)[:2]  # captions edited, image pairs drawn: the same for every row


@dataclass(frozen=True, slots=True)
class Decided:
    """The decision of each row, and what all of them took together."""

    rows: list[Decision]
    effort: Effort


def decide_rows(
    config: SynthConfig, rows: Sequence[Rules], layout: Layout, shards: int, items: int
) -> Decided:
    """What each row makes of all shards, in `config.processes` processes.

    What is missing is computed and stored on the way, each score once for all rows; sentences too
    where `config.stop_after` asks for them. Rows differ from `config.rules` in thresholds only
    (see `plan.THRESHOLDS`).
    """
    with meter(items, "sweep") as bar:

        def report(amount: float, label: str) -> None:
            bar.advance(amount, label)

        work = partial(decide_shards, config, rows, layout)
        parts = config.executor.spread(work, range(shards), report, config.processes)
    decisions = [Decision() for _ in rows]
    for counts, _ in parts:
        for decision, found in zip(decisions, counts, strict=True):
            decision.add(found)
    return Decided(decisions, Effort.joined([effort for _, effort in parts]))


def decide_shards(
    config: SynthConfig,
    rows: Sequence[Rules],
    layout: Layout,
    shards: Sequence[int],
    report: Report,
) -> tuple[list[dict[str, Any]], Effort]:
    """The rows' decisions on some shards, as JSON, and what they took."""
    totals = [Decision() for _ in rows]
    store = Store(layout.store, layout.source)
    with Backends(config) as backends:
        for start in range(0, len(shards), WAVE_SHARDS):
            wave = [
                (
                    [state_from_json(row) for row in read_json(layout.shard(number))],
                    Tools(config, store, backends, number),
                )
                for number in shards[start : start + WAVE_SHARDS]
            ]
            for name in DRAWING:
                _through(name, [wave], backends.profile)
            for total, decision in zip(
                totals, _decided(config, rows, wave, backends.profile), strict=True
            ):
                total.add(decision.to_json())
            report(sum(len(states) for states, _ in wave), "sweep")
        return [total.to_json() for total in totals], Effort.of(backends)


def _through(name: str, copies: Sequence[Shards], profile: RunProfile) -> None:
    """Take shards (once for every row) through one stage."""
    reached = sum(len(list(open_items(states))) for wave in copies for states, _ in wave)
    with profile.stage(name, reached):
        for wave in copies:
            for states, tools in wave:
                STAGES[name](states, tools)


def _decided(
    config: SynthConfig, rows: Sequence[Rules], wave: Shards, profile: RunProfile
) -> list[Decision]:
    found: list[Decision | None] = [None] * len(rows)
    if can_look_up(config, wave):
        drawn = sum(state.images is not None for states, _ in wave for state in states)
        audit = Counter({"pairs": drawn})
        with profile.stage("look_up", drawn):
            funnels = look_up(rows, wave)
        found = [None if funnel is None else Decision(funnel, audit) for funnel in funnels]
    missing = [number for number, decision in enumerate(found) if decision is None]
    made = dict(zip(missing, _computed([rows[n] for n in missing], wave, profile), strict=True))
    return [made[n] if decision is None else decision for n, decision in enumerate(found)]


def can_look_up(config: SynthConfig, wave: Shards) -> bool:
    """Whether rows can be decided without walking through every box.

    An audit against the truth, sentences, removals and the choice among candidates need the walk.
    """
    images = (state.images for states, _ in wave for state in states)
    return (
        config.stop_after is StopAfter.decide
        and config.candidates == 1
        and not config.edit.removes
        and config.rules.regions_from is RegionsFrom.segmenter
        and config.describe.by is DescribeBy.chat
        and all(pair is None or pair.truth is None for pair in images)
    )


def _computed(rows: Sequence[Rules], wave: Shards, profile: RunProfile) -> list[Decision]:
    """As `look_up`, box by box, all rows through a stage before the next: one model at a time."""
    if not rows:
        return []
    copies = [
        [
            ([fresh(state) for state in states], tools.under(replace(tools.config, rules=rules)))
            for states, tools in wave
        ]
        for rules in rows
    ]
    _, first_tools = wave[0]
    for name in stages_of(first_tools.config)[len(DRAWING) :]:
        _through(name, copies, profile)
    return [_counted(shards) for shards in copies]


def _counted(shards: Shards) -> Decision:
    decision = Decision()
    for states, tools in shards:
        told = tools.config.stop_after is StopAfter.export
        decision.funnel.count(states)
        decision.audit += audit_counts(states, told=told) + removal_counts(states)
    return decision


def fresh(state: ItemState) -> ItemState:
    """An item as it was when its images had been drawn."""
    candidates = [CandidateState(images=one.images) for one in state.candidates]
    kept = ("id", "caption", "pair", "images", "rejected")
    return ItemState(**{key: getattr(state, key) for key in kept}, candidates=candidates)

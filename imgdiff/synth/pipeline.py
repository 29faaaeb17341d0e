"""One synthesis run: check, shard the source, work the shards, join the parts, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from imgdiff.backends.checkpoints import require
from imgdiff.core.console import say, show_table
from imgdiff.core.errors import BackendError, ConfigError, DataError
from imgdiff.core.files import read_json, remove_unfinished, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.launch import in_multirun
from imgdiff.synth.audit import audit_report
from imgdiff.synth.config import StopAfter, SynthConfig
from imgdiff.synth.downstream import check_downstream, follow
from imgdiff.synth.dry_run import prepare
from imgdiff.synth.export import assemble, chosen_entries, chunked
from imgdiff.synth.funnel import Decision
from imgdiff.synth.manifest import (
    SOURCE_INDEX,
    already_done,
    complete,
    run_settings,
    sole_run,
    whole_settings,
)
from imgdiff.synth.report import FIGURES, noise_mark, write_card, write_gallery
from imgdiff.synth.run_profile import profile_table
from imgdiff.synth.selection import RegionsFrom
from imgdiff.synth.sources import Unit, captions
from imgdiff.synth.states import caption_to_json
from imgdiff.synth.stats.page import write_stats
from imgdiff.synth.sweep.decide import decide_rows
from imgdiff.synth.work import Layout, run_shards

PROFILE = "profile.json"


def run(config: SynthConfig) -> None:
    """Make the data set of `config` in `config.output_dir`; resumes, or says it is already there.

    Raises ConfigError for an output folder of another run and BackendError for absent checkpoints,
    both before any work. A dry run (random weights) says at both ends that it makes noise.
    """
    output = Path(config.output_dir)
    check_inputs(config)
    settings = whole_settings(config)
    with sole_run(output):
        if already_done(output, settings, overwrite=config.overwrite):
            say(f"{output} already holds this run; nothing to do.")
            if not in_multirun():  # which ends in one table of its own
                _show(output)
        else:
            _make(config, settings)
            _show(output)
            decides = config.stop_after is StopAfter.decide
            data = "" if decides else "dataset/img_diff.json, gallery.html, stats.html, "
            say(f"{output}: {data}audit.json, funnel.json, profile.json")
        follow(config.downstream, output)


def _make(config: SynthConfig, settings: dict[str, Any]) -> None:
    clock = time.monotonic()
    layout = layout_of(config)
    remove_unfinished(layout.output)
    shards, items = write_shards(config, layout)
    if config.stop_after is StopAfter.decide:
        decided = decide_rows(config, [config.rules], layout, shards, items)
        write_decision(config, decided.rows[0])
        effort = decided.effort
    else:
        effort = run_shards(config, layout, shards, items)
        finish(config, layout, [layout.part(shard) for shard in range(shards)])
    minutes = (time.monotonic() - clock) / 60
    write_json(layout.output / PROFILE, effort.profile)
    complete(layout.output, settings, minutes=minutes, models_loaded=effort.models_loaded)


def layout_of(config: SynthConfig) -> Layout:
    """Where the run works."""
    source = run_settings(config)["source"] | {"limit": None}
    return Layout(
        output=Path(config.output_dir),
        store=Path(config.store_dir),
        source=fingerprint(source, config.seed, config.shard_size),
    )


def check_inputs(config: SynthConfig) -> None:
    """One error for all that is absent: checkpoints, and paths that were never set.

    Says that a dry run is one, and raises BackendError where memory is too little for it.
    """
    check_downstream(config.downstream)
    unset = config.source.unset()
    try:
        require(config.needed())
    except BackendError as error:
        raise BackendError(f"{error}\nAlso {unset}" if unset else str(error)) from None
    if unset:
        raise ConfigError(unset)
    prepare(config)


def write_shards(config: SynthConfig, layout: Layout) -> tuple[int, int]:
    """Stream the source into shard files; returns the numbers of shards and of items."""
    index = layout.output / "work" / SOURCE_INDEX
    if index.exists():
        counts = read_json(index)
        return int(counts["shards"]), int(counts["items"])
    items = 0
    number = -1
    stream = captions(config.source, config.seed, Unit(config.unit))
    for number, rows in enumerate(chunked(stream, config.shard_size)):
        write_json(layout.shard(number), [caption_to_json(row) for row in rows])
        items += len(rows)
    if not items:
        raise DataError("source: holds no record at all. Check the file or folder and its split.")
    write_json(index, {"shards": number + 1, "items": items})
    return number + 1, items


def finish(config: SynthConfig, layout: Layout, parts: list[Path]) -> None:
    """Join the parts into the data set and write funnel, audit, card, gallery and statistics."""
    decision = Decision()
    gallery: list[dict[str, Any]] = []
    for part in parts:
        rows = read_json(part)
        decision.add(rows)
        gallery = chosen_entries(gallery + rows["gallery"], config.export)
    embed = config.export.parquet_images
    assemble(parts, layout.output, embed_images=embed, edit=config.edit)
    report, audited = write_decision(config, decision)
    write_card(layout.dataset / "README.md", run_settings(config), report, audited)
    remark = report.get("noise", "")
    write_gallery(layout.output / "gallery.html", gallery, layout.store, report, remark)
    write_stats(layout.output, layout.store, finished=False)


def write_decision(
    config: SynthConfig, decision: Decision
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write funnel.json and audit.json, and return them."""
    output = Path(config.output_dir)
    mark = noise_mark(item.model for item in config.needed())
    funnel = mark | decision.funnel.report(config.stop_after, config.edit)
    by_record = config.rules.regions_from is RegionsFrom.truth
    audit = mark | audit_report(decision.audit, by_construction=by_record, edit=config.edit)
    write_json(output / "funnel.json", funnel)
    write_json(output / "audit.json", audit)
    return funnel, audit


def _show(output: Path) -> None:
    """The short table at the end of a run."""
    funnel, audit = read_json(output / "funnel.json"), read_json(output / "audit.json")
    rows = [
        (
            step["stage"],
            step["in"],
            step["out"],
            "; ".join(f"{n} {r}" for r, n in step["rejected"].items()),
        )
        for level in ("items", "regions", "removals")
        for step in funnel.get(level, ())
        if step["in"]
    ]
    show_table("Funnel", ("stage", "in", "out", "rejected"), rows)
    figures = ("n_pairs", *FIGURES)
    known = [(key, audit[key]) for key in figures if audit.get(key) is not None]
    if audit["n_pairs"]:
        show_table("Audit against the generator's truth", ("figure", "value"), known)
        if audit["remark"]:
            say(audit["remark"])
    if (output / PROFILE).exists():
        show_table("Profile", *profile_table(read_json(output / PROFILE)))
    say(f"{funnel['samples']} samples from {funnel['pairs_with_samples']} pairs")
    if "noise" in funnel:
        say(funnel["noise"])

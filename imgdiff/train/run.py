"""One fine-tuning run: check everything, train, write the checkpoint and what made it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgdiff.core.console import say, show_table
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import not_written, read_json, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.train.config import NOT_IN_IDENTITY, TrainConfig
from imgdiff.train.ranks import rank

if TYPE_CHECKING:  # they import torch
    from imgdiff.train.data import Planned
    from imgdiff.train.models import Base

RUN_FILE = "run.json"
CHECKPOINT = "checkpoint"
LEFTOVERS = ("metrics.csv", RUN_FILE)
FOLDERS = (CHECKPOINT, "resume", "tensorboard")
LIBRARIES = ("imgdiff", "torch", "transformers", "lightning", "peft", "numpy")


def run(config: TrainConfig) -> Path:
    """Fine-tune and return the checkpoint folder; a finished run of the same settings is kept.

    A run that was killed goes on from its last resume point. Everything that can be checked
    without the weights is checked before they are loaded.
    """
    from imgdiff.train.data import plan_run
    from imgdiff.train.models import find_base, open_reader
    from imgdiff.train.strategies import accumulation, check_hardware

    check_hardware(config)
    accumulation(config)
    base = find_base(config.model, Path(config.cache_dir))
    planned = plan_run(config, reader := open_reader(config.model, base))
    output = Path(config.output_dir)
    record = _record(config, base, planned)
    if rank() == 0 and not _claim(output, record, overwrite=config.overwrite):
        say(f"{output / CHECKPOINT}: this run is finished already; nothing to do")
        return output / CHECKPOINT
    _announce(planned)

    from imgdiff.train.fit import fit

    started = time.monotonic()
    losses = fit(config, base, reader, planned, output)
    if losses is None:
        return output / CHECKPOINT  # another process than the first
    record |= {
        "finished": True,
        "minutes": round((time.monotonic() - started) / 60, 2),
        "samples": _seen(planned),
        "losses": dataclasses.asdict(losses),
    }
    write_json(output / RUN_FILE, record)
    shutil.rmtree(output / "resume", ignore_errors=True)
    _report(planned, record, output)
    return output / CHECKPOINT


def _record(config: TrainConfig, base: Base, planned: Planned) -> dict[str, Any]:
    """What run.json says from the start; `identity` names all that the weights depend on."""
    settings = dataclasses.asdict(config)
    decisive = {key: value for key, value in settings.items() if key not in NOT_IN_IDENTITY}
    if not config.strategy.shards:  # else a resume point fits one number of devices only
        decisive["strategy"] = {"kind": config.strategy.kind}
    return {
        "identity": fingerprint(decisive, base.identity, planned.plan.identity),
        "finished": False,
        "config": settings,
        "base": {"name": base.name, "identity": base.identity},
        "plan": planned.plan.identity,
        "steps": planned.plan.steps,
        "inputs": {
            source.name: {"file": source.file, "sha256": source.sha256, "rows": source.rows}
            for source in planned.table.sources
        },
        "left_out": {source.name: source.skipped for source in planned.table.sources},
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _claim(output: Path, record: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether there is work: write run.json, or find this very run finished there.

    Another run there raises ConfigError that says what differs. A folder that cannot be written
    raises StoreError.
    """
    found = read_json(output / RUN_FILE) if (output / RUN_FILE).exists() else None
    if found is not None:
        same = isinstance(found, dict) and found.get("identity") == record["identity"]
        if same and found.get("finished") and (output / CHECKPOINT).is_dir():
            return False
        if not same and not overwrite:
            raise ConfigError(
                f"output_dir={output}: holds another training run"
                f"{_differences(found, record)}. Choose another output_dir, or set "
                "overwrite=true to replace that run."
            )
        if not same:
            _clear(output)
    write_json(output / RUN_FILE, record)
    return True


def _differences(found: Any, record: dict[str, Any]) -> str:
    """What sets two runs apart, at most three of them: settings, files, base, versions."""
    if not isinstance(found, dict):
        return ""
    old, new = _flat(found.get("config")), _flat(record["config"])
    named = [
        f"{key}={old.get(key)} there, {new.get(key)} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key.split(".")[0] not in NOT_IN_IDENTITY
    ]
    inputs, now = found.get("inputs") or {}, record["inputs"]
    named += [
        f"the file {now[name]['file']} has changed"
        for name in now
        if name in inputs and inputs[name].get("sha256") != now[name]["sha256"]
    ]
    if (found.get("base") or {}).get("identity") != record["base"]["identity"]:
        named.append("the base model's files differ")
    return f" ({'; '.join(named[:3])})" if named else " (its images or its version differ)"


def _flat(node: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {path: node}
    items: dict[str, Any] = {}
    for key, value in node.items():
        items |= _flat(value, f"{path}.{key}" if path else str(key))
    return items


def _clear(output: Path) -> None:
    """Remove what a run writes, and nothing else."""
    try:
        for name in FOLDERS:
            if (output / name).is_dir():
                shutil.rmtree(output / name)
        for name in LEFTOVERS:
            (output / name).unlink(missing_ok=True)
    except OSError as error:
        raise not_written(output, error) from error


def _seen(planned: Planned) -> dict[str, int]:
    """Samples that the plan shows, by source."""
    sources = planned.table.column("source")[planned.plan.rows]
    counts = Counter(sources.tolist())
    return {source.name: counts[number] for number, source in enumerate(planned.table.sources)}


def _announce(planned: Planned) -> None:
    if rank() == 0:
        for notice in planned.notices:
            say(notice)


def _report(planned: Planned, record: dict[str, Any], output: Path) -> None:
    rows: list[tuple[str, object]] = [("steps", record["steps"])]
    for source in planned.table.sources:
        shown = record["samples"][source.name]
        rows.append((f"samples seen: {source.name}", f"{shown} (of {source.rows})"))
    rows += [
        ("loss, first steps", f"{record['losses']['first']:.3f}"),
        ("loss, last steps", f"{record['losses']['last']:.3f}"),
        ("minutes", f"{record['minutes']:.1f}"),
        ("checkpoint", output / CHECKPOINT),
    ]
    show_table("Fine-tuning", ("", ""), rows)

"""One fine-tuning run: check everything, train, write the checkpoint and what made it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from imgdiff.backends.checkpoints import content_identity, locate
from imgdiff.core.console import say, show_table
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import read_json, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.train.config import NOT_IN_IDENTITY, TrainConfig
from imgdiff.train.sources import Source, open_sources, plan_samples

RUN_FILE = "run.json"
CHECKPOINT = "checkpoint"
METRICS_FILE = "metrics.csv"
LIBRARIES = ("imgdiff", "torch", "transformers", "lightning", "numpy")


def run(config: TrainConfig) -> Path:
    """Fine-tune and return the checkpoint folder; a finished run of the same settings is kept.

    Everything that can be checked without the model is checked before it is loaded.
    """
    output = Path(config.output_dir)
    base = locate("model.path", config.model.path)
    sources = open_sources(config.data, Path(config.cache_dir))
    record = _record(config, base, sources)
    if _is_finished(output, record["identity"], overwrite=config.overwrite):
        say(f"{output / CHECKPOINT}: this run is finished already; nothing to do")
        return output / CHECKPOINT
    total = config.max_steps * config.batch_size
    plan = plan_samples([len(s.samples) for s in sources], config.data.share, total, config.seed)
    seen = Counter(sources[source].name for source, _ in plan)

    from imgdiff.train.fit import fit  # torch, transformers and Lightning take seconds to import

    started = time.monotonic()
    _clear(output)
    write_json(output / RUN_FILE, record)
    losses = fit(config, base, sources, plan, output / CHECKPOINT)
    minutes = (time.monotonic() - started) / 60
    record |= {"finished": True, "minutes": round(minutes, 2), "samples": dict(seen)}
    record["losses"] = {"first": losses.first, "last": losses.last}
    write_json(output / RUN_FILE, record)
    _report(config, sources, record)
    return output / CHECKPOINT


def _record(config: TrainConfig, base: Path, sources: list[Source]) -> dict[str, Any]:
    """What run.json says from the start; `identity` names all that the weights depend on."""
    settings = dataclasses.asdict(config)
    decisive = {key: value for key, value in settings.items() if key not in NOT_IN_IDENTITY}
    inputs = {source.name: source.identity for source in sources}
    return {
        "identity": fingerprint(decisive, content_identity(base), inputs),
        "finished": False,
        "config": settings,
        "inputs": {
            source.name: {"file": str(source.path), "sha256": source.identity} for source in sources
        },
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def _is_finished(output: Path, identity: str, *, overwrite: bool) -> bool:
    """Whether `output` holds this very run, whole. Another run there raises ConfigError."""
    if not (output / RUN_FILE).exists():
        return False
    found = read_json(output / RUN_FILE)
    if not isinstance(found, dict) or found.get("identity") != identity:
        if overwrite:
            return False
        raise ConfigError(
            f"output_dir={output}: holds another training run (other settings, data or base "
            "model). Choose another output_dir, or set overwrite=true to replace that run."
        )
    return bool(found.get("finished")) and (output / CHECKPOINT).is_dir()


def _clear(output: Path) -> None:
    """Remove what a run writes, and nothing else."""
    if (output / CHECKPOINT).is_dir():
        shutil.rmtree(output / CHECKPOINT)
    for name in (METRICS_FILE, RUN_FILE):
        (output / name).unlink(missing_ok=True)


def _report(config: TrainConfig, sources: list[Source], record: dict[str, Any]) -> None:
    rows: list[tuple[str, object]] = [("steps", config.max_steps)]
    for source in sources:
        shown = record["samples"].get(source.name, 0)
        rows.append((f"samples seen: {source.name}", f"{shown} (of {len(source.samples)})"))
    rows += [
        ("loss, first steps", f"{record['losses']['first']:.3f}"),
        ("loss, last steps", f"{record['losses']['last']:.3f}"),
        ("minutes", f"{record['minutes']:.1f}"),
        ("checkpoint", Path(config.output_dir) / CHECKPOINT),
    ]
    show_table("Fine-tuning", ("", ""), rows)

"""The end of a multirun: every row's thresholds, funnel, audit and scores in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say, show_table
from imgdiff.core.files import read_json, write_json, write_text
from imgdiff.synth.downstream import SCORES
from imgdiff.synth.report import FIGURES, markdown_table
from imgdiff.synth.selection import INTERVALS, Interval

SIDE_BY_SIDE = 6  # rows of a sweep that fit beside each other on a terminal


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job of a multirun: its number, the swept overrides and its output folder."""

    number: int
    overrides: tuple[str, ...]
    output: Path


def summarise(folder: Path, rows: Sequence[Row]) -> None:
    """Write `sweep.json` and `sweep.md` into the sweep's folder and show the table.

    Without `rows` (a sweeper that chooses as it goes) the jobs below `folder` are taken.
    """
    found = [_entry(row, folder) for row in rows or _rows_below(folder)]
    found = [entry for entry in found if entry]
    if not found:
        return
    write_json(folder / "sweep.json", found)
    columns = _columns(found)
    lines = [list(line) for line in zip(*columns.values(), strict=True)]
    text = f"# Sweep\n\n{len(found)} rows.\n\n{markdown_table(list(columns), lines)}\n"
    write_text(folder / "sweep.md", f"{text}\n{_rejects(found)}\n")
    _show(columns, len(found))
    say(f"{folder}: sweep.json, sweep.md")


def _rows_below(folder: Path) -> list[Row]:
    found = [path.parent for path in folder.glob("*/run.json")]
    numbers = {path: int(path.name) if path.name.isdigit() else -1 for path in found}
    return [
        Row(number=number, overrides=(), output=path)
        for path, number in sorted(numbers.items(), key=lambda item: (item[1], item[0].name))
    ]


def _entry(row: Row, folder: Path) -> dict[str, Any]:
    """All that is known of a row; empty where its job left nothing."""
    manifest = row.output / "run.json"
    if not (manifest.exists() and (row.output / "funnel.json").exists()):
        return {}
    inside = row.output.is_relative_to(folder)
    rules = read_json(manifest)["settings"]["rules"]
    scores = row.output / SCORES
    return {
        "row": row.number,
        "output": str(row.output.relative_to(folder) if inside else row.output),
        "overrides": list(row.overrides),
        "thresholds": {key: rules[key] for key in INTERVALS},
        "funnel": read_json(row.output / "funnel.json"),
        "audit": read_json(row.output / "audit.json"),
        "scores": read_json(scores) if scores.exists() else {},
    }


def _show(columns: dict[str, list[str]], count: int) -> None:
    """Few rows stand side by side, with everything; of many, a line each says the most telling."""
    if count <= SIDE_BY_SIDE:
        numbers = columns.pop("row")
        lines = [[key, *cells] for key, cells in columns.items()]
        show_table("Sweep", ["", *(f"row {number}" for number in numbers)], lines)
        return
    figures = {key.replace("_", " ") for key in FIGURES}
    told = {"row", "swept", "pairs kept", "samples"} | figures
    short = {
        key: cells for key, cells in columns.items() if key in told or key.startswith("score ")
    }
    show_table("Sweep", list(short), [list(line) for line in zip(*short.values(), strict=True)])


def _columns(entries: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Title to cells, one cell for each row of the sweep."""
    columns: dict[str, list[str]] = {"row": [str(entry["row"]) for entry in entries]}
    columns["swept"] = [" ".join(entry["overrides"]) or entry["output"] for entry in entries]
    for key in INTERVALS:
        columns[key.replace("_", " ")] = [
            Interval(**entry["thresholds"][key]).describe() for entry in entries
        ]
    for level, label in (("items", "pairs"), ("regions", "regions"), ("removals", "removals")):
        for stage in _stages(entries, level):
            columns[f"{label} after {stage}".replace("_", " ")] = [
                _passed(entry, level, stage) for entry in entries
            ]
    columns["pairs kept"] = [f"{entry['funnel']['pairs_with_samples']:,}" for entry in entries]
    columns["samples"] = [f"{entry['funnel']['samples']:,}" for entry in entries]
    for key in FIGURES:
        known = [entry["audit"].get(key) for entry in entries]
        if any(value is not None for value in known):
            columns[key.replace("_", " ")] = [_number(value) for value in known]
    for key in dict.fromkeys(key for entry in entries for key in entry["scores"]):
        columns[f"score {key}"] = [_number(entry["scores"].get(key)) for entry in entries]
    return columns


def _stages(entries: Sequence[dict[str, Any]], level: str) -> list[str]:
    """Stages at which some row lost something."""
    found = (step for entry in entries for step in entry["funnel"].get(level, ()))
    return list(dict.fromkeys(step["stage"] for step in found if step["rejected"]))


def _passed(entry: dict[str, Any], level: str, stage: str) -> str:
    steps = {step["stage"]: step for step in entry["funnel"].get(level, ())}
    return f"{steps[stage]['out']:,}" if stage in steps else "-"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rejects(entries: Sequence[dict[str, Any]]) -> str:
    """Why things fell, a column for each row."""
    reasons: dict[tuple[str, str, str], dict[int, int]] = {}
    for entry in entries:
        for level in ("items", "regions", "removals"):
            for step in entry["funnel"].get(level, ()):
                for reason, count in step["rejected"].items():
                    counts = reasons.setdefault((level, step["stage"], reason), {})
                    counts[entry["row"]] = count
    header = ["of", "stage", "reason", *(f"row {entry['row']}" for entry in entries)]
    lines = [
        [level, stage.replace("_", " "), reason]
        + [f"{counts.get(entry['row'], 0):,}" for entry in entries]
        for (level, stage, reason), counts in reasons.items()
    ]
    return f"## Why the others fell\n\n{markdown_table(header, lines)}"

"""Delta over general benchmarks, as the Img-Diff paper defines it, from a CSV of scores.

Delta is the arithmetic mean over the benchmarks of the relative change in per cent against the
baseline row (the paper's Table 3). It is given without MM-Vet as well: that benchmark has 218
questions, is graded by GPT-4, and often makes most of the mean.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgdiff.core.errors import DataError
from imgdiff.eval.report.figures import shown, signed
from imgdiff.eval.report.markup import Table
from imgdiff.eval.report.paper import GENERAL

MM_VET = "mm_vet"
TITLES = {
    "vqav2": "VQAv2",
    "gqa": "GQA",
    "pope": "POPE",
    "mmbench": "MMB",
    "mmbench_cn": "MMB-CN",
    "mm_vet": "MM-Vet",
    "scienceqa": "SQA-I",
    "seed": "SEED",
}
_SPELLINGS = {  # letters and digits of a header, lower case
    "mmb": "mmbench",
    "mmbenchen": "mmbench",
    "mmbcn": "mmbench_cn",
    "mmbenchcn": "mmbench_cn",
    "mmvet": "mm_vet",
    "sqa": "scienceqa",
    "sqai": "scienceqa",
    "sqaimg": "scienceqa",
    "scienceqaimg": "scienceqa",
    "seedbench": "seed",
}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_REMEDY = f"The columns are model, baseline, {', '.join(GENERAL)}, and any other benchmark."


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelScores:
    """One row of the CSV: its line, the row it is compared with (None: a baseline), its scores."""

    line: int
    model: str
    baseline: str | None
    scores: Mapping[str, float]  # by column; an empty cell is left out


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSheet:
    """A CSV of scores. `ignored` are columns without any number."""

    path: Path
    benchmarks: tuple[str, ...]
    rows: tuple[ModelScores, ...]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """Relative changes of one model in per cent, by benchmark, and those that could not be formed.

    `missing` are the benchmarks where the model or its baseline has no score.
    """

    model: str
    baseline: str
    changes: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def mean(self) -> float:
        """The paper's delta, over the benchmarks of `changes`."""
        return sum(self.changes.values()) / len(self.changes)

    @property
    def mean_without_mm_vet(self) -> float | None:
        """The same without MM-Vet; None where nothing else is there."""
        others = [change for name, change in self.changes.items() if name != MM_VET]
        return sum(others) / len(others) if others else None


def read_scores(path: Path) -> ScoreSheet:
    """Read and check the CSV. DataError names file, line, column, value and rule."""
    header, rows = _cells(path)
    columns = _columns(path, header)
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path}:{line}: {len(row)} cells under {len(header)} columns. Quote a name that "
                "holds a comma; write decimals with a point."
            )
    texts = [(line, dict(zip(columns, row, strict=True))) for line, row in rows]
    candidates = [name for name in columns if name not in ("model", "baseline")]
    benchmarks = tuple(
        name
        for name in candidates
        if name in GENERAL or any(_NUMBER.fullmatch(row[name]) for _, row in texts)
    )
    sheet = ScoreSheet(
        path=path,
        benchmarks=benchmarks,
        rows=tuple(_row(path, line, row, benchmarks) for line, row in texts),
        ignored=tuple(name for name in candidates if name not in benchmarks),
    )
    _check_models(sheet)
    return sheet


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line, cells) of every row that is not blank; all stripped."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Check the path.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error}). Save it as one.") from None
    lines = [(line, row) for line, row in lines if any(row)]
    if not lines:
        raise DataError(f"{path}: the file is empty. {_REMEDY}")
    (_, header), *rows = lines
    if not rows:
        raise DataError(f"{path}: a header, but no model under it. Add a row per model.")
    return header, rows


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    """Our names of the columns: known spellings of benchmarks, else as written."""
    columns: list[str] = []
    for number, title in enumerate(header, start=1):
        if not title:
            raise DataError(f"{path}:1: column {number} has no name. Name or delete it.")
        name = _column(title)
        if name in columns:
            raise DataError(f"{path}:1: two columns are {name!r}. Keep one.")
        columns.append(name)
    missing = [name for name in ("model", "baseline", *GENERAL) if name not in columns]
    if missing:
        raise DataError(
            f"{path}:1: no column {', '.join(map(repr, missing))}; found {', '.join(header)}. "
            f"{_REMEDY} Where a benchmark was not run, keep its column and leave the cells empty: "
            "the delta then names it."
        )
    return columns


def _column(title: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", title.lower())
    known = {re.sub("_", "", name): name for name in ("model", "baseline", *GENERAL)} | _SPELLINGS
    return known.get(plain, title)


def _row(path: Path, line: int, row: Mapping[str, str], benchmarks: Sequence[str]) -> ModelScores:
    if not row["model"]:
        raise DataError(f"{path}:{line}: column model is empty. Name the model.")
    return ModelScores(
        line=line,
        model=row["model"],
        baseline=row["baseline"] or None,
        scores={
            name: _number(f"{path}:{line}: column {name}", row[name])
            for name in benchmarks
            if row[name]
        },
    )


def _number(place: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise DataError(
            f"{place}: {text!r} is not a number. Write it as 78.5, without a per cent sign, or "
            "leave the cell empty."
        )
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise DataError(f"{place}: {text!r} is out of range; a score is a finite number from 0.")
    return value


def _check_models(sheet: ScoreSheet) -> None:
    """Models are unique, baselines exist and do not lead back to themselves."""
    by_name: dict[str, ModelScores] = {}
    for row in sheet.rows:
        if row.model in by_name:
            raise DataError(
                f"{sheet.path}:{row.line}: column model: {row.model!r} stands already in line "
                f"{by_name[row.model].line}. Names must differ."
            )
        by_name[row.model] = row
    for row in sheet.rows:
        if row.baseline is not None and row.baseline not in by_name:
            near = difflib.get_close_matches(row.baseline, by_name, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(
                f"{sheet.path}:{row.line}: column baseline: no model {row.baseline!r} in the file."
                f"{hint} Name a row, or leave it empty for a baseline."
            )
        chain = [row.model]
        while (before := by_name[chain[-1]].baseline) is not None:
            if before in chain:
                circle = " -> ".join([*chain, before])
                raise DataError(
                    f"{sheet.path}:{row.line}: column baseline: {circle} is a circle. Leave the "
                    "baseline of one of them empty."
                )
            chain.append(before)


def deltas(sheet: ScoreSheet) -> tuple[Delta, ...]:
    """The delta of every row that names a baseline, in the order of the file.

    DataError where a baseline's score is zero, or model and baseline share no benchmark.
    """
    by_name = {row.model: row for row in sheet.rows}
    return tuple(
        _delta(sheet, row, by_name[row.baseline]) for row in sheet.rows if row.baseline is not None
    )


def _delta(sheet: ScoreSheet, row: ModelScores, baseline: ModelScores) -> Delta:
    shared = [name for name in sheet.benchmarks if name in row.scores and name in baseline.scores]
    if not shared:
        raise DataError(
            f"{sheet.path}:{row.line}: {row.model!r} and its baseline {baseline.model!r} share no "
            "benchmark. Fill in the scores of one that both have."
        )
    for name in shared:
        if baseline.scores[name] == 0:
            raise DataError(
                f"{sheet.path}:{baseline.line}: column {name}: the baseline {baseline.model!r} "
                "has 0, and no relative change against 0 exists. Correct it or leave it empty."
            )
    return Delta(
        model=row.model,
        baseline=baseline.model,
        changes={name: 100 * (row.scores[name] / baseline.scores[name] - 1) for name in shared},
        missing=tuple(name for name in sheet.benchmarks if name not in shared),
    )


def general_tables(sheet: ScoreSheet, digits: int = 2) -> tuple[Table, ...]:
    """Deltas, the relative change per benchmark with `digits` decimals, and the scores."""
    found = deltas(sheet)
    header = ("Model", *(TITLES.get(name, name) for name in sheet.benchmarks))
    changes = tuple(
        (delta.model, *(signed(delta.changes.get(name), digits) for name in sheet.benchmarks))
        for delta in found
    )
    scores = tuple(
        (row.model, *(shown(row.scores.get(name)) for name in sheet.benchmarks))
        for row in sheet.rows
    )
    return (
        _delta_table(sheet, found),
        Table(title="Relative change per benchmark, %", header=header, rows=changes),
        Table(title="Scores", header=header, rows=scores),
    )


def _delta_table(sheet: ScoreSheet, found: Sequence[Delta]) -> Table:
    whole = len(sheet.benchmarks)
    rows = tuple(
        (
            delta.model,
            delta.baseline,
            signed(delta.mean, 2),
            signed(delta.mean_without_mm_vet, 2),
            f"{len(delta.changes)} of {whole}",
        )
        for delta in found
    )
    return Table(
        title="\u0394 over general benchmarks, %",
        header=("Model", "Baseline", "\u0394", "\u0394 without MM-Vet", "Benchmarks"),
        rows=rows,
        notes=tuple(_delta_notes(sheet, found)),
        text_columns=2,
    )


def _delta_notes(sheet: ScoreSheet, found: Sequence[Delta]) -> list[str]:
    """What the mean is over, where it is over fewer, and what else was in the file."""
    names = [TITLES.get(name, name) for name in sheet.benchmarks]
    notes = [f"\u0394 is the mean relative change over {', '.join(names)}."]
    added = [name for name in sheet.benchmarks if name not in GENERAL]
    if added:
        notes.append(f"{', '.join(added)}: not part of the paper's \u0394.")
    notes += [
        f"{delta.model}: over {len(delta.changes)} benchmarks only, without "
        f"{', '.join(TITLES.get(name, name) for name in delta.missing)}; not comparable with a "
        "\u0394 over all."
        for delta in found
        if delta.missing
    ]
    if not found:
        notes.append("No row names a baseline, so there is no \u0394.")
    if sheet.ignored:
        notes.append(f"Columns without numbers, not used: {', '.join(sheet.ignored)}.")
    return notes

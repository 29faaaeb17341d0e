"""The numbers that the Img-Diff paper prints, read from paper.json with their tables named.

A value is what was read in the paper, on its scale (percentages; CIDEr-D x100). None is a cell
that the paper does not print. Nothing is computed from other cells.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.files import read_json

PAPER_FILE = Path(__file__).parent / "paper.json"
GENERAL = ("vqav2", "gqa", "pope", "mmbench", "mmbench_cn", "mm_vet", "scienceqa", "seed")
CAPTION_SCORES = ("bleu_4", "meteor", "cider_d", "rouge_l")  # the paper's order
MMVP_SCORES = ("pair_accuracy",)


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """One printed row of a difference benchmark. `table` is the paper's number of the table."""

    table: str
    benchmark: str
    model: str
    scores: Mapping[str, float | None]  # by name in scores.json, in the order of the paper
    note: str = ""  # key of `Paper.notes`


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneralRow:
    """One printed row over the eight general benchmarks; `delta` is the printed one in per cent.

    `baseline` names the row that `delta` compares with, None for a baseline itself.
    """

    table: str
    model: str
    baseline: str | None
    scores: Mapping[str, float | None]  # by name, in the order of GENERAL
    delta: float | None
    mmvp: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """Everything that paper.json holds.

    `published_n` counts items of the published test sets: questions, images, image pairs.
    """

    source: str
    rows: tuple[PaperRow, ...]
    general: tuple[GeneralRow, ...]
    notes: Mapping[str, str]
    published_n: Mapping[str, int]
    main_tables: Mapping[str, str]

    def rows_of(self, benchmark: str) -> tuple[PaperRow, ...]:
        """The rows of `mmvp`, `spot_the_diff` or `image_edit_request`, main table first."""
        return tuple(row for row in self.rows if row.benchmark == benchmark)


@functools.cache
def load_paper() -> Paper:
    """The paper's numbers. Read once."""
    held = read_json(PAPER_FILE)
    captions = [_row(row, row["benchmark"], CAPTION_SCORES) for row in held["captions"]]
    mmvp = [_row(row, "mmvp", MMVP_SCORES) for row in held["mmvp"]]
    return Paper(
        source=held["source"],
        rows=(*captions, *mmvp),
        general=tuple(_general(row) for row in held["general"]),
        notes=held["notes"],
        published_n=held["published_n"],
        main_tables=held["main_tables"],
    )


def _row(row: Mapping[str, Any], benchmark: str, names: tuple[str, ...]) -> PaperRow:
    return PaperRow(
        table=row["table"],
        benchmark=benchmark,
        model=row["model"],
        scores={name: row[name] for name in names},
        note=row.get("note", ""),
    )


def _general(row: Mapping[str, Any]) -> GeneralRow:
    return GeneralRow(
        table=row["table"],
        model=row["model"],
        baseline=row["baseline"],
        scores={name: row[name] for name in GENERAL},
        delta=row["delta"],
        mmvp=row["mmvp"],
    )

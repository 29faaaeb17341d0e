"""The score table and the comparison with the paper, as Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from imgdiff.core.files import write_text
from imgdiff.eval.records import Run
from imgdiff.eval.report.beside import Beside, beside_paper
from imgdiff.eval.report.board import Board, Difference, Metric, Score, boards_of, differences_of
from imgdiff.eval.report.figures import DASH, difference_text, score_text, shown, signed
from imgdiff.eval.report.markup import LATEX_HEAD, Table, latex, markdown
from imgdiff.eval.report.paper import load_paper

MARKDOWN_FILE, LATEX_FILE = "scores.md", "scores.tex"


def write_tables(
    folder: Path, runs: Sequence[Run], differences: Mapping[str, Difference] | None = None
) -> tuple[Path, Path]:
    """Write scores.md and scores.tex of one or two runs into `folder`; returns both paths.

    `differences` (second minus first, by score) replaces plain differences by ones with intervals.
    Values are percentages as papers print them. ConfigError or DataError as `boards_of`.
    """
    return write_markup(folder, score_tables(runs, differences), (MARKDOWN_FILE, LATEX_FILE))


def write_markup(
    folder: Path, tables: Sequence[Table], names: tuple[str, str]
) -> tuple[Path, Path]:
    """Write the tables as Markdown and as LaTeX under these names."""
    paths = (folder / names[0], folder / names[1])
    write_text(paths[0], "\n".join(map(markdown, tables)))
    write_text(paths[1], "\n".join([LATEX_HEAD, *map(latex, tables)]))
    return paths


def score_tables(
    runs: Sequence[Run], differences: Mapping[str, Difference] | None = None
) -> tuple[Table, ...]:
    """The table of scores, then one table beside the paper for each run."""
    boards = boards_of(runs)
    comparisons = [beside_paper(board) for board in boards]
    found = differences_of(boards, differences or {})
    compared = [_paper_table(beside) for beside in comparisons if beside.rows]
    refused = dict.fromkeys(
        caveat for beside in comparisons if not beside.rows for caveat in beside.caveats
    )
    return (_score_table(boards, found, tuple(refused)), *compared)


def _score_table(
    boards: Sequence[Board], differences: Mapping[str, Difference], refused: tuple[str, ...]
) -> Table:
    metrics = list(
        {score.metric.name: score.metric for board in boards for score in board.scores}.values()
    )
    rows = [(board.label, *_cells(board.scores, metrics)) for board in boards]
    rows += [
        (f"{board.label} (corrected key)", *_cells(board.corrected, metrics))
        for board in boards
        if board.corrected
    ]
    lines = (len(rows),) if differences else ()
    if differences:
        rows.append(("difference (second minus first)", *_difference_cells(differences, metrics)))
    return Table(
        title=_title(boards[0]),
        header=("Model", *(metric.title for metric in metrics)),
        rows=tuple(rows),
        notes=(*_score_notes(boards, differences), *refused),
        lines_before=lines,
    )


def _title(board: Board) -> str:
    split = f"{board.split} split, " if board.split else ""
    pairs = f" ({board.pairs:,} pairs)" if board.pairs is not None else ""
    return f"{board.title}: {split}protocol {board.protocol}, n = {board.n:,}{pairs}"


def _cells(scores: Sequence[Score], metrics: Sequence[Metric]) -> list[str]:
    by_name = {score.metric.name: score for score in scores}
    return [score_text(by_name.get(metric.name)) for metric in metrics]


def _difference_cells(
    differences: Mapping[str, Difference], metrics: Sequence[Metric]
) -> list[str]:
    return [difference_text(differences.get(metric.name), metric.digits) for metric in metrics]


def _score_notes(boards: Sequence[Board], differences: Mapping[str, Difference]) -> tuple[str, ...]:
    """Intervals, what is unavailable, and what was left out."""
    notes = ["Scores times 100; [low, high] is the 95 % interval."]
    if any(part.low is None for part in differences.values()):
        notes.append("A difference without brackets has no interval.")
    for board in boards:
        notes += [
            f"{board.label}: {title} is unavailable: {why.rstrip('.')}."
            for title, why in board.unavailable().items()
        ]
        notes += [
            f"{board.label}: {part.count:,} items are left out: {part.reason}."
            for part in board.left_out()
        ]
    notes += [
        f"{board.label}: protocol {board.protocol}, n = {board.n:,}."
        for board in boards[1:]
        if (board.protocol, board.n) != (boards[0].protocol, boards[0].n)
    ]
    return tuple(notes)


def _paper_table(beside: Beside) -> Table:
    """Ours first, then every printed row with its gap."""
    header = ["Model", "Table"]
    for metric in beside.metrics:
        header += [metric.title, "gap"]
    ours: list[str] = [beside.board.label, "ours"]
    for metric in beside.metrics:
        ours += [shown(beside.ours[metric.name]), ""]
    rows = [tuple(ours)]
    for row in beside.rows:
        cells = [row.paper.model, row.paper.table]
        for metric in beside.metrics:
            cells += [shown(row.paper.scores[metric.name]), signed(row.gaps[metric.name])]
        rows.append(tuple(cells))
    notes = [
        "gap: ours minus the paper's figure.",
        *beside.caveats,
        *beside.notes,
        load_paper().source,
    ]
    if any(DASH in cell for row in rows for cell in row):
        notes.append(f"{DASH} no figure: not computed here, or not printed in the paper.")
    return Table(
        title=f"{beside.board.label} beside the Img-Diff paper: {beside.board.title}",
        header=tuple(header),
        rows=tuple(rows),
        notes=tuple(notes),
        lines_before=_breaks(beside),
        text_columns=2,
    )


def _breaks(beside: Beside) -> tuple[int, ...]:
    """A rule under ours, and one where the supplement's tables begin."""
    main = sum(row.paper.table == beside.main_table for row in beside.rows)
    return (1, 1 + main) if main < len(beside.rows) else (1,)

"""A run beside the paper's table: ours, theirs, the gap, and what makes them incomparable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imgdiff.eval.report.board import Board, Metric, metric_of
from imgdiff.eval.report.paper import CAPTION_SCORES, MMVP_SCORES, PaperRow, load_paper

DEFAULT_PROTOCOLS = {"spot_the_diff": "merged", "image_edit_request": "per_uid"}
UNITS = {"mmvp": "questions", "spot_the_diff": "images", "image_edit_request": "image pairs"}


@dataclass(frozen=True, kw_only=True, slots=True)
class BesideRow:
    """A printed row and, by score, ours minus theirs (None where either is missing)."""

    paper: PaperRow
    gaps: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """One run beside the paper. `rows` is empty where no comparison is allowed; `caveats` say why.

    All values on the paper's scale. `notes` are about the paper's own numbers.
    """

    board: Board
    main_table: str
    metrics: tuple[Metric, ...]
    ours: Mapping[str, float | None]
    rows: tuple[BesideRow, ...]
    caveats: tuple[str, ...]
    notes: tuple[str, ...]


def beside_paper(board: Board) -> Beside:
    """The comparison with the table of the same benchmark; none for a procedural set."""
    paper = load_paper()
    names = MMVP_SCORES if board.benchmark == "mmvp" else CAPTION_SCORES
    scores = {name: board.score(name) for name in names}
    ours = {name: None if score is None else score.value for name, score in scores.items()}
    printed = () if board.procedural else paper.rows_of(board.benchmark)
    rows = tuple(
        BesideRow(
            paper=row,
            gaps={name: _gap(ours[name], row.scores[name]) for name in names},
        )
        for row in printed
    )
    return Beside(
        board=board,
        main_table=paper.main_tables.get(board.benchmark, ""),
        metrics=tuple(map(metric_of, names)),
        ours=ours,
        rows=rows,
        caveats=tuple(_caveats(board, rows)),
        notes=_notes(board.benchmark, rows),
    )


def _gap(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _caveats(board: Board, rows: tuple[BesideRow, ...]) -> Iterator[str]:
    """What the reader must know before reading a gap of this run."""
    if board.procedural:
        yield (
            "imgdiff drew this set. It is not the published benchmark, so no published figure is "
            "shown beside its scores."
        )
        return
    if not rows:
        yield "The paper prints no figures for this benchmark."
        return
    published = load_paper().published_n[board.benchmark]
    if board.n != published:
        yield (
            f"Scored on {board.n:,} {UNITS[board.benchmark]}; the published set has "
            f"{published:,}. The gap is between different sets."
        )
    if board.benchmark != "mmvp" and board.split not in ("", "test"):
        yield f"Scored on the split {board.split!r}; the paper's figures are of the test split."
    wanted = DEFAULT_PROTOCOLS.get(board.benchmark, board.protocol)
    if board.protocol != wanted:
        yield (
            f"Scored with protocol {board.protocol!r}; published systems are scored with "
            f"{wanted!r}. Scores differ by several points between protocols."
        )
    tokenizer = str(board.held.get("tokenizer") or "")
    if tokenizer and "ptb" not in tokenizer.lower():
        yield (
            f"Tokenised with {tokenizer!r}, not with the PTB tokenizer of published scores: "
            "every score shifts."
        )


def _notes(benchmark: str, rows: tuple[BesideRow, ...]) -> tuple[str, ...]:
    """Remarks on the paper's figures that the table shows."""
    if not rows:
        return ()
    notes = load_paper().notes
    if benchmark == "mmvp":
        used = dict.fromkeys(row.paper.note for row in rows if row.paper.note)
        return (
            *(notes[key] for key in used),
            notes["judging"],
        )
    return (notes["bleu"], notes["references"])

"""What the headline scores hide: repeated captions, a constant caption, letters, kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imgdiff.eval.report.board import Board, metric_of
from imgdiff.eval.report.figures import DASH, escaped, shown
from imgdiff.eval.report.plot import bar
from imgdiff.eval.report.sections import LETTERS, run_head, scrolling, section

HEADLINES = ("pair_accuracy", "cider_d")  # of the kinds of difference
CONSTANT_SCORES = ("bleu_4", "meteor", "cider_d", "rouge_l")


def diagnostics(boards: Sequence[Board]) -> str:
    """The section; empty where scores.json holds none of it."""
    return section(
        "diagnostics",
        "Diagnostics",
        _letters(boards),
        _kinds(boards),
        _captions(boards),
        _constant(boards),
        _beside_each_other([_frequent(boards, number) for number in range(len(boards))]),
    )


def _beside_each_other(tables: Sequence[str]) -> str:
    inner = "".join(tables)
    return f'<div class="duo">{inner}</div>' if inner else ""


def _number(value: Any) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _table(title: str, head: str, boards: Sequence[Board], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{run_head(boards, k)}</th>' for k in range(len(boards)))
    return scrolling(
        title,
        f'<table class="figures"><caption>{escaped(title)}</caption><thead><tr>'
        f'<th scope="col">{escaped(head)}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
    )


def _line(title: str, cells: Sequence[str]) -> str:
    inner = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row"><bdi>{escaped(title)}</bdi></th>{inner}</tr>'


def _letters(boards: Sequence[Board]) -> str:
    """How often each letter was chosen: a model that always says (a) is seen here."""
    chosen = [board.part("chosen") for board in boards]
    letters = sorted({letter for part in chosen for letter in part}, key=lambda x: (len(x), x))
    rows = []
    for letter in letters:
        cells = []
        for number, part in enumerate(chosen):
            total = sum(_number(count) or 0 for count in part.values()) or 1.0
            count = _number(part.get(letter)) or 0.0
            share = count / total
            cells.append(
                f"<b>{int(count):,}</b> <small>{shown(100 * share)} %</small>"
                f" {bar(share, 'ab'[number])}"
            )
        rows.append(_line(f"({letter})" if len(letter) == 1 else letter, cells))
    return _table("Letters chosen", "Letter", boards, rows)


def _kinds(boards: Sequence[Board]) -> str:
    """The headline score by kind of difference, with the number of pairs or items."""
    parts = [board.part("by_kind") for board in boards]
    kinds = dict.fromkeys(kind for part in parts for kind in part)
    rows, names = [], set()
    for kind in kinds:
        cells = []
        for part in parts:
            name, value, count = _headline(part.get(kind))
            names |= {name} - {""}
            small = "" if count is None else f" <small>of {int(count):,}</small>"
            cells.append(f"<b>{shown(value)}</b>{small}" if name else DASH)
        rows.append(_line(kind, cells))
    titles = ", ".join(metric_of(name).title for name in sorted(names))
    return _table(f"{titles} by kind of difference", "Kind", boards, rows) if names else ""


def _headline(held: Any) -> tuple[str, float | None, float | None]:
    """Name and value of the headline score of one kind, and how many pairs or items it has."""
    if not isinstance(held, Mapping):
        return "", None, None
    inner = held.get("scores")
    values: Mapping[str, Any] = inner if isinstance(inner, Mapping) else held
    count = _number(held.get("pairs", held.get("n")))
    for name in HEADLINES:
        value = _number(values.get(name))
        if value is not None:
            return name, value * metric_of(name).factor, count
    return "", None, count


def _captions(boards: Sequence[Board]) -> str:
    """Counts and lengths."""
    parts = [board.part("diagnostics") for board in boards]
    counted: Callable[[float], str] = lambda value: f"{int(value):,}"  # noqa: E731
    lines: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("distinct_captions", "Distinct captions", counted),
        ("empty_captions", "Empty captions", counted),
        ("mean_length", "Mean length, words", shown),
        ("length_ratio", "Length ratio to the references", lambda value: shown(value, 3)),
    )
    rows = []
    for key, title, written in lines:
        values = [_number(part.get(key)) for part in parts]
        if any(value is not None for value in values):
            cells = [DASH if value is None else f"<b>{written(value)}</b>" for value in values]
            if key == "distinct_captions":
                cells = [
                    f"{cell} <small>of {board.n:,}</small>"
                    for cell, board in zip(cells, boards, strict=True)
                ]
            rows.append(_line(title, cells))
    return _table("Captions", "Count", boards, rows)


def _constant(boards: Sequence[Board]) -> str:
    """The scores of one caption given to every item, and who does not exceed them."""
    parts = [board.part("diagnostics").get("constant_caption") for board in boards]
    held = [part if isinstance(part, Mapping) else {} for part in parts]
    rows = []
    for name in CONSTANT_SCORES:
        cells = []
        for board, part in zip(boards, held, strict=True):
            constants = part.get("scores")
            value = _number(constants.get(name)) if isinstance(constants, Mapping) else None
            cells.append(_beside_constant(board, name, value))
        if any(cell != DASH for cell in cells):
            rows.append(_line(metric_of(name).title, cells))
    table = _table("One constant caption for every item", "Score", boards, rows)
    texts = {str(part["caption"]): None for part in held if part.get("caption")}
    said = "".join(f'<p class="said"><q dir="auto">{escaped(text)}</q></p>' for text in texts)
    return table + said if table else ""


def _beside_constant(board: Board, name: str, value: float | None) -> str:
    if value is None:
        return DASH
    constant = value * metric_of(name).factor
    score = board.score(name)
    ours = None if score is None else score.value
    if ours is None:
        return f"<b>{shown(constant)}</b>"
    above = ours > constant
    words = "above" if above else "not above"
    kind = "right" if above else "wrong"
    return f'<b>{shown(constant)}</b> <small class="{kind}">run {shown(ours)}, {words}</small>'


def _frequent(boards: Sequence[Board], number: int) -> str:
    """The most frequent captions of one run."""
    board = boards[number]
    listed = board.part("diagnostics").get("most_frequent")
    rows = []
    for part in listed if isinstance(listed, Sequence) else ():
        count = _number(part.get("count")) or 0.0
        share = count / board.n if board.n else 0.0
        text = str(part.get("caption", ""))
        said = f"<q>{escaped(text)}</q>" if text.strip() else "<i>(empty)</i>"
        rows.append(
            f'<tr><th scope="row" dir="auto">{said}</th><td><b>{int(count):,}</b> '
            f"<small>{shown(100 * share)} %</small> {bar(share, 'ab'[number])}</td></tr>"
        )
    if not rows:
        return ""
    who = f" of {LETTERS[number]}" if len(boards) > 1 else ""
    return scrolling(
        f"Most frequent captions{who}",
        f'<table class="figures said"><caption>Most frequent captions{who}</caption><thead><tr>'
        '<th scope="col">Caption</th><th scope="col">Items</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
    )

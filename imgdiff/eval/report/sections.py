"""The static part of the page: header, scores, the paper's table, what is left out, settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from imgdiff.eval.report.beside import Beside, BesideRow
from imgdiff.eval.report.board import Board, Difference, Metric, Score
from imgdiff.eval.report.figures import (
    DASH,
    MINUS,
    beyond_noise,
    bounds,
    escaped,
    shown,
    signed,
)
from imgdiff.eval.report.paper import load_paper
from imgdiff.eval.report.plot import strip

LETTERS = "AB"
BETWEEN = " \u00b7 "
IDS_SHOWN = 50  # of left-out items; the rest is in scores.json


def section(name: str, title: str, *parts: str) -> str:
    """A titled section; empty where all its parts are."""
    inner = "\n".join(part for part in parts if part)
    if not inner:
        return ""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{title}</h2>\n{inner}\n</section>'
    )


def scrolling(label: str, table: str) -> str:
    """A wide table that scrolls in itself, also by keyboard."""
    return (
        f'<div class="scroll" role="region" aria-label="{escaped(label)}" tabindex="0">'
        f"{table}</div>"
    )


def notes(texts: Iterable[str], kind: str = "notes") -> str:
    """A list of remarks; empty without any."""
    inner = "".join(f"<li>{escaped(text)}</li>" for text in texts)
    return f'<ul class="{kind}">{inner}</ul>' if inner else ""


def badge(number: int) -> str:
    """A or B in the colour and shape of the run."""
    return f'<span class="badge {"ab"[number]}">{LETTERS[number]}</span>'


def run_head(boards: Sequence[Board], number: int) -> str:
    """What a column of this run is called: its badge where there are two, and its label."""
    mark = badge(number) + " " if len(boards) > 1 else ""
    return f'{mark}<bdi class="label">{escaped(boards[number].label)}</bdi>'


def header(boards: Sequence[Board]) -> str:
    """Benchmark, protocol, number of items and the models."""
    first = boards[0]
    facts = [f"{first.split} split"] if first.split else []
    facts += [f"protocol {' and '.join(dict.fromkeys(board.protocol for board in boards))}"]
    facts += [" and ".join(dict.fromkeys(_count(board) for board in boards))]
    models = "".join(f"<li>{run_head(boards, number)}</li>" for number in range(len(boards)))
    flag = (
        '<p class="flag">Procedural set: not the published benchmark</p>'
        if first.procedural
        else ""
    )
    return (
        f'<header class="top"><p class="kind">imgdiff evaluation</p><h1>{escaped(first.title)}</h1>'
        f'{flag}<p class="facts">{escaped(BETWEEN.join(facts))}</p>'
        f'<ul class="models" aria-label="Models">{models}</ul></header>'
    )


def _count(board: Board) -> str:
    what = "question" if board.pairs is not None else "item"
    counted = f"{board.n:,} {what}{'' if board.n == 1 else 's'}"
    return counted if board.pairs is None else f"{counted} in {board.pairs:,} pairs"


def scores(
    boards: Sequence[Board], differences: Mapping[str, Difference], besides: Sequence[Beside]
) -> str:
    """The table of scores with 95 % intervals."""
    metrics = {score.metric.name: score.metric for board in boards for score in board.scores}
    heads = "".join(f'<th scope="col">{run_head(boards, k)}</th>' for k in range(len(boards)))
    heads += '<th scope="col">B \u2212 A</th>' if len(boards) > 1 else ""
    rows = [
        _score_row(metric, boards, differences.get(metric.name), besides)
        for metric in metrics.values()
    ]
    rows += _corrected_rows(boards)
    ticks = any(beside.rows for beside in besides)
    spread = "95 % interval" + (f"; ticks: {escaped(besides[0].main_table)}" if ticks else "")
    table = (
        '<table class="figures scores"><caption>Scores times 100, with 95 % intervals</caption>'
        f'<thead><tr><th scope="col">Score</th>{heads}'
        f'<th scope="col" class="plot">{spread}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return section("scores", "Scores", scrolling("Scores", table), notes(_score_notes(boards)))


def _score_row(
    metric: Metric,
    boards: Sequence[Board],
    difference: Difference | None,
    besides: Sequence[Beside],
) -> str:
    held = [board.score(metric.name) for board in boards]
    cells = "".join(f"<td>{_score_cell(score)}</td>" for score in held)
    if len(boards) > 1:
        cells += f"<td>{_difference_cell(difference, metric)}</td>"
    printed = (row.paper for row in besides[0].rows if row.paper.table == besides[0].main_table)
    ticks = [row.scores.get(metric.name) for row in printed]
    plot = strip(held, [value for value in ticks if value is not None])
    return (
        f'<tr><th scope="row">{escaped(metric.title)}</th>{cells}<td class="plot">{plot}</td></tr>'
    )


def _corrected_rows(boards: Sequence[Board]) -> list[str]:
    """The same scores by the corrected answer key."""
    names = {score.metric.name: score.metric for board in boards for score in board.corrected}
    rows = []
    for metric in names.values():
        held = [
            next((score for score in board.corrected if score.metric is metric), None)
            for board in boards
        ]
        cells = "".join(f"<td>{_score_cell(score)}</td>" for score in held)
        cells += "<td></td>" if len(boards) > 1 else ""
        rows.append(
            f'<tr class="minor"><th scope="row">{escaped(metric.title)}, corrected key</th>{cells}'
            f'<td class="plot">{strip(held)}</td></tr>'
        )
    return rows


def _score_cell(score: Score | None) -> str:
    if score is None:
        return f'<span class="none">{DASH}</span>'
    digits = score.metric.digits
    if score.value is None:
        return f'<span class="none">{DASH}</span> <small>unavailable</small>'
    interval = bounds(score.low, score.high, digits)
    small = f' <small class="interval">{interval}</small>' if interval else ""
    return f"<b>{shown(score.value, digits)}</b>{small}"


def _difference_cell(difference: Difference | None, metric: Metric) -> str:
    """The difference, its interval, and whether that leaves room for none."""
    if difference is None:
        return f'<span class="none">{DASH}</span>'
    beyond = beyond_noise(difference)
    if beyond is None:
        value = signed(difference.value, metric.digits)
        return f'<b>{value}</b> <small class="interval wide">no interval</small>'
    better = (difference.value > 0) is metric.higher_is_better
    kind = ("right" if better else "wrong") if beyond else "even"
    words = ("better" if better else "worse") if beyond else "within noise"
    low, high = (signed(value, metric.digits) for value in (difference.low, difference.high))
    return (
        f'<b class="{kind}">{signed(difference.value, metric.digits)}</b> '
        f'<small class="interval">[{low}, {high}]</small> '
        f'<small class="word {kind}">{words}</small>'
    )


def _score_notes(boards: Sequence[Board]) -> Iterable[str]:
    for number, board in enumerate(boards):
        who = f"{LETTERS[number]}: " if len(boards) > 1 else ""
        for title, why in board.unavailable().items():
            yield f"{who}{title} is unavailable: {why.rstrip('.')}."
    if len({board.protocol for board in boards}) > 1:
        yield "The runs differ in protocol, so their difference is not one of models alone."
    if len({board.n for board in boards}) > 1:
        yield "The runs have different numbers of items."
    if len({board.split for board in boards}) > 1:
        yield "The runs are of different splits."


def paper_table(boards: Sequence[Board], besides: Sequence[Beside]) -> str:
    """Ours above the paper's rows, with the gap of every run; supplement tables folded away."""
    caveats = [
        (f"{LETTERS[number]}: " if len(boards) > 1 and len(set(_all_caveats(besides))) > 1 else "")
        + caveat
        for number, beside in enumerate(besides)
        for caveat in beside.caveats
    ]
    warned = notes(dict.fromkeys(caveats), "caveats")
    if not any(beside.rows for beside in besides):
        return section("paper", "Beside the paper", warned)
    table_of = besides[0].main_table
    main = [number for number, row in enumerate(besides[0].rows) if row.paper.table == table_of]
    rest = [number for number in range(len(besides[0].rows)) if number not in main]
    tables = [scrolling(table_of, _gap_table(boards, besides, main, table_of))]
    if rest:
        inner = scrolling("Supplement", _gap_table(boards, besides, rest, "supplement"))
        tables.append(f"<details><summary>Tables of the supplement</summary>{inner}</details>")
    remarks = notes([*_gap_notes(besides), *besides[0].notes, load_paper().source])
    return section("paper", "Beside the paper", warned, *tables, remarks)


def _all_caveats(besides: Sequence[Beside]) -> list[tuple[str, ...]]:
    return [beside.caveats for beside in besides]


def _gap_notes(besides: Sequence[Beside]) -> Iterable[str]:
    yield "Gap: ours minus the paper's figure."
    missing = any(value is None for beside in besides for value in beside.ours.values())
    if missing or any(
        value is None for beside in besides for row in beside.rows for value in row.gaps.values()
    ):
        yield f"{DASH} no figure: not computed here, or not printed in the paper."


def _gap_table(
    boards: Sequence[Board], besides: Sequence[Beside], numbers: Sequence[int], title: str
) -> str:
    metrics = besides[0].metrics
    wide = 1 + len(boards)
    few = " few" if len(metrics) == 1 else ""
    tops = "".join(
        f'<th scope="colgroup" colspan="{wide}">{escaped(metric.title)}</th>' for metric in metrics
    )
    gaps = "".join(
        f'<th scope="col" class="gap">{"gap" if len(boards) == 1 else f"gap {LETTERS[k]}"}</th>'
        for k in range(len(boards))
    )
    subs = ('<th scope="col" class="first">score</th>' + gaps) * len(metrics)
    ours = "".join(_our_row(boards, beside, number) for number, beside in enumerate(besides))
    theirs = "".join(
        _their_row(besides, number, metrics, BETWEEN + _table(besides, number))
        if title == "supplement"
        else _their_row(besides, number, metrics, "")
        for number in numbers
    )
    return (
        f'<table class="figures gaps{few}">'
        f"<caption>Ours beside {escaped(title)} of Img-Diff</caption>"
        f'<thead><tr><th scope="col" rowspan="2">Model</th>{tops}</tr><tr>{subs}</tr></thead>'
        f'<tbody class="ours">{ours}</tbody><tbody>{theirs}</tbody></table>'
    )


def _table(besides: Sequence[Beside], number: int) -> str:
    return besides[0].rows[number].paper.table


def _our_row(boards: Sequence[Board], beside: Beside, number: int) -> str:
    cells = "".join(
        f'<td class="first"><b>{shown(beside.ours[metric.name])}</b></td>'
        + '<td class="gap"></td>' * len(boards)
        for metric in beside.metrics
    )
    return f'<tr><th scope="row">{run_head(boards, number)}</th>{cells}</tr>'


def _their_row(
    besides: Sequence[Beside], number: int, metrics: Sequence[Metric], source: str
) -> str:
    rows: list[BesideRow] = [beside.rows[number] for beside in besides]
    cells = "".join(
        f'<td class="first">{shown(rows[0].paper.scores[metric.name])}</td>'
        + "".join(_gap_cell(row.gaps[metric.name]) for row in rows)
        for metric in metrics
    )
    small = f"<small>{escaped(source)}</small>" if source else ""
    return f'<tr><th scope="row">{escaped(rows[0].paper.model)}{small}</th>{cells}</tr>'


def _gap_cell(gap: float | None) -> str:
    text = signed(gap)
    kind = {"+": "right", MINUS: "wrong"}.get(text[0], "none")
    return f'<td class="gap {kind}">{text}</td>'


def left_out(boards: Sequence[Board], remarks: Sequence[str]) -> str:
    """Everything that is not scored or not shown, with its number and reason."""
    lines = []
    for number, board in enumerate(boards):
        who = badge(number) + " " if len(boards) > 1 else ""
        for part in board.left_out():
            more = part.count - min(len(part.ids), IDS_SHOWN)
            ids = ", ".join(part.ids[:IDS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
            names = (
                f"<details><summary>ids</summary><bdi>{escaped(ids)}</bdi></details>"
                if part.ids
                else ""
            )
            items = "item" if part.count == 1 else "items"
            lines.append(f"<li>{who}{part.count:,} {items}: {escaped(part.reason)}{names}</li>")
    lines += [f"<li>{escaped(remark)}</li>" for remark in remarks]
    body = f'<ul class="notes">{"".join(lines)}</ul>' if lines else "<p>Nothing.</p>"
    return section("left-out", "Left out", body)


def settings(boards: Sequence[Board]) -> str:
    """How the runs were made."""
    parts = []
    for number, board in enumerate(boards):
        held = {"tokenizer": board.held.get("tokenizer"), **board.part("settings")}
        rows = "".join(
            f'<tr><th scope="row">{escaped(key)}</th><td>{escaped(_value(value))}</td></tr>'
            for key, value in held.items()
            if value is not None
        )
        if rows:
            parts.append(
                f"<details><summary>{run_head(boards, number)}</summary>"
                f'<table class="settings"><tbody>{rows}</tbody></table></details>'
            )
    return section("settings", "How it was made", *parts)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)

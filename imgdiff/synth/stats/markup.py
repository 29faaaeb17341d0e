"""Pieces of the page: sections, panels, lists of bars, tables. Texts are escaped here."""

from __future__ import annotations

from collections.abc import Sequence

from imgdiff.synth.page_parts import escaped

DASH = "\u2013"
LONGEST = 240  # characters of a text that is shown


def percent(part: float, whole: float) -> str:
    """`89.2 %`, or a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else DASH


def counted(number: int, thing: str) -> str:
    """`1 pair`, `1,204 pairs`: the things in the plural they are given in."""
    name = thing
    if number == 1:
        head, _, rest = thing.partition(" ")
        name = " ".join(part for part in (head.removesuffix("s"), rest) if part)
    return f"{number:,} {name}"


def cut(text: str | None) -> str:
    """A text of any length as one that fits."""
    held = text or ""
    return held if len(held) <= LONGEST else f"{held[: LONGEST - 1]}\u2026"


def section(place: str, title: str, about: str, *parts: str) -> str:
    """A part of the page under its heading; `about` is HTML."""
    intro = f'<p class="about">{about}</p>' if about else ""
    inner = "\n".join(part for part in parts if part)
    return f'<section class="part" id="{place}"><h2>{escaped(title)}</h2>{intro}\n{inner}</section>'


def panels(*held: str, kind: str = "panels") -> str:
    """Panels beside each other, as many as there is room for."""
    inner = "\n".join(one for one in held if one)
    return f'<div class="{kind}">\n{inner}\n</div>' if inner else ""


def panel(title: str, *parts: str, kind: str = "") -> str:
    """One chart or table with what is said of it; parts are HTML."""
    inner = "\n".join(part for part in parts if part)
    name = f"panel {kind}".strip()
    return f'<div class="{name}"><h3>{escaped(title)}</h3>\n{inner}</div>'


def note(text: str) -> str:
    """A line below a chart; HTML."""
    return f'<p class="note">{text}</p>'


def nothing(why: str) -> str:
    """What stands in the place of a chart without data."""
    return f'<p class="none"><b>Nothing to show.</b> {escaped(why)}</p>'


def legend(*names: str) -> str:
    """Names of the filled bars, of the line and of the shade, as many as are given."""
    kinds = ("one", "two", "range")
    inner = "".join(
        f'<span><i class="{kind}"></i>{escaped(name)}</span>'
        for kind, name in zip(kinds, names, strict=False)
        if name
    )
    return f'<p class="legend">{inner}</p>'


def ranked(rows: Sequence[tuple[str, int]], whole: int) -> str:
    """A bar for each text, with its count and its share of `whole`."""
    most = max((number for _, number in rows), default=0) or 1
    inner = "\n".join(
        f'<li><bdi class="word">{escaped(text)}</bdi>'
        f'<span class="rod"><i style="width:{100 * number / most:.1f}%"></i></span>'
        f'<span class="count">{number:,}</span><span class="share">{percent(number, whole)}</span>'
        "</li>"
        for text, number in rows
    )
    return f'<ol class="ranked">\n{inner}\n</ol>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A table; the first `texts` columns are text, the others numbers. Cells are plain text."""
    lines = "\n".join(
        f"<tr>{''.join(_cell(text, number < texts) for number, text in enumerate(row))}</tr>"
        for row in rows
    )
    heads = "".join(
        f'<th scope="col"{"" if number < texts else _RIGHT}>{escaped(text)}</th>'
        for number, text in enumerate(header)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>\n<tbody>{lines}</tbody>'
        "</table></div>"
    )


_RIGHT = ' class="number"'


def _cell(text: str, plain: bool) -> str:  # noqa: FBT001 - where the cell stands says it
    return f'<td dir="auto">{escaped(text)}</td>' if plain else f"<td{_RIGHT}>{escaped(text)}</td>"

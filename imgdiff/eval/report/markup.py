"""A table as Markdown and as LaTeX (booktabs). Every cell is untrusted text and is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imgdiff.core.console import printable

LATEX_HEAD = "% needs \\usepackage{booktabs,graphicx} and a UTF-8 engine or input encoding"
# A table that is wider than the text is made as wide as the text; others keep their size.
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        '"': r"\symbol{34}",  # \textquotedbl is not in the default font encoding
        "\u2212": "$-$",
        "\u2013": "--",
        "\u0394": r"$\Delta$",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The first column is text, the others are right-aligned. `lines_before` get a rule above."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    lines_before: tuple[int, ...] = ()  # numbers of rows, from 0
    text_columns: int = 1  # that are left-aligned


def markdown(table: Table) -> str:
    """A GitHub table under a heading, its notes as a list. Ends with a new line."""
    align = [":--" if index < table.text_columns else "--:" for index in range(len(table.header))]
    lines = [f"## {_markdown(table.title)}", ""]
    lines += [_row(table.header), "| " + " | ".join(align) + " |"]
    lines += [_row(row) for row in table.rows]
    if table.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A `table` environment with booktabs rules, notes below it. Ends with a new line."""
    columns = "l" * table.text_columns + "r" * (len(table.header) - table.text_columns)
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_latex(table.title)}}}"]
    lines += [
        _FITTED,
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.header),
        r"\midrule",
    ]
    for number, row in enumerate(table.rows):
        lines += [r"\midrule"] if number in table.lines_before else []
        lines.append(_latex_row(row))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if table.notes:
        notes = r" \\ ".join(_first(_latex(note)) for note in table.notes)
        lines.append(rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {notes}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, cells)) + " |"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join([_first(_latex(cells[0])), *map(_latex, cells[1:])]) + r" \\"


def _first(cell: str) -> str:
    r"""A cell after `\\` must not begin with what LaTeX would read as its argument."""
    return f"{{}}{cell}" if cell.startswith(("[", "*")) else cell


def _flat(text: str) -> str:
    """One line without control characters."""
    return printable(" ".join(text.split()))


def _markdown(text: str) -> str:
    flat = _flat(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", flat)


def _latex(text: str) -> str:
    return _flat(text).translate(_LATEX)

"""What the pages of a run share: the frame around a body, figures as tiles, and the funnel.

Pages refer to nothing outside and depend on their data alone; every text of the data is escaped.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LEVELS = {"items": "Captions and pairs", "regions": "Regions", "removals": "Objects to remove"}
_HERE = Path(__file__).parent
# Even if some text slipped through, a browser would fetch and send nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

Link = Callable[[str, str, str], str | None]  # level, stage, reason -> id of a place on the page


def escaped(text: object) -> str:
    """HTML text; characters that no HTML file can hold become U+FFFD."""
    return html.escape(_UNSAFE.sub("\ufffd", str(text)), quote=True)


def whole_page(title: str, style: str, body: str, script: str = "") -> str:
    """The file: `style` comes after page.css; without a script the page may run none."""
    policy, end = _POLICY, ""
    if script:
        policy, end = f"{_POLICY}; script-src 'unsafe-inline'", f"<script>\n{script}</script>\n"
    shared = (_HERE / "page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{shared}{style}</style>\n</head>\n<body>\n{body}\n"
        f"{end}</body>\n</html>\n"
    )


def tiles(figures: Sequence[tuple[str, int]]) -> str:
    """Large numbers, each over its name."""
    inner = "".join(
        f'<div class="tile"><b>{number:,}</b><span>{escaped(name)}</span></div>'
        for name, number in figures
    )
    return f'<div class="tiles">{inner}</div>'


def funnel_levels(funnel: dict[str, Any]) -> list[str]:
    """The levels that a page shows of `Funnel.report()`, in order."""
    removes = "removals" in funnel
    return [
        level
        for level in LEVELS
        if level == "items" or funnel.get(level) or (level == "regions" and not removes)
    ]


def entered(funnel: dict[str, Any], level: str) -> int:
    """How many came into the first stage of a level."""
    steps = funnel.get(level)
    return int(steps[0]["in"]) if steps else 0


def funnel_charts(funnel: dict[str, Any], link: Link = lambda *_: None) -> str:
    """A bar chart for each level; a reason that has a place on the page leads there."""
    charts = "\n".join(
        f'<section class="funnel"><h2>{LEVELS[level]}</h2>\n<ol class="steps">\n'
        + "\n".join(_steps(level, funnel.get(level, ()), link))
        + "</ol></section>"
        for level in funnel_levels(funnel)
    )
    return f'<div class="funnels">{charts}</div>'


def _steps(level: str, steps: Sequence[dict[str, Any]], link: Link) -> Iterator[str]:
    """Rows of a bar chart; bars are shares of what entered the first stage."""
    whole = max((step["in"] for step in steps), default=0) or 1
    for step in steps:
        stage, came, left = step["stage"], step["in"], step["out"]
        reasons = "".join(
            _reason(reason, number, link(level, stage, reason))
            for reason, number in step["rejected"].items()
        )
        yield (
            f'<li class="step{"" if came else " idle"}"><span>{escaped(spoken(stage))}</span>'
            f'<span class="bar"><i style="width:{100 * left / whole:.2f}%"></i>'
            f'<u style="width:{100 * (came - left) / whole:.2f}%"></u></span>'
            f'<span class="flow">{came:,} → {left:,}</span>'
            + (f'<span class="why">{reasons}</span></li>' if reasons else "</li>")
        )


def _reason(reason: str, number: int, place: str | None) -> str:
    text = f"{number:,} {escaped(reason)}"
    return f'<a href="#{place}">{text}</a>' if place else f"<span>{text}</span>"


def spoken(stage: str) -> str:
    """A stage's name in words."""
    return stage.replace("_", " ")

"""Small drawings as inline SVG: intervals of a score on one axis, and shares as bars.

They repeat what a table beside them says, so they are hidden from screen readers. Colours are
classes of report.css.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgdiff.eval.report.board import Score
from imgdiff.eval.report.figures import shown

WIDTH, LANE, AXIS, MARGIN = 240, 14, 14, 8  # px
PADDING = 0.06  # of the range, beyond the outermost value
FALLBACK_RANGE = 1.0  # where all values are one


def strip(scores: Sequence[Score | None], paper: Sequence[float] = ()) -> str:
    """A lane per run (dot and 95 % interval), ticks where the paper's values lie.

    Empty where no run has a value.
    """
    held = [score for score in scores if score is not None and score.value is not None]
    if not held:
        return ""
    values = [
        value
        for score in held
        for value in (score.value, score.low, score.high)
        if value is not None
    ]
    low, high = min([*values, *paper]), max([*values, *paper])
    room = PADDING * (high - low) or FALLBACK_RANGE
    low, high = max(0.0, low - room), high + room
    lanes = LANE * len(scores)
    parts = [
        f'<line class="tick" x1="{x}" x2="{x}" y1="2" y2="{lanes}"/>'
        for x in dict.fromkeys(_place(value, low, high) for value in paper)
    ]
    for number, score in enumerate(scores):
        parts += [_lane(number, score, low, high)] if score is not None else []
    y, end = lanes + 1, WIDTH - MARGIN
    parts.append(
        f'<line class="axis" x1="{MARGIN}" x2="{end}" y1="{y}" y2="{y}"/>'
        f'<text x="{MARGIN}" y="{y + 11}">{shown(low)}</text>'
        f'<text x="{end}" y="{y + 11}" text-anchor="end">{shown(high)}</text>'
    )
    return (
        f'<svg class="strip" aria-hidden="true" viewBox="0 0 {WIDTH} {lanes + AXIS}" '
        f'width="{WIDTH}" height="{lanes + AXIS}">{"".join(parts)}</svg>'
    )


def _lane(number: int, score: Score, low: float, high: float) -> str:
    """A dot for the first run, a square for the second: shape as well as colour tells them."""
    if score.value is None:
        return ""
    y = LANE * number + LANE // 2
    x = _place(score.value, low, high)
    name = "ab"[number]
    mark = (
        f'<circle cx="{x}" cy="{y}" r="4"/>'
        if number == 0
        else f'<rect x="{x - 4:.1f}" y="{y - 4}" width="8" height="8"/>'
    )
    if score.low is None or score.high is None:
        return f'<g class="{name}">{mark}</g>'
    ends = [_place(value, low, high) for value in (score.low, score.high)]
    whisker = f'<line x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}"/>'
    caps = "".join(f'<line x1="{x}" x2="{x}" y1="{y - 3}" y2="{y + 3}"/>' for x in ends)
    return f'<g class="{name}">{whisker}{caps}{mark}</g>'


def _place(value: float, low: float, high: float) -> float:
    return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - low) / (high - low), 1)


def bar(share: float, name: str = "a") -> str:
    """A horizontal bar for a share in [0, 1]."""
    width = round(100 * min(1.0, max(0.0, share)), 1)
    return (
        '<svg class="share" aria-hidden="true" viewBox="0 0 100 8" width="100" height="8" '
        'preserveAspectRatio="none"><rect class="ground" width="100" height="8"/>'
        f'<rect class="{name}" width="{width}" height="8"/></svg>'
    )

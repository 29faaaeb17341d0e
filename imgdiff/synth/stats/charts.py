"""Charts as inline SVG; colours are classes of stats.css. Every chart has a title for readers.

A chart is 400 units wide and its text 12 units high, so that it reads well from 340 px upwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.synth.page_parts import escaped
from imgdiff.synth.selection import Interval
from imgdiff.synth.stats.histogram import Axis, Bars, Grid

WIDTH, HEIGHT = 400, 216
LEFT, RIGHT, TOP, BOTTOM = 48, 388, 42, 172  # of the plot
HEAT = 200  # side of a heat map
_TICKS = 5
_HALF_LETTER = 3.6  # units: a wide label at the right end moves left as far as it must
_LABEL_ROOM = 96  # units: thresholds nearer than this get their labels in two rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What a histogram says beside its bars."""

    label: str  # what it shows, for those who do not see it
    across: str  # name of the axis, with its unit
    up: str
    shares: bool = False  # bars are shares of each series, not counts
    interval: Interval | None = None  # the accepted range, in the numbers' own unit


def histogram(series: Sequence[Bars], look: Look) -> str:
    """Filled bars for the first series, a stepped line for the second."""
    edges = series[0].edges
    scale = _Scale(edges[0], edges[-1])
    heights = [_heights(bars, shares=look.shares) for bars in series]
    highest, ticks = _up_ticks(max(max(held) for held in heights), whole=not look.shares)
    parts = [
        *_accepted(look.interval, series[0].axis, scale),
        *_grid_lines(ticks, highest, shares=look.shares),
        *_filled(series[0], heights[0], highest, scale),
    ]
    if len(series) > 1:
        parts.append(_line(edges, heights[1], highest, scale))
    parts += [
        *_axis(series[0].axis, scale),
        *_limits(look.interval, series[0].axis, scale),
        f'<text class="name" x="{RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escaped(look.across)}'
        "</text>",
        f'<text class="name" x="0" y="11">{escaped(look.up)}</text>',
    ]
    return _svg("plot", WIDTH, HEIGHT, look.label, parts)


def heat_map(grid: Grid, label: str, unit: str) -> str:
    """Cells in one hue, darker for more; the frame is the image."""
    top = int(grid.counts.max())
    side = HEAT / grid.cells
    cells = [
        f'<rect class="heat" x="{28 + column * side:g}" y="{4 + row * side:g}" width="{side:g}" '
        f'height="{side:g}" fill-opacity="{0.1 + 0.9 * count / top:.3f}"><title>{count:,} '
        f"{escaped(unit)}</title></rect>"
        for row, counts in enumerate(grid.counts.tolist())
        for column, count in enumerate(counts)
        if count
    ]
    places = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))
    ticks = [
        f'<text x="{28 + HEAT * at:g}" y="{HEAT + 19}" text-anchor="middle">{text}</text>'
        f'<text x="22" y="{8 + HEAT * at:g}" text-anchor="end">{text}</text>'
        for at, text in places
    ]
    shades = [
        f'<rect class="heat" x="{28 + 12 * k}" y="{HEAT + 32}" width="12" height="9" '
        f'fill-opacity="{0.1 + 0.9 * k / 5:.2f}"/>'
        for k in range(6)
    ]
    legend = (
        f'<text x="22" y="{HEAT + 41}" text-anchor="end">1</text>'
        f'<text x="106" y="{HEAT + 41}">{top:,} {escaped(unit)} in a cell</text>'
    )
    frame = f'<rect class="frame" x="28" y="4" width="{HEAT}" height="{HEAT}"/>'
    return _svg("map", HEAT + 44, HEAT + 48, label, [frame, *cells, *ticks, *shades, legend])


def _svg(kind: str, width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escaped(label)}">{"".join(parts)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    """From places on an axis to units of the drawing."""

    low: float
    high: float

    def at(self, place: float) -> float:
        """Clipped to the plot."""
        share = (place - self.low) / (self.high - self.low)
        return round(LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share)), 2)


def _heights(bars: Bars, *, shares: bool) -> list[float]:
    whole = (bars.total or 1) / 100 if shares else 1
    return [count / whole for count in bars.counts]


def _y(height: float, highest: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * height / highest, 2)


def _filled(bars: Bars, heights: Sequence[float], highest: float, scale: _Scale) -> Iterator[str]:
    for count, height, low, high in zip(
        bars.counts, heights, bars.edges, bars.edges[1:], strict=False
    ):
        if count:
            left, right, y = scale.at(low), scale.at(high), _y(height, highest)
            gap = 0.6 if right - left > 3 else 0.0  # noqa: PLR2004 - units; thin bars touch
            said = f"{spoken_place(bars.axis, low)} to {spoken_place(bars.axis, high)}: {count:,}"
            yield (
                f'<rect class="one" x="{left + gap / 2:.2f}" y="{min(y, BOTTOM - 0.8)}" '
                f'width="{right - left - gap:.2f}" height="{max(0.8, BOTTOM - y):.2f}">'
                f"<title>{escaped(said)}</title></rect>"
            )


def _line(edges: Sequence[float], heights: Sequence[float], highest: float, scale: _Scale) -> str:
    steps = [
        f"L{scale.at(low):g},{_y(height, highest):g} L{scale.at(high):g},{_y(height, highest):g}"
        for height, low, high in zip(heights, edges, edges[1:], strict=False)
    ]
    path = f"M{LEFT},{BOTTOM} {' '.join(steps)} L{RIGHT},{BOTTOM}"
    return f'<path class="two" d="{path}"/>'


def _up_ticks(highest: float, *, whole: bool) -> tuple[float, list[float]]:
    """The top of the axis and its ticks."""
    step = max(_nice_step(highest / 3), 1.0 if whole else 0.0)
    count = max(1, math.ceil(highest / step - 1e-9))
    return step * count, [step * k for k in range(count + 1)]


def _nice_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(power * size for size in (1, 2, 5, 10) if power * size >= least * (1 - 1e-9))


def _grid_lines(ticks: Sequence[float], highest: float, *, shares: bool) -> Iterator[str]:
    for tick in ticks:
        y = _y(tick, highest)
        kind = "base" if tick == 0 else "grid"
        text = f"{_trimmed(tick)} %" if shares else short(tick)
        yield (
            f'<line class="{kind}" x1="{LEFT}" x2="{RIGHT}" y1="{y:g}" y2="{y:g}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">{text}</text>'
        )


def short(number: float) -> str:
    """`950`, `1.2k`, `30k`, `4M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{_trimmed(number / size)}{letter}"
    return _trimmed(number)


def _trimmed(number: float) -> str:
    return f"{number:.4g}"


def spoken_place(axis: Axis, place: float) -> str:
    """The number at a place of the axis, as a person writes it."""
    if axis.base is None:
        return _trimmed(round(place, 6))
    if axis.base == 2.0:  # noqa: PLR2004 - an aspect ratio
        return ratio(place)
    return percent_of(axis.base**place)


def ratio(place: float) -> str:
    """`4:1`, `1:1`, `1:2.8` for a logarithm to the base of two."""
    number = round(2 ** abs(place), 1)
    text = _trimmed(number)
    return f"1:{text}" if place < 0 and number != 1 else f"{text}:1"


def percent_of(share: float) -> str:
    """`0.25 %`: two digits of a share."""
    return f"{_trimmed(float(f'{100 * share:.2g}'))} %"


def _axis(axis: Axis, scale: _Scale) -> Iterator[str]:
    for place, text in _across_ticks(axis, scale.low, scale.high):
        x = scale.at(place)
        yield (
            f'<line class="tick" x1="{x:g}" x2="{x:g}" y1="{BOTTOM}" y2="{BOTTOM + 4}"/>'
            f'<text x="{min(x, WIDTH - _HALF_LETTER * len(text)):g}" y="{BOTTOM + 17}" '
            f'text-anchor="middle">{text}</text>'
        )


def _across_ticks(axis: Axis, low: float, high: float) -> list[tuple[float, str]]:
    if axis.base == 10.0:  # noqa: PLR2004 - shares of the image, by decades
        places = [math.log10(size) + k for k in range(-6, 1) for size in _decade(high - low)]
        kept = [place for place in places if low - 1e-9 <= place <= min(high, 0.0) + 1e-9]
        return [(place, percent_of(10**place)) for place in kept]
    step = _nice_step((high - low) / (_TICKS + 1))
    if axis.base is not None or axis.width >= 1:  # ratios and words: whole places
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, spoken_place(axis, k * step)) for k in range(first, last + 1)]


def _decade(length: float) -> tuple[int, ...]:
    """Ticks within a decade, fewer where many decades show."""
    return (1,) if length > 2.5 else (1, 2, 5) if length > 1 else (1, 2, 3, 5, 7)  # noqa: PLR2004


def _ends(interval: Interval | None, axis: Axis) -> tuple[float | None, float | None]:
    """Lower and upper end as places on the axis; None where it is open."""
    if interval is None:
        return None, None
    low = interval.above if interval.above is not None else interval.at_least
    high = interval.below if interval.below is not None else interval.at_most

    def place(end: float | None) -> float | None:
        if end is None or not math.isfinite(end):
            return None
        if axis.base is not None and end <= 0:
            return axis.low
        return axis.place(end)

    return place(low), place(high)


def threshold_places(interval: Interval | None, axis: Axis) -> list[float]:
    """Where the ends of an interval lie on the axis."""
    return [place for place in _ends(interval, axis) if place is not None]


def _accepted(interval: Interval | None, axis: Axis, scale: _Scale) -> Iterator[str]:
    """The shade behind the bars."""
    if interval is None:
        return
    low, high = _ends(interval, axis)
    left = LEFT if low is None else scale.at(low)
    right = RIGHT if high is None else scale.at(high)
    if right > left:
        yield (
            f'<rect class="range" x="{left:g}" y="{TOP}" width="{right - left:g}" '
            f'height="{BOTTOM - TOP}"/>'
        )


def _limits(interval: Interval | None, axis: Axis, scale: _Scale) -> Iterator[str]:
    """A dashed line and a label at each end of the accepted range."""
    low, high = _ends(interval, axis)
    signs: tuple[tuple[float | None, Callable[[], str]], ...] = (
        (low, lambda: _end_text(interval, axis, lower=True)),
        (high, lambda: _end_text(interval, axis, lower=False)),
    )
    places = [scale.at(place) if place is not None else None for place in (low, high)]
    close = None not in places and places[1] - places[0] < _LABEL_ROOM  # type: ignore[operator]
    for number, (place, text) in enumerate(signs):
        if place is None or not scale.low - 1e-9 <= place <= scale.high + 1e-9:
            continue
        x = scale.at(place)
        y = TOP - 5 - (13 if close and number == 0 else 0)
        inner = 30
        anchor = "start" if x < LEFT + inner else "end" if x > RIGHT - inner else "middle"
        yield (
            f'<line class="limit" x1="{x:g}" x2="{x:g}" y1="{y + 3}" y2="{BOTTOM}"/>'
            f'<text class="limit" x="{x:g}" y="{y}" text-anchor="{anchor}">{escaped(text())}</text>'
        )


def _end_text(interval: Interval | None, axis: Axis, *, lower: bool) -> str:
    assert interval is not None
    pairs = (
        ((">", interval.above), ("\u2265", interval.at_least))
        if lower
        else (("<", interval.below), ("\u2264", interval.at_most))
    )
    sign, end = next((sign, end) for sign, end in pairs if end is not None)
    shown = percent_of(end) if axis.base == 10.0 else f"{end:g}"  # noqa: PLR2004
    return f"{sign} {shown}"


def is_empty(grid: Grid) -> bool:
    """Whether no point was counted."""
    return not bool(np.any(grid.counts))

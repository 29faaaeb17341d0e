"""How numbers and untrusted words are written in the report."""

from __future__ import annotations

import html

from imgdiff.core.console import printable
from imgdiff.eval.report.board import Difference, Score

DASH = "\u2013"  # stands for a value that is not there
MINUS = "\u2212"


def shown(value: float | None, digits: int = 1) -> str:
    """The value with fixed decimals, a dash for None."""
    return DASH if value is None else _minus(f"{value + 0.0:.{digits}f}")


def signed(value: float | None, digits: int = 1) -> str:
    """The value with its sign; a value that rounds to nothing has none."""
    if value is None:
        return DASH
    text = f"{value:+.{digits}f}"
    return _minus(text) if float(text) else text[1:]


def bounds(low: float | None, high: float | None, digits: int = 1) -> str:
    """`[low, high]`, empty where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{shown(low, digits)}, {shown(high, digits)}]"


def score_text(score: Score | None) -> str:
    """`9.7 [9.0, 10.5]`, or a dash."""
    if score is None:
        return DASH
    digits = score.metric.digits
    return " ".join(
        filter(None, (shown(score.value, digits), bounds(score.low, score.high, digits)))
    )


def difference_text(difference: Difference | None, digits: int = 1) -> str:
    """`+1.2 [+0.1, +2.3]`, or a dash. Values as shown."""
    if difference is None:
        return DASH
    text = signed(difference.value, digits)
    if difference.low is None or difference.high is None:
        return text
    return f"{text} [{signed(difference.low, digits)}, {signed(difference.high, digits)}]"


def beyond_noise(difference: Difference) -> bool | None:
    """Whether a test, or else the 95 % interval, excludes 0; None without an interval."""
    if difference.low is None or difference.high is None:
        return None
    if difference.within_noise is not None:
        return not difference.within_noise
    return difference.low > 0 or difference.high < 0


def escaped(text: object) -> str:
    """HTML text of anything; characters that no page can hold become U+FFFD."""
    return html.escape(printable(str(text)), quote=True)


def _minus(text: str) -> str:
    """A true minus sign; none before zero."""
    if text.startswith("-"):
        return MINUS + text[1:] if float(text) else text[1:]
    return text

"""What a person sees while a run goes on: a progress bar with rate and time left, and tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(highlight=False)
_CONTROL = ("Cc", "Cs")  # of Unicode: control characters, halves of characters


class _Rate(ProgressColumn):
    """Items per second since the start of the bar."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s")


class Meter:
    """One bar whose label follows the work."""

    def __init__(self, progress: Progress, total: int, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total)

    def advance(self, count: float = 1, label: str | None = None) -> None:
        """Count finished items; optionally rename what is being done."""
        if label is None:
            self._progress.update(self._task, advance=count)
        else:
            self._progress.update(self._task, advance=count, description=label)


@contextmanager
def meter(total: int, label: str) -> Iterator[Meter]:
    """A progress bar over `total` items with rate and time left; quiet when not on a terminal."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Meter(progress, total, label)


def printable(text: str) -> str:
    """The text of a stranger, for a terminal or page: its control characters become U+FFFD.

    New lines and tabs stay. An escape would be obeyed by the terminal.
    """
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in _CONTROL else "\ufffd"
        for letter in text
    )


def say(text: str) -> None:
    """One line for the person at the terminal, word for word.

    No mark-up is read in it (`imgdiff[java]` is no style), and no line is broken: a path or command
    can be copied.
    """
    console.print(Text(printable(text)), soft_wrap=True)


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; the first column is text, the others are right-aligned. Words as in `say`."""
    heading = Text(printable(title), style="bold")
    table = Table(title=heading, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(_literal(name), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(_literal, row))
    console.print(table)


def _literal(value: object) -> Text:
    return Text(printable(str(value)))

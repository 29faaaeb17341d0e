"""Samples at the terminal: in colours, or with marks where there are none."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from imgdiff.core.console import printable
from imgdiff.train.preview.pieces import Piece, Role
from imgdiff.train.preview.shown import Shown

# Neighbouring tokens alternate, so that each can be seen.
STYLES = {
    Role.context: ("grey70", "grey50"),
    Role.supervised: ("black on green3", "black on dark_sea_green2"),
    Role.image: ("black on sky_blue1", "black on sky_blue1"),
}
OPENS, BETWEEN, CLOSES = "[[", "|", "]]"
LEGEND = f"{OPENS}supervised{BETWEEN}tokens{CLOSES} carry the loss; all else is read only."


def show(sample: Shown, total: int, console: Console) -> None:
    """Print one sample."""
    coloured = console.color_system is not None
    head = printable(f"{sample.number}/{total}  {sample.source}  {sample.id}")
    console.print(Text(head, style="bold"), soft_wrap=True)
    console.print(Text(f"{sample.position}  ·  {sample.figures}", style="dim"), soft_wrap=True)
    console.print(in_colours(sample) if coloured else Text(with_marks(sample)), soft_wrap=True)
    console.print()


def show_legend(console: Console) -> None:
    """Print what the colours or marks mean."""
    if console.color_system is None:
        console.print(Text(LEGEND), soft_wrap=True)
    else:
        style = STYLES[Role.supervised][0]
        console.print(
            Text(" supervised ", style=style), Text("tokens carry the loss; all else is read only.")
        )
    console.print()


def in_colours(sample: Shown) -> Text:
    """All pieces, each token in a colour that its neighbours do not have."""
    text = Text()
    for number, piece in enumerate(sample.pieces):
        text.append(written(piece), style=STYLES[piece.role][number % 2])
    return text


def with_marks(sample: Shown) -> str:
    """All pieces; supervised ones between marks, with a bar between neighbours."""
    return "".join(_marked(sample.pieces))


def _marked(pieces: tuple[Piece, ...]) -> Iterator[str]:
    inside = False
    for piece in pieces:
        supervised = piece.role is Role.supervised
        if supervised:
            yield BETWEEN if inside else OPENS
        elif inside:
            yield CLOSES
        inside = supervised
        yield written(piece)
    if inside:
        yield CLOSES


def written(piece: Piece) -> str:
    """The text of a piece, without control characters; an image by how many tokens it takes."""
    if piece.role is Role.image:
        return f"<{piece.tokens} image tokens>"
    return printable(piece.text)

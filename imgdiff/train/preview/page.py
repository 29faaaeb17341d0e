"""One static page with all samples shown: nothing outside is referred to, and nothing runs."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from imgdiff.core.console import printable
from imgdiff.train.preview.pieces import Piece
from imgdiff.train.preview.shown import Shown
from imgdiff.train.preview.terminal import written

TITLE = "What the model gets"
# Even if some text slipped through, a browser would run, fetch and send nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LEGEND = (
    '<p class="legend"><span class="supervised">supervised</span> carries the loss'
    '<span class="context b">context</span> is read only'
    '<span class="image">image</span> where the picture comes in</p>\n'
    "<p>Shades tell tokens apart; \u21b5 is a new line. Pictures are the views that the vision "
    "tower gets, with their padding; of several, the last is the whole image.</p>"
)


def page(samples: Sequence[Shown], facts: Mapping[str, object], notices: Sequence[str]) -> str:
    """The HTML text. Every text of the data is escaped, every picture is inside."""
    style = (Path(__file__).parent / "preview.css").read_text(encoding="utf-8")
    listed = "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(str(value))}</dd></div>"
        for name, value in facts.items()
    )
    said = "".join(f'<p class="notice">{escaped(notice)}</p>' for notice in notices)
    body = "\n".join(_article(sample) for sample in samples)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<h1>{TITLE}</h1>\n{_LEGEND}\n<dl>{listed}</dl>\n{said}\n{body}\n</body>\n</html>\n"
    )


def _article(sample: Shown) -> str:
    figures = "".join(
        f'<figure><img src="{_data(picture)}" alt="what the vision tower gets">'
        f"<figcaption>{escaped(file)}</figcaption></figure>"
        for picture, file in zip(sample.pictures, sample.files, strict=True)
    )
    text = "".join(_span(piece, number) for number, piece in enumerate(sample.pieces))
    return (
        f'<article id="sample-{sample.number}">\n'
        f"<div>{figures or '<div class=none>no image</div>'}</div>\n"
        f"<div><h2>{sample.number}. {escaped(sample.source)}: {escaped(sample.id)}</h2>\n"
        f'<div class="facts">{escaped(sample.position)}<br>{escaped(sample.figures)}<br>'
        f"{escaped(sample.place)}</div>\n"
        f'<div class="text">{text}</div></div>\n</article>'
    )


def _span(piece: Piece, number: int) -> str:
    shade = " b" if number % 2 else ""
    text = escaped(written(piece)).replace("\n", "<i>\u21b5</i>\n")
    return f'<span class="{piece.role.value}{shade}">{text}</span>'


def escaped(text: str) -> str:
    """Text that is text in HTML and in its attributes, without control characters."""
    return html.escape(printable(text), quote=True)


def _data(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"

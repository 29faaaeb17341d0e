"""report.html: one static file with the scores of one or two runs and all their items.

Nothing is fetched: styles, script, texts and images are inside. Equal runs give equal bytes. The
browser builds the cards of one page at a time, so that 1,404 items stay quick.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from imgdiff.core.console import printable
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import atomic_path
from imgdiff.eval.records import Run
from imgdiff.eval.report.beside import beside_paper
from imgdiff.eval.report.board import Board, Difference, boards_of, differences_of
from imgdiff.eval.report.diagnostics import diagnostics
from imgdiff.eval.report.figures import escaped
from imgdiff.eval.report.items import Items, items_of, script_json
from imgdiff.eval.report.pictures import Picture, missing_notes, write_pictures
from imgdiff.eval.report.sections import header, left_out, paper_table, scores, section, settings

THUMBNAIL_PX = 320
_HERE = Path(__file__).parent
_NO_SCRIPT = (
    "<noscript><p>The items (images, references, answers, filters) are shown by a script inside "
    "this file, and scripts are off. The tables above are complete.</p></noscript>"
)


def write_report(
    path: Path,
    runs: Sequence[Run],
    *,
    differences: Mapping[str, Difference] | None = None,
    thumbnail_px: int = THUMBNAIL_PX,
) -> None:
    """Write the page of one run, or of two runs of one benchmark, to `path`, atomically.

    `differences` (second minus first, by score, on the scale of scores.json) brings intervals;
    without it plain differences are shown. Images are embedded as JPEGs whose longest side is at
    most `thumbnail_px`; 0 leaves them out. An image that cannot be read is counted on the page.
    ConfigError for another number of runs, DataError for runs that do not fit together, StoreError
    where `path` cannot be written.
    """
    if thumbnail_px < 0:
        raise ConfigError(f"thumbnail_px={thumbnail_px}: must be 0 (no images) or more")
    boards, items = boards_of(runs), items_of(runs)
    with atomic_path(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as blocks:
        pictures = write_pictures(items.album.paths, thumbnail_px, blocks)
        blocks.seek(0)
        with temporary.open("wb") as page:
            _write(page, boards, items, pictures, blocks, differences or {})


def _write(
    page: IO[bytes],
    boards: Sequence[Board],
    items: Items,
    pictures: Sequence[Picture],
    blocks: IO[bytes],
    differences: Mapping[str, Difference],
) -> None:
    """The tables first, so that they show while the images still load."""
    style, script = (_read(name) for name in ("report.css", "report.js"))
    page.write(_head(boards, style, script).encode())
    page.write(_tables(boards, items, pictures, differences).encode())
    page.write(_data(boards, items, pictures).encode())
    shutil.copyfileobj(blocks, page)
    page.write(f"<script>{script}</script>\n</body>\n</html>\n".encode())


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _head(boards: Sequence[Board], style: str, script: str) -> str:
    """The policy lets this one script and this one style sheet run, and nothing be fetched."""
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    labels = " and ".join(board.label for board in boards)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(boards[0].title)}: {escaped(labels)}</title>\n"
        f"<style>{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#items">Skip to the items</a>\n'
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _tables(
    boards: Sequence[Board],
    items: Items,
    pictures: Sequence[Picture],
    differences: Mapping[str, Difference],
) -> str:
    besides = [beside_paper(board) for board in boards]
    remarks = [*items.notes, *missing_notes(pictures)]
    parts = (
        header(boards),
        "<main>",
        scores(boards, differences_of(boards, differences), besides),
        paper_table(boards, besides),
        diagnostics(boards),
        left_out(boards, remarks),
        settings(boards),
        section("items", "Items", _NO_SCRIPT, '<div id="app"></div>'),
        "</main>",
        "<footer>Written by imgdiff. This file needs no network.</footer>",
    )
    return "\n".join(part for part in parts if part) + "\n"


def _data(boards: Sequence[Board], items: Items, pictures: Sequence[Picture]) -> str:
    value = {
        "kind": items.kind,
        "runs": [printable(board.label) for board in boards],
        "metrics": items.metrics,
        "prompts": list(map(printable, items.prompts.numbers)),
        "pictures": [asdict(picture) | {"name": printable(picture.name)} for picture in pictures],
        "items": items.items,
    }
    return f'<script type="application/json" id="data">{script_json(value)}</script>\n'

"""Raw rows of a data file, one by one: a file of any size is never held in memory.

Formats: LLaVA's JSON list, JSONL (one object per line), Parquet. A file whose structure is broken
(truncated list, not UTF-8) raises DataError; a line of JSONL that is no JSON is one bad row.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from imgdiff.core.errors import DataError

CHUNK_BYTES = 1 << 22
PARQUET_ROWS = 1024
_LONGEST_LITERAL = 16  # a cut `-Infinity` or `\\u12` is noticed within so many characters
_BLANKS = " \t\r\n"
_DECODER = json.JSONDecoder()
Advance = Callable[[float], None]


class RawRow(NamedTuple):
    """A decoded row, its place for messages, and what is wrong if it could not be decoded."""

    number: int  # from 0
    place: str
    value: Any
    error: str | None = None


def raw_rows(path: Path, advance: Advance) -> Iterator[RawRow]:
    """All rows in the order of the file; `advance` is told how many bytes were taken in."""
    if path.suffix.lower() == ".parquet" or _starts(path, b"PAR1"):
        return _parquet_rows(path, advance)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _line_rows(path, advance)
    opening = _first_character(path)
    if opening == "[":
        return _list_rows(path, advance)
    if opening == "{":
        return _line_rows(path, advance)
    raise DataError(
        f"{path}: begins with {opening!r}; no list of samples. Needed: a JSON list or one JSON "
        "object per line, of objects with 'id', 'image' and 'conversations', or Parquet with "
        "these columns."
    )


def _starts(path: Path, magic: bytes) -> bool:
    with path.open("rb") as handle:
        return handle.read(len(magic)) == magic


def _first_character(path: Path) -> str:
    for text in _texts(path, lambda _: None):
        if stripped := text.lstrip(_BLANKS):
            return stripped[0]
    return ""


def _texts(path: Path, advance: Advance) -> Iterator[str]:
    """The file as UTF-8 text in chunks, a leading byte order mark left out."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    done = 0
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(CHUNK_BYTES):
                yield decoder.decode(chunk)
                done += len(chunk)
                advance(len(chunk))
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 text at about byte {done + error.start}. Re-save it as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


class _Window:
    """The part of a text file around the reading position, with the line number."""

    def __init__(self, path: Path, advance: Advance) -> None:
        self._path = path
        self._texts = _texts(path, advance)
        self.text = ""
        self.position = 0
        self._line, self._counted = 1, 0
        self._before = 0  # characters of the current line that were let go of
        self.ended = False

    @property
    def line(self) -> int:
        """Line of the position, from 1."""
        self._line += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._line

    @property
    def column(self) -> int:
        """Column of the position, from 1."""
        newline = self.text.rfind("\n", 0, self.position)
        return self.position - newline + (self._before if newline < 0 else 0)

    def more(self) -> bool:
        """Take in one chunk and let go of what is behind the position; False at the end."""
        following = next(self._texts, None)
        if following is None:
            self.ended = True
            return False
        _ = self.line
        self._before = self.column - 1
        self.text = self.text[self.position :] + following
        self.position = self._counted = 0
        return True

    def skip_blanks(self) -> str:
        """The next character that is no blank, or '' at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in _BLANKS:
                self.position += 1
            if self.position < len(self.text):
                return self.text[self.position]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The JSON value at the position, which moves behind it."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                if self._may_be_cut(error) and self.more():
                    continue
                self.refuse(error.msg, error.pos)
            except (RecursionError, ValueError) as error:
                self.refuse(f"a value cannot be read: {error}", self.position)
            else:
                near_end = end >= len(self.text) - _LONGEST_LITERAL
                if near_end and not isinstance(value, (dict, list)) and self.more():
                    continue  # a number may go on in the next chunk
                self.position = end
                return value

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        near_end = error.pos >= len(self.text) - _LONGEST_LITERAL
        return not self.ended and (near_end or error.msg.startswith("Unterminated string"))

    def refuse(self, reason: str, position: int) -> Any:
        """DataError with file, line and column."""
        self.position = min(position, len(self.text))
        raise DataError(
            f"{self._path}:{self.line}:{self.column}: malformed JSON ({reason}). Fix the file; if "
            "it ends too early, copy it again."
        )


def _list_rows(path: Path, advance: Advance) -> Iterator[RawRow]:
    window = _Window(path, advance)
    window.skip_blanks()
    window.position += 1  # the opening bracket
    number = 0
    following = window.skip_blanks()
    while following != "]":
        line = window.line
        value = window.value()
        yield RawRow(number, f"{path}:{line}: sample {number}", value)
        number += 1
        following = window.skip_blanks()
        if following == ",":
            window.position += 1
            window.skip_blanks()
        elif following != "]":
            end = "the list does not end" if following == "" else "expecting ',' or ']'"
            window.refuse(f"{end} after sample {number - 1}", window.position)
    window.position += 1
    if window.skip_blanks():
        window.refuse("text after the end of the list", window.position)


def _line_rows(path: Path, advance: Advance) -> Iterator[RawRow]:
    number = 0
    for line, text in enumerate(_lines(path, advance), start=1):
        if not text.strip(_BLANKS):
            continue
        place = f"{path}:{line}: sample {number}"
        try:
            yield RawRow(number, place, json.loads(text))
        except json.JSONDecodeError as error:
            yield RawRow(number, place, None, f"malformed JSON (column {error.colno}: {error.msg})")
        except (RecursionError, ValueError) as error:
            yield RawRow(number, place, None, f"a value cannot be read ({error})")
        number += 1


def _lines(path: Path, advance: Advance) -> Iterator[str]:
    rest: list[str] = []
    for text in _texts(path, advance):
        first, *others = text.split("\n")
        rest.append(first)
        for other in others:
            yield "".join(rest)
            rest = [other]
    yield "".join(rest)


def _parquet_rows(path: Path, advance: Advance) -> Iterator[RawRow]:
    """Rows of `id`, `image` and `conversations`; of an embedded image the path alone is read.

    Embedded bytes are not used: images are read from files while training.
    """
    try:
        with pq.ParquetFile(path) as file:
            names = _parquet_columns(path, file.schema_arrow)
            share = path.stat().st_size / max(1, file.metadata.num_rows)
            number = 0
            for batch in file.iter_batches(PARQUET_ROWS, columns=names):
                for value in batch.to_pylist():
                    yield RawRow(number, f"{path}: row {number}", _plain_images(value))
                    number += 1
                advance(share * len(batch))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}). Copy it again.") from None


def _parquet_columns(path: Path, schema: pa.Schema) -> list[str]:
    if "conversations" not in schema.names:
        raise DataError(
            f"{path}: columns {schema.names} have no 'conversations'. Needed: id, image, "
            "conversations (a list of structs with 'from' and 'value')."
        )
    names = [name for name in ("id", "conversations", "video") if name in schema.names]
    if "image" in schema.names:
        kind = schema.field("image").type
        inner = kind.value_type if pa.types.is_list(kind) else kind
        inside = "image.list.element.path" if pa.types.is_list(kind) else "image.path"
        names.append(inside if pa.types.is_struct(inner) else "image")
    return names


def _plain_images(row: dict[str, Any]) -> dict[str, Any]:
    """`row` with each embedded image {bytes, path} as its path."""
    image = row.get("image")
    if isinstance(image, list):
        row["image"] = [item.get("path") if isinstance(item, dict) else item for item in image]
    elif isinstance(image, dict):
        row["image"] = image.get("path")
        if row["image"] is None:
            row["image"] = ""  # an image without a path is a defect, not a row without one
    return row

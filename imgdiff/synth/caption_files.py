"""Reading captions from JSON, JSON lines and Parquet files of the layouts people have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from imgdiff.core.errors import DataError
from imgdiff.core.files import read_json
from imgdiff.core.records import Rejected

FIELDS = ("caption", "text", "input")
LINE_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_MAGIC = b"PAR1"
BATCH_ROWS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One text of a caption file; `id` is the file's stem and the row's position."""

    id: str
    text: str


def check_file(path: Path, column: str | None) -> None:
    """DataError if the file is absent, empty, unreadable, or Parquet without the column."""
    if path.is_dir():
        raise DataError(
            f"source.path={path}: is a folder; name one caption file, or use source=coco for a "
            "folder in COCO layout"
        )
    if not path.is_file():
        raise DataError(f"source.path={path}: no such file. Check the path.")
    if path.stat().st_size == 0:
        raise DataError(f"source.path={path}: the file is empty. Write it again.")
    if _is_parquet(path):
        _column_of(path, column)


def read_records(path: Path, column: str | None = None) -> Iterator[Record | Rejected]:
    """Every row of a caption file in order; a row without a caption as Rejected.

    Formats, found by looking: Parquet; COCO captions (`annotations`); a JSON list or JSON lines of
    strings, of objects with a field `column` (or caption, text, input), of COCO results, or of
    LLaVA conversations (`blip_caption` if present, else the first answer).
    DataError names the file and line where the file is not what it should be.
    """
    stem = path.stem
    for index, value in enumerate(_values(path, column)):
        yield _record(f"{stem}-{index:08d}", value, column)


def _values(path: Path, column: str | None) -> Iterator[Any]:
    if _is_parquet(path):
        return _parquet_values(path, column)
    if path.suffix.lower() in LINE_SUFFIXES or _looks_like_lines(path):
        return _line_values(path)
    return _json_values(path)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(4) == PARQUET_MAGIC or path.suffix.lower() == ".parquet"


def _looks_like_lines(path: Path) -> bool:
    """Whether a file called .json holds one JSON value per line (two lines that parse alone)."""
    with path.open("rb") as handle:
        first_two = list(islice((line for line in handle if line.strip()), 2))
    try:
        return len([json.loads(line) for line in first_two]) > 1
    except ValueError:
        return False


def _line_values(path: Path) -> Iterator[Any]:
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 text at byte {error.start} of it. Re-save it."
                ) from None
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path}:{number}: malformed JSON ({error}). "
                    "Every line must be one JSON value; fix or delete the line."
                ) from None


def _json_values(path: Path) -> Iterator[Any]:
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, dict) and any(key in content for key in (*FIELDS, "conversations")):
        content = [content]  # one record of JSON lines
    if not isinstance(content, list):
        raise DataError(
            f"{path}: holds {type(content).__name__} without 'annotations', not a list of "
            "captions. Use a list of strings, of objects with a 'caption', or COCO captions."
        )
    return iter(content)


def _column_of(path: Path, column: str | None) -> str:
    """Name of the text column of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error}). Write it again.") from None
    wanted = (column,) if column else FIELDS
    found = next((name for name in wanted if name in schema.names), None)
    if found is None:
        raise DataError(
            f"{path}: no column {' or '.join(wanted)}; it has {', '.join(schema.names) or 'none'}. "
            "Set source.column to the one with the captions."
        )
    kind = schema.field(found).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"{path}: column {found} holds {kind}, not text. Set source.column to a text column."
        )
    return found


def _parquet_values(path: Path, column: str | None) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = _column_of(path, column)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[name]):
                yield from batch.column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: damaged Parquet file ({error}). Write it again.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: column {name} is not UTF-8 text. Write it again.") from None


def _record(row_id: str, value: Any, column: str | None) -> Record | Rejected:
    text = value
    if isinstance(value, dict):
        text = _text_of(value, column)
    if text is None:
        known = ", ".join(str(key) for key in value)[:200] if isinstance(value, dict) else "null"
        return _rejected(row_id, "no caption in the record", f"it has: {known}")
    if not isinstance(text, str):
        return _rejected(row_id, "caption is not text", f"{type(text).__name__} {text!r:.200}")
    return Record(id=row_id, text=text)


def _text_of(row: dict[str, Any], column: str | None) -> Any:
    """The caption of an object, of whatever type; None where there is none."""
    if column:
        return row.get(column)
    if "blip_caption" in row:
        return row["blip_caption"]
    turns = row.get("conversations")
    if isinstance(turns, list):
        answers = (t.get("value") for t in turns if isinstance(t, dict) and t.get("from") == "gpt")
        return next(answers, None)
    return next((row[field] for field in FIELDS if row.get(field) is not None), None)


def _rejected(row_id: str, reason: str, detail: str) -> Rejected:
    return Rejected(id=row_id, stage="source", reason=reason, detail=detail)

"""Annotation files in JSON: reading them with errors that name the file and the item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgdiff.core.errors import DataError
from imgdiff.core.files import read_json

README_FILE = "README.txt"
PROCEDURAL_WORDS = "procedural benchmark"  # in the README of a folder that imgdiff drew
SEVERAL_KINDS = "several"
_SHOWN_CHARACTERS = 60


def is_procedural(folder: Path) -> bool:
    """Whether the folder says that imgdiff drew it."""
    readme = folder / README_FILE
    return readme.is_file() and PROCEDURAL_WORDS in readme.read_text("utf-8", errors="replace")


def read_records(path: Path, remedy: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(place, record) of a JSON list of objects; `place` is `file: item 3`, from 1."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: must be a JSON list with at least one item. {remedy}")
    for number, row in enumerate(rows, start=1):
        place = f"{path}: item {number}"
        if not isinstance(row, Mapping):
            raise DataError(f"{place} is {shown(row)}, must be a JSON object. {remedy}")
        yield place, row


def text_of(place: str, record: Mapping[str, Any], key: str, remedy: str) -> str:
    """A text that is not blank, or a whole number as text."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {key!r} is {shown(value)}, must be some text. {remedy}")
    return value.strip()


def texts_of(place: str, record: Mapping[str, Any], key: str, remedy: str) -> tuple[str, ...]:
    """A list of texts, blank ones and an empty list included."""
    values = record.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DataError(f"{place}: {key!r} is {shown(values)}, must be a list of texts. {remedy}")
    return tuple(values)


def shown(value: Any) -> str:
    """A value as a message shows it: JSON, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def first_existing(folders: Sequence[Path], what: str, remedy: str) -> Path:
    """The first of these paths that exists; DataError lists them all."""
    for path in folders:
        if path.exists():
            return path
    places = ", ".join(map(str, folders))
    raise DataError(f"no {what}: looked for {places}. {remedy}")


def check_images(paths: Iterable[Path], remedy: str) -> None:
    """DataError with the first missing file and how many are missing."""
    distinct = dict.fromkeys(paths)
    missing = [path for path in distinct if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(distinct)} images are missing, the first is {missing[0]}. "
            f"{remedy}"
        )


def read_kinds(path: Path, key: str) -> dict[str, str]:
    """Kind of difference by id, from JSON lines with `key` and `kind` or `kinds`.

    Empty where there is no such file, as in the published sets.
    """
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return {str(row[key]): _kind(row) for row in rows}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: a line is not JSON with {key!r} and 'kind' ({error}). Delete the file to "
            "score without kinds."
        ) from None


def _kind(row: Mapping[str, Any]) -> str:
    if "kind" in row:
        return str(row["kind"])
    kinds = row["kinds"]
    return str(kinds[0]) if len(kinds) == 1 else SEVERAL_KINDS

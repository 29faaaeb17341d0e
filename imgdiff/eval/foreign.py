"""Predictions that another system wrote: read from a file, matched with the items of a benchmark.

Formats: COCO results (a JSON list of `{"image_id", "caption"}`), a JSON object from id to text,
JSON lines, CSV. An id may be a number or a text, and may carry the suffix of an image file.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.errors import DataError
from imgdiff.core.files import read_json
from imgdiff.eval.annotations import shown

ID_KEYS = ("image_id", "img_id", "uid", "question_id", "index", "Index", "id")
# `response` first: MMVP's own script writes the model's words there and the right one in `answer`.
TEXT_KEYS = ("response", "caption", "prediction", "answer", "text")
REMEDY = (
    "Write COCO results (a JSON list of objects with 'image_id' and 'caption'), a JSON object from "
    "id to text, JSON lines, or a CSV with such columns."
)
_SUFFIX = re.compile(r"\.(?:png|jpe?g|gif)$", re.IGNORECASE)
_SHOWN_IDS = 3
_MAX_CELL = 2**27  # characters: csv refuses longer cells; its own limit is below a long answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One line of the file: where it stands, whom it is about, and the words."""

    place: str
    subject: str
    text: str


def read_predictions(path: Path) -> list[Prediction]:
    """All predictions in file order. DataError names the file, the item and the rule."""
    if not path.is_file():
        what = "is a folder, must be a file" if path.is_dir() else "no such file"
        raise DataError(f"predictions={path}: {what}. {REMEDY}")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        records = list(_csv_rows(path))
    elif suffix in (".jsonl", ".ndjson"):
        records = list(_json_lines(path))
    else:
        records = list(_json_items(path))
    if not records:
        raise DataError(f"{path}: no prediction in it. {REMEDY}")
    return [_prediction(place, record) for place, record in records]


def matched(
    path: Path,
    predictions: Sequence[Prediction],
    subjects: Sequence[str],
    *,
    is_partial: bool,
    other_splits: Mapping[str, frozenset[str]],
    unscored: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Text by subject; every subject has one, unless `is_partial` allows that some have none.

    What the file says about `unscored` subjects (they have no reference) is not used.

    DataError for two predictions of one subject, for a subject that is unknown (naming the split
    that knows it), and for missing ones.
    """
    known = set(subjects)
    by_subject: dict[str, str] = {}
    for item in predictions:
        subject = item.subject if item.subject in known else _SUFFIX.sub("", item.subject)
        if subject in unscored - known:
            continue
        if subject not in known:
            raise DataError(_unknown(item, predictions, known, other_splits))
        if subject in by_subject:
            raise DataError(
                f"{item.place}: a second prediction for {subject!r}. One item has one prediction; "
                "remove the others."
            )
        by_subject[subject] = item.text
    missing = [subject for subject in dict.fromkeys(subjects) if subject not in by_subject]
    if missing and not is_partial:
        raise DataError(
            f"{path}: {len(missing)} of {len(known)} items have no prediction: "
            f"{_some(missing)}. Add them (an empty text counts as an answer), or set partial=true: "
            "the scores then cover fewer items than published ones, and say so."
        )
    return by_subject


def _prediction(place: str, record: Mapping[str, Any]) -> Prediction:
    keys = [key for key in ID_KEYS if key in record]
    texts = [key for key in TEXT_KEYS if key in record]
    for found, names, what in ((keys, ID_KEYS, "id"), (texts, TEXT_KEYS, "text")):
        if not found:
            raise DataError(
                f"{place}: no {what} (one of {', '.join(names)}); found "
                f"{', '.join(map(str, record)) or 'nothing'}. {REMEDY}"
            )
    subject, text = record[keys[0]], record[texts[0]]
    if isinstance(text, list) and len(text) == 1:  # COCO tools keep captions in lists of one
        text = text[0]
    if isinstance(subject, bool) or not isinstance(subject, (str, int)) or subject == "":
        raise DataError(
            f"{place}: {keys[0]} is {shown(subject)}, must be a text or whole number. "
            "Write the id as the annotations have it."
        )
    if not isinstance(text, str):
        raise DataError(f"{place}: {texts[0]} is {shown(text)}, must be one text. {REMEDY}")
    return Prediction(place=place, subject=str(subject).strip(), text=text)


def _json_items(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    whole = read_json(path, refuse_doubled_keys=True)
    if isinstance(whole, Mapping):
        for key, text in whole.items():
            yield f"{path}: {key!r}", {"id": key, "text": text}
    elif isinstance(whole, list):
        for number, record in enumerate(whole, start=1):
            yield f"{path}: item {number}", _object(f"{path}: item {number}", record)
    else:
        raise DataError(f"{path}: is {shown(whole)}, must be a JSON list or object. {REMEDY}")


def _json_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        # Split at \n alone: a caption may hold U+2028, which splitlines() takes for a line's end.
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}. Re-save it.") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: malformed JSON ({error}). Fix the line.") from None
        yield f"{path}:{number}", _object(f"{path}:{number}", record)


def _object(place: str, record: object) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DataError(f"{place} is {shown(record)}, must be a JSON object. {REMEDY}")
    return record


def _csv_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    csv.field_size_limit(_MAX_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        f"{place}: has more or fewer cells than the header. Quote cells that hold "
                        "a comma or a line break."
                    )
                yield place, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error}). Re-save it.") from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({error.strerror or error}). Give a file that can.")


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for names, what in ((ID_KEYS, "id"), (TEXT_KEYS, "text")):
        if not set(names) & set(columns):
            raise DataError(
                f"{path}: no column of the {what} (one of {', '.join(names)}); found "
                f"{', '.join(columns) or 'nothing'}. Name the columns in the first line."
            )


def _unknown(
    item: Prediction,
    predictions: Sequence[Prediction],
    known: set[str],
    other_splits: Mapping[str, frozenset[str]],
) -> str:
    unknown = {_SUFFIX.sub("", p.subject) for p in predictions} - known
    where = Counter({split: len(unknown & ids) for split, ids in other_splits.items()})
    split, hits = max(where.items(), key=lambda pair: pair[1], default=("", 0))
    hint = (
        f" {hits} of them are ids of the split {split!r}: set benchmark.split={split} (or give its "
        "file as benchmark.annotations), or write the predictions of this one."
        if hits
        else " Remove them, or check which benchmark and split the file was made for."
    )
    return (
        f"{item.place}: {item.subject!r} is not an item of this benchmark; {len(unknown)} ids of "
        f"the file are not.{hint}"
    )


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(ids[:_SHOWN_IDS]) + more

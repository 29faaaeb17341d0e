"""Benchmarks in MMVP's layout: reading a folder, and the words of the question.

Layout (github.com/tsb0601/MMVP): `Questions.csv` with the columns Index, Question, Options
(`(a) X (b) Y` in one string) and Correct Answer (`(a)`), beside `MMVP Images/<Index>.jpg`. Rows
2k-1 and 2k are pair k: the same question about two images with opposite answers.
"""

from __future__ import annotations

import csv
import enum
import re
from collections.abc import Sequence
from pathlib import Path

from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import read_kinds
from imgdiff.eval.records import ChoiceItem, ChoiceItems

QUESTIONS_FILE = "Questions.csv"
IMAGES_FOLDER = "MMVP Images"
PAIRS_FILE = "pairs.jsonl"  # beside a procedural set: what differs
COLUMNS = ("Index", "Question", "Options", "Correct Answer")
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
PUBLISHED_QUESTIONS = 300
PUBLISHED_WORDS = ("279", "elderly person")  # in its question 279; a set of one's own has others
# Errors of the published key that were reported and checked against the images:
# tsb0601/MMVP issues 14 and 30; lmms-eval (tasks/mmvp/README.md) scores by these letters.
CORRECTIONS = {99: "b", 100: "a", 279: "b", 280: "a"}
_OPTIONS = re.compile(r"\(a\)(?P<a>.+?)\(b\)(?P<b>.+)", re.IGNORECASE | re.DOTALL)
REMEDY = (
    "Point benchmark.root at a copy of github.com/tsb0601/MMVP (Questions.csv beside the folder "
    "'MMVP Images'), or set it to null for the procedural set."
)


class PromptStyle(str, enum.Enum):
    """`letter`: asks for the option's letter. `free`: question and options alone, as in MMVP."""

    letter = "letter"
    free = "free"


def prompt_of(item: ChoiceItem, style: PromptStyle) -> str:
    """The words that the model reads after the image."""
    suffix = LETTER_SUFFIX if style is PromptStyle.letter else ""
    return f"{item.question} {item.options_text}{suffix}"


def load_mmvp(path: Path, images: Path, *, is_procedural: bool) -> ChoiceItems:
    """Read and check a table of questions. DataError names the file, the line and the rule.

    The folder `images` need not be there to score answers that exist already.
    """
    rows = [(line, row, _index(path, line, row)) for line, row in _rows(path)]
    rows.sort(key=lambda entry: entry[2])
    _check_indices(path, [index for _, _, index in rows])
    known, words = PUBLISHED_WORDS
    is_published = (
        not is_procedural
        and len(rows) == PUBLISHED_QUESTIONS
        and words in (rows[int(known) - 1][1]["Question"] or "").lower()
    )
    kinds = read_kinds(path.parent / PAIRS_FILE, "pair")
    items = tuple(
        _item(images, f"{path}:{line}", row, index, is_published=is_published, kinds=kinds)
        for line, row, index in rows
    )
    _check_pairs(path, items)
    return ChoiceItems(items=items, is_published=is_published)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells) of every row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: no column {missing[0]!r}; found {list(reader.fieldnames or ())}, "
                    f"needed {list(COLUMNS)}. {REMEDY}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. {REMEDY}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}). {REMEDY}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error}). {REMEDY}") from None
    if not rows:
        raise DataError(f"{path}: no question in it. {REMEDY}")
    return rows


def _index(path: Path, line: int, row: dict[str, str]) -> int:
    """The number of the question, from 1; more than nine digits are no number of a question."""
    text = (row["Index"] or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):  # noqa: PLR2004
        raise DataError(
            f"{path}:{line}: Index is {text!r}, must be a number from 1. Correct the row."
        )
    return int(text)


def _item(
    images: Path,
    place: str,
    row: dict[str, str],
    index: int,
    *,
    is_published: bool,
    kinds: dict[str, str],
) -> ChoiceItem:
    text, options, answer = ((row[name] or "").strip() for name in COLUMNS[1:])
    found = _OPTIONS.fullmatch(options)
    correct = answer.lower().strip("() .")
    for holds, name, value, rule in (
        (bool(text), "Question", text, "some text"),
        (found is not None, "Options", options, "'(a) X (b) Y'"),
        (correct in ("a", "b"), "Correct Answer", answer, "(a) or (b)"),
    ):
        if not holds:
            raise DataError(f"{place}: {name} is {value!r}, must be {rule}. Correct the row.")
    pair = str((index + 1) // 2)
    return ChoiceItem(
        id=str(index),
        pair=pair,
        question=text,
        options_text=options,
        options={key: words.strip() for key, words in (found.groupdict() if found else {}).items()},
        correct=correct,
        corrected=CORRECTIONS.get(index, correct) if is_published else correct,
        image=images / f"{index}.jpg",
        kind=kinds.get(pair, ""),
    )


def _check_indices(path: Path, found: Sequence[int]) -> None:
    """Indices are 1..2n, each once."""
    wanted = list(range(1, len(found) + len(found) % 2 + 1))
    if found != wanted:
        wrong = sorted(set(wanted) ^ set(found)) or [i for i in found if found.count(i) > 1]
        raise DataError(
            f"{path}: {len(found)} questions, but Index {wrong[0]} is missing, doubled or out of "
            "range. Each of 1, 2, ... 2n must occur once; restore the file."
        )


def _check_pairs(path: Path, items: Sequence[ChoiceItem]) -> None:
    """A pair asks one question and has opposite answers."""
    for first, second in zip(items[::2], items[1::2], strict=True):
        same = " ".join(first.question.split()).lower() == " ".join(second.question.split()).lower()
        if not same or first.correct == second.correct:
            raise DataError(
                f"{path}: Index {first.id} and {second.id} are a pair, but "
                + ("have the same answer" if same else "ask different questions")
                + ". A pair asks one question about two images with opposite answers."
            )

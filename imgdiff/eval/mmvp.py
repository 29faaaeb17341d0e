"""Benchmarks in MMVP's layout: reading a folder, and the words of the question.

Layout (github.com/tsb0601/MMVP): `Questions.csv` with the columns Index, Question, Options
(`(a) X (b) Y` in one string) and Correct Answer (`(a)`), beside `MMVP Images/<Index>.jpg`. Rows
2k-1 and 2k are pair k: the same question about two images with opposite answers.
"""

from __future__ import annotations

import csv
import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgdiff.core.errors import DataError

QUESTIONS_FILE = "Questions.csv"
IMAGES_FOLDER = "MMVP Images"
PAIRS_FILE = "pairs.jsonl"
README_FILE = "README.txt"
PROCEDURAL_WORDS = "procedural benchmark"  # in the README of a folder that is not MMVP
COLUMNS = ("Index", "Question", "Options", "Correct Answer")
LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
_OPTIONS = re.compile(r"\(a\)(?P<a>.+?)\(b\)(?P<b>.+)", re.IGNORECASE | re.DOTALL)
_REMEDY = "Point benchmark.root at a copy of github.com/tsb0601/MMVP, or set it to null."


class PromptStyle(str, enum.Enum):
    """`letter`: asks for the option's letter. `free`: question and options alone, as in MMVP."""

    letter = "letter"
    free = "free"


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One row: `index` from 1, options by lower-case letter, the image's path."""

    index: int
    text: str
    options_text: str
    options: Mapping[str, str]
    correct: str
    image: Path

    @property
    def pair(self) -> int:
        """The pair, from 1: indices 2k-1 and 2k belong to pair k."""
        return (self.index + 1) // 2

    def prompt(self, style: PromptStyle) -> str:
        """The words that the model reads after the image."""
        suffix = LETTER_SUFFIX if style is PromptStyle.letter else ""
        return f"{self.text} {self.options_text}{suffix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """All questions in index order; `kinds` by pair where the folder names them."""

    questions: tuple[Question, ...]
    kinds: Mapping[int, str]
    procedural: bool


def load_benchmark(root: Path) -> Benchmark:
    """Read and check a folder in MMVP's layout. DataError names the file, the line and the rule."""
    path = root / QUESTIONS_FILE
    rows = _rows(path)
    questions = sorted((_question(root, path, *row) for row in rows), key=lambda q: q.index)
    _check_pairs(path, questions)
    _check_images(root, questions)
    return Benchmark(
        questions=tuple(questions), kinds=_kinds(root / PAIRS_FILE), procedural=is_procedural(root)
    )


def is_procedural(root: Path) -> bool:
    """Whether the folder says that imgdiff drew it."""
    readme = root / README_FILE
    return readme.is_file() and PROCEDURAL_WORDS in readme.read_text("utf-8", errors="replace")


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, cells) of every row that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: no column {missing[0]!r}; found {list(reader.fieldnames or ())}, "
                    f"needed {list(COLUMNS)}. {_REMEDY}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. {_REMEDY}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error}). {_REMEDY}") from None
    if not rows:
        raise DataError(f"{path}: no question in it. {_REMEDY}")
    return rows


def _question(root: Path, path: Path, line: int, row: dict[str, str]) -> Question:
    index, text, options, answer = ((row[name] or "").strip() for name in COLUMNS)
    found = _OPTIONS.fullmatch(options)
    correct = answer.lower().strip("() .")
    for holds, name, value, rule in (
        (
            index.isascii() and index.isdigit() and int(index) >= 1,
            "Index",
            index,
            "a number from 1",
        ),
        (bool(text), "Question", text, "some text"),
        (found is not None, "Options", options, "'(a) X (b) Y'"),
        (correct in ("a", "b"), "Correct Answer", answer, "(a) or (b)"),
    ):
        if not holds:
            raise DataError(f"{path}:{line}: {name} is {value!r}, must be {rule}. Correct the row.")
    texts = found.groupdict() if found else {}
    return Question(
        index=int(index),
        text=text,
        options_text=options,
        options={letter: words.strip() for letter, words in texts.items()},
        correct=correct,
        image=root / IMAGES_FOLDER / f"{int(index)}.jpg",
    )


def _check_pairs(path: Path, questions: Sequence[Question]) -> None:
    """Indices are 1..2n, each once; a pair asks one question and has opposite answers."""
    found = [question.index for question in questions]
    wanted = list(range(1, len(found) + len(found) % 2 + 1))
    if found != wanted:
        wrong = sorted(set(wanted) ^ set(found)) or [i for i in set(found) if found.count(i) > 1]
        raise DataError(
            f"{path}: {len(found)} questions, but Index {wrong[0]} is missing, doubled or out of "
            "range. Each of 1, 2, ... 2n must occur once; restore the file."
        )
    for first, second in zip(questions[::2], questions[1::2], strict=True):
        same = " ".join(first.text.split()).lower() == " ".join(second.text.split()).lower()
        if not same or first.correct == second.correct:
            raise DataError(
                f"{path}: Index {first.index} and {second.index} are a pair, but "
                + ("have the same answer" if same else "ask different questions")
                + ". A pair asks one question about two images with opposite answers."
            )


def _check_images(root: Path, questions: Sequence[Question]) -> None:
    missing = [question.image.name for question in questions if not question.image.is_file()]
    if missing:
        raise DataError(
            f"{root / IMAGES_FOLDER}: {len(missing)} of {len(questions)} images are missing, the "
            f"first is {missing[0]}. Copy the folder again."
        )


def _kinds(path: Path) -> dict[int, str]:
    """Kind of difference by pair; empty where there is no pairs.jsonl (as in the real MMVP)."""
    if not path.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        return {int(row["pair"]): str(row["kind"]) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: a line is not JSON with 'pair' and 'kind' ({error}). Delete the file to "
            "score without kinds."
        ) from None

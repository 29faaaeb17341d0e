"""predictions.jsonl: one line per answered question, appended as answers come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imgdiff.core.files import not_written, write_text
from imgdiff.core.identity import fingerprint, image_id
from imgdiff.core.images import open_rgb
from imgdiff.eval.answers import choice_letter
from imgdiff.eval.mmvp import Benchmark, PromptStyle


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One answer. `key` names the model, the pixels and the words that it saw."""

    key: str
    index: int
    pair: int
    kind: str  # of difference; empty where the benchmark does not say
    prompt: str
    answer: str
    chosen: str | None
    correct: str


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The questions of one model on one benchmark, each with its key."""

    benchmark: Benchmark
    style: PromptStyle
    keys: tuple[str, ...]

    def prediction(self, number: int, answer: str) -> Prediction:
        """The answer to question `number` (from 0), read by `choice_letter`."""
        question = self.benchmark.questions[number]
        return Prediction(
            key=self.keys[number],
            index=question.index,
            pair=question.pair,
            kind=self.benchmark.kinds.get(question.pair, ""),
            prompt=question.prompt(self.style),
            answer=answer,
            chosen=choice_letter(answer, question.options),
            correct=question.correct,
        )


def sheet_for(benchmark: Benchmark, style: PromptStyle, identity: str) -> Sheet:
    """The sheet of the model with this identity; reads every image once (DataError if damaged)."""
    keys = tuple(
        fingerprint(identity, image_id(open_rgb(question.image)), question.prompt(style))
        for question in benchmark.questions
    )
    return Sheet(benchmark=benchmark, style=style, keys=keys)


def read_answers(path: Path) -> dict[str, str]:
    """Answer by key; empty without a file. A line that a killed run left half is skipped."""
    if not path.is_file():
        return {}
    answers: dict[str, str] = {}
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("answer"), str):
            answers[str(row.get("key"))] = row["answer"]
    return answers


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Replace the file, atomically."""
    write_text(path, "".join(map(_line, predictions)))


def append_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Add lines to the file; StoreError where the disk is full."""
    try:
        with path.open("a", encoding="utf-8") as handle:
            handle.writelines(map(_line, predictions))
    except OSError as error:
        raise not_written(path, error) from error


def _line(prediction: Prediction) -> str:
    return json.dumps(asdict(prediction), ensure_ascii=False) + "\n"

"""The folder of an evaluation: who owns it, and its files written and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.files import read_json, write_json, write_text
from imgdiff.eval.records import Answer, CaptionAnswer, ChoiceAnswer, Run

RUN_FILE = "run.json"  # what is evaluated in this folder
SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.jsonl"  # one answer a line, in the order of the benchmark
STATISTICS_FILE = "statistics.npz"  # of captions: what comparing two runs needs


def check_owner(output: Path, manifest: Mapping[str, Any], *, overwrite: bool) -> None:
    """ConfigError where this folder holds something else than what `manifest` says."""
    path = output / RUN_FILE
    held = read_json(path) if path.exists() else manifest
    same = isinstance(held, Mapping) and held.get("questions") == manifest["questions"]
    if same or overwrite:
        return
    what = (
        f"the evaluation of {held['label']}, made with"
        if isinstance(held, Mapping) and "questions" in held and "label" in held
        else "a run of"
    )
    raise ConfigError(
        f"output_dir={output}: holds {what} another model, benchmark, prompt or command. "
        "Choose another output_dir, or overwrite=true."
    )


def write_run(run: Run, manifest: Mapping[str, Any]) -> None:
    """Write what is evaluated here, its answers and, last, its scores."""
    (run.folder / SCORES_FILE).unlink(missing_ok=True)  # of an earlier run; a crash leaves none
    write_json(run.folder / RUN_FILE, manifest)
    write_answers(run.folder / PREDICTIONS_FILE, run.answers)
    write_json(run.folder / SCORES_FILE, run.scores)


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Replace the file, atomically."""
    lines = (json.dumps(asdict(answer), ensure_ascii=False) + "\n" for answer in answers)
    write_text(path, "".join(lines).encode("utf-8", "replace").decode("utf-8"))


def read_run(folder: Path) -> Run:
    """A finished evaluation; DataError where the folder holds none, or a damaged one."""
    if not (folder / SCORES_FILE).is_file():
        raise DataError(
            f"{folder}: no {SCORES_FILE} there, so no finished evaluation. Give the output_dir of "
            "a `python -m imgdiff.eval` run."
        )
    scores = read_json(folder / SCORES_FILE)
    path = folder / PREDICTIONS_FILE
    try:
        lines = path.read_text("utf-8").split("\n")
        answers = tuple(_answer(json.loads(line)) for line in lines if line)
        if not isinstance(scores, Mapping) or not {"label", "benchmark", "n"} <= set(scores):
            raise ValueError(f"{SCORES_FILE} lacks label, benchmark or n")
        if len(answers) != scores["n"]:
            raise ValueError(f"{len(answers)} answers, but {SCORES_FILE} says n={scores['n']}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not what an evaluation wrote ({error}). Run the evaluation again."
        ) from None
    return Run(folder=folder, scores=scores, answers=answers)


def _answer(row: dict[str, Any]) -> Answer:
    if "chosen" in row:
        return ChoiceAnswer(**_tuples(row, ChoiceAnswer))
    return CaptionAnswer(**_tuples(row, CaptionAnswer))


def _tuples(row: dict[str, Any], kind: Callable[..., Any]) -> dict[str, Any]:
    """The fields of `kind`, lists as tuples. Fields of a later version are not read."""
    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in row.items()
        if name in names
    }

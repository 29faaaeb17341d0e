"""The folder of an evaluation: who owns it, and its files written and read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.files import not_written, read_json, write_json, write_text
from imgdiff.eval.captions.statistics import CaptionStatistics, save_statistics
from imgdiff.eval.records import Answer, CaptionAnswer, ChoiceAnswer, Run

RUN_FILE = "run.json"  # what is evaluated in this folder
SCORES_FILE = "scores.json"
PREDICTIONS_FILE = "predictions.jsonl"  # one answer a line, in the order of the benchmark
STATISTICS_FILE = "statistics.npz"  # of captions: what comparing two runs needs
_PARTS: dict[str, type] = {  # of scores.json
    "benchmark": str,
    "procedural": bool,
    "protocol": str,
    "split": str,
    "label": str,
    "n": int,
    "scores": dict,
    "intervals": dict,
    "left_out": list,
}
_FIELDS: dict[str, type] = {  # of a line of predictions.jsonl, where it has them
    **dict.fromkeys(("id", "kind", "prompt", "answer", "pair", "question"), str),
    **dict.fromkeys(("correct", "corrected", "judged_by"), str),
    **dict.fromkeys(("images", "references"), list),
    **dict.fromkeys(("options", "scores"), dict),
}
_SHOWN_CHARACTERS = 60


def check_owner(output: Path, manifest: Mapping[str, Any], *, overwrite: bool) -> None:
    """ConfigError where this folder holds something else than what `manifest` says.

    Also where it can be no folder, so that this is told before a model is asked for hours.
    """
    _check_folder(output)
    held = _held(output / RUN_FILE, manifest)
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


def _check_folder(output: Path) -> None:
    place = next(path for path in (output, *output.parents) if os.path.lexists(path))
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"output_dir={output}: {place} is no folder that can be written into. Choose another "
            "output_dir."
        )


def _held(path: Path, otherwise: Mapping[str, Any]) -> Any:
    """What the folder says it holds; None where nobody can read that."""
    try:
        return read_json(path) if path.exists() else otherwise
    except DataError:
        return None


def write_run(
    run: Run, manifest: Mapping[str, Any], statistics: CaptionStatistics | None = None
) -> None:
    """Write what is evaluated here, its answers and, last, its scores.

    Scores and statistics of an earlier run go first, so that a crash leaves no mixture.
    """
    for name in (SCORES_FILE, STATISTICS_FILE):
        try:
            (run.folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise not_written(run.folder / name, error) from error
    write_json(run.folder / RUN_FILE, manifest)
    if statistics is not None:
        save_statistics(run.folder / STATISTICS_FILE, statistics)
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
        _check_scores(scores)
        if len(answers) != scores["n"]:
            raise ValueError(f"{len(answers)} answers, but {SCORES_FILE} says n={scores['n']}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not what an evaluation wrote ({error}). Run the evaluation again."
        ) from None
    return Run(folder=folder, scores=scores, answers=answers)


def _check_scores(scores: Any) -> None:
    """ValueError where a part that every scores.json has is missing or of another kind."""
    held = scores if isinstance(scores, Mapping) else {}
    for key, kind in _PARTS.items():
        if not isinstance(held.get(key), kind):
            raise ValueError(f"{SCORES_FILE} has no {key!r}, or not as a {kind.__name__}")
    if not all(isinstance(entry, Mapping) for entry in held["left_out"]):
        raise ValueError(f"{SCORES_FILE} names items that are left out without a reason")


def _answer(row: Any) -> Answer:
    if not isinstance(row, dict) or any(
        not isinstance(row.get(name, kind()), kind) for name, kind in _FIELDS.items()
    ):
        raise ValueError(f"a line is no answer: {str(row)[:_SHOWN_CHARACTERS]}")
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

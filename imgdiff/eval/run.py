"""One evaluation: ask every question that is not answered yet, then score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgdiff.backends.protocols import Chat
from imgdiff.backends.world_data import benchmark_folder
from imgdiff.core.console import meter, say, show_table
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import read_json, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import open_rgb
from imgdiff.eval.config import EvalConfig, MmvpConfig
from imgdiff.eval.mmvp import Benchmark, load_benchmark
from imgdiff.eval.predictions import (
    Prediction,
    Sheet,
    append_predictions,
    read_answers,
    sheet_for,
    write_predictions,
)
from imgdiff.eval.scores import Answered, Share, pair_scores, scores_by_kind

PREDICTIONS_FILE = "predictions.jsonl"
SCORES_FILE = "scores.json"
RUN_FILE = "run.json"  # what is evaluated in this folder
ASKED_AT_ONCE = 64  # questions between two writes; a killed run loses at most these


def run(config: EvalConfig) -> dict[str, Any]:
    """Evaluate and return what scores.json holds; questions answered before are not asked again.

    ConfigError where `output_dir` holds another model's or benchmark's evaluation.
    """
    benchmark = load_benchmark(_folder(config))
    chat = config.model.build()
    output = Path(config.output_dir)
    sheet = sheet_for(benchmark, config.benchmark.prompt, chat.identity)
    _claim(output, sheet, config)
    predictions = _answer(sheet, chat, output / PREDICTIONS_FILE)
    scores = _scores(benchmark, config, chat.identity, predictions)
    write_json(output / SCORES_FILE, scores)
    _report(scores, output)
    return scores


def _folder(config: EvalConfig) -> Path:
    benchmark = config.benchmark
    if benchmark.root is not None:
        return Path(benchmark.root).expanduser()
    return benchmark_folder(Path(config.cache_dir), benchmark.pairs, benchmark.seed)


def _claim(output: Path, sheet: Sheet, config: EvalConfig) -> None:
    """Write what is evaluated here; refuse a folder that says otherwise."""
    manifest = output / RUN_FILE
    wanted = {"questions": fingerprint(sheet.keys), "model": config.model.path}
    held = read_json(manifest) if manifest.exists() else wanted
    if held.get("questions") != wanted["questions"] and not config.overwrite:
        what = (
            f"the evaluation of {held['model']}, made with" if "questions" in held else "a run of"
        )
        raise ConfigError(
            f"output_dir={output}: holds {what} another model, benchmark, prompt or command. "
            "Choose another output_dir, or overwrite=true."
        )
    write_json(manifest, wanted)


def _answer(sheet: Sheet, chat: Chat, path: Path) -> list[Prediction]:
    """All predictions in index order, which `path` then holds and nothing else."""
    known = read_answers(path)
    done = {
        number: sheet.prediction(number, known[key])
        for number, key in enumerate(sheet.keys)
        if key in known
    }
    missing = [number for number in range(len(sheet.keys)) if number not in done]
    if done:
        say(f"{path}: {len(done)} of {len(sheet.keys)} answers are there already")
    write_predictions(path, list(done.values()))
    for answered in _ask(sheet, chat, missing):
        append_predictions(path, answered.values())
        done |= answered
    predictions = [done[number] for number in range(len(sheet.keys))]
    write_predictions(path, predictions)
    return predictions


def _ask(sheet: Sheet, chat: Chat, numbers: Sequence[int]) -> Iterator[dict[int, Prediction]]:
    """Predictions by number, ASKED_AT_ONCE at a time. Loads the model only if there is work."""
    if not numbers:
        return
    with chat, meter(len(numbers), "questions") as bar:
        for start in range(0, len(numbers), ASKED_AT_ONCE):
            part = numbers[start : start + ASKED_AT_ONCE]
            questions = [sheet.benchmark.questions[number] for number in part]
            images = [open_rgb(question.image) for question in questions]
            answers = chat.chat(images, [question.prompt(sheet.style) for question in questions])
            yield {n: sheet.prediction(n, text) for n, text in zip(part, answers, strict=True)}
            bar.advance(len(part))


def _scores(
    benchmark: Benchmark, config: EvalConfig, identity: str, predictions: Sequence[Prediction]
) -> dict[str, Any]:
    """What scores.json holds; every score is a fraction in [0, 1]."""
    answers = [Answered(pair=p.pair, chosen=p.chosen, correct=p.correct) for p in predictions]
    overall = pair_scores(answers)
    by_kind = scores_by_kind(answers, benchmark.kinds)
    chosen = Counter(item.chosen or "unparsed" for item in predictions)
    return {
        "benchmark": "mmvp_procedural" if benchmark.procedural else "mmvp",
        "procedural": benchmark.procedural,
        "protocol": _protocol(config.benchmark, benchmark),
        "model": {"path": config.model.path, "identity": identity},
        "n": len(predictions),
        "pairs": len(predictions) // 2,
        "scores": _values(overall),
        "intervals": {name: _interval(share) for name, share in overall.items()},
        "by_kind": {
            kind: {"pairs": shares["pair_accuracy"].total, **_values(shares)}
            for kind, shares in by_kind.items()
        },
        "chosen": dict(sorted(chosen.items())),
    }


def _protocol(config: MmvpConfig, benchmark: Benchmark) -> dict[str, Any]:
    """How the numbers were made, for whoever compares them."""
    drawn = {"pairs": config.pairs, "seed": config.seed}
    return {
        "prompt": config.prompt.value,
        "decoding": "greedy",
        "image": "one image per question, padded to a square",
        "key": "original",
        "interval": "Wilson 95 %",
        "set": drawn if config.root is None else {"root": config.root},
        "note": "procedural set in MMVP's format, not MMVP" if benchmark.procedural else "MMVP",
    }


def _values(shares: Mapping[str, Share]) -> dict[str, float]:
    return {name: round(share.value, 4) for name, share in shares.items()}


def _interval(share: Share) -> dict[str, float]:
    low, high = share.interval()
    return {"low": round(low, 4), "high": round(high, 4)}


def _report(scores: Mapping[str, Any], output: Path) -> None:
    """The table at the end; percentages."""
    label = "procedural MMVP-format set (not MMVP)" if scores["procedural"] else "MMVP"
    rows: list[tuple[object, ...]] = []
    for name, value in scores["scores"].items():
        interval = scores["intervals"][name]
        spread = f"{100 * interval['low']:.1f} - {100 * interval['high']:.1f}"
        n = scores["pairs"] if name == "pair_accuracy" else scores["n"]
        rows.append((name.replace("_", " "), f"{100 * value:.1f}", spread, n))
    for kind, values in scores["by_kind"].items():
        value = f"{100 * values['pair_accuracy']:.1f}"
        rows.append((f"pair accuracy, {kind} differs", value, "", values["pairs"]))
    rows.append(("pair accuracy of independent guesses", "25.0", "", ""))
    show_table(label, ("%", "score", "95 % interval", "n"), rows)
    say(f"{output / SCORES_FILE}")

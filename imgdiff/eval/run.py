"""One evaluation: ask what is not answered yet, or read a file of predictions; then score."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgdiff.backends.configs import VlmConfig
from imgdiff.core.console import say
from imgdiff.core.identity import fingerprint
from imgdiff.eval.asking import AnswerStore, Asker
from imgdiff.eval.caption_run import ask_captions, caption_scores, score
from imgdiff.eval.captions.statistics import CaptionStatistics
from imgdiff.eval.choice_run import ask_choices, choice_answers, choice_scores, judge_answers
from imgdiff.eval.config import CaptionConfig, EvalConfig, MmvpConfig, SpotConfig
from imgdiff.eval.data import CaptionData, ChoiceData, caption_data, choice_data
from imgdiff.eval.foreign import matched, read_predictions
from imgdiff.eval.records import Answer, LeftOut, Run
from imgdiff.eval.run_files import (
    SCORES_FILE,
    check_owner,
    write_run,
)
from imgdiff.eval.summary import show_summary

ANSWERS_FOLDER = "answers"  # in cache_dir: of every model that was asked
PER_UID = "per_uid"
REPORT_FILE = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """Who answers: a model (with its settings) or a file."""

    identity: str
    model: VlmConfig | None


def run(config: EvalConfig) -> dict[str, Any]:
    """Evaluate and return what scores.json holds; questions answered before are not asked again.

    ConfigError where `output_dir` holds another model's or benchmark's evaluation.
    """
    source = _source(config)
    if isinstance(config.benchmark, MmvpConfig):
        finished = _choices(config, source)
    else:
        finished = _captions(config, source)
    _report(config, finished)
    return dict(finished.scores)


def _source(config: EvalConfig) -> _Source:
    if config.predictions is not None:
        path = Path(config.predictions).expanduser()
        content = path.read_bytes() if path.is_file() else b""
        return _Source(identity=f"file:{hashlib.sha256(content).hexdigest()}", model=None)
    asked = config.model.asked()
    return _Source(identity=asked.identity(), model=asked)


def _asker(config: EvalConfig, model: VlmConfig, identity: str) -> Asker:
    store = AnswerStore(Path(config.cache_dir) / ANSWERS_FOLDER, identity)
    return Asker(config=model, store=store, processes=config.asking_processes)


def _choices(config: EvalConfig, source: _Source) -> Run:
    benchmark = config.benchmark
    data = choice_data(benchmark, Path(config.cache_dir))
    items = data.content.items
    words = [(item.id, item.question, item.options_text, item.correct) for item in items]
    texts, prompts = _foreign(config, [item.id for item in items], {}), dict[str, str]()
    manifest = _manifest(config, source, words)
    if source.model is not None:
        texts, prompts = ask_choices(config, data, _asker(config, source.model, source.identity))
    read, left_out = choice_answers(config, data, texts, prompts)
    answers, verdicts = judge_answers(config, read, Path(config.cache_dir) / ANSWERS_FOLDER)
    judge = {**config.judge.protocol(), "outcomes": verdicts}
    scores = {
        **_head(config, data, benchmark.protocol, "test"),
        **choice_scores(data, answers),
        **({"judge": judge} if verdicts else {}),
        **_tail(config, source, data, left_out),
    }
    return _written(config, scores, answers, manifest)


def _captions(config: EvalConfig, source: _Source) -> Run:
    benchmark = config.benchmark
    data = caption_data(benchmark, Path(config.cache_dir), needs_images=config.predictions is None)
    items = data.content.items
    subjects = [item.subject for item in items]
    texts = _foreign(config, subjects, data.other_splits, data.content.unscored)
    manifest = _manifest(config, source, [(item.id, item.references) for item in items])
    if source.model is not None:
        texts = ask_captions(config, data, _asker(config, source.model, source.identity))
    captioned = score(config, data, texts)
    protocol = benchmark.protocol.value if isinstance(benchmark, SpotConfig) else PER_UID
    scores = {
        **_head(config, data, protocol, data.split),
        **caption_scores(captioned),
        **_tail(config, source, data, captioned.left_out),
    }
    return _written(config, scores, captioned.answers, manifest, captioned.scored.statistics)


def _written(
    config: EvalConfig,
    scores: dict[str, Any],
    answers: Sequence[Answer],
    manifest: Mapping[str, Any],
    statistics: CaptionStatistics | None = None,
) -> Run:
    """The evaluation in its folder, which another run may have claimed while this one asked."""
    finished = Run(folder=Path(config.output_dir), scores=scores, answers=tuple(answers))
    check_owner(finished.folder, manifest, overwrite=config.overwrite)
    write_run(finished, manifest, statistics)
    return finished


def _foreign(
    config: EvalConfig,
    subjects: Sequence[str],
    other_splits: Mapping[str, frozenset[str]],
    unscored: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Text by subject from the file of predictions; nothing where a model is asked."""
    if config.predictions is None:
        return {}
    path = Path(config.predictions).expanduser()
    return matched(
        path,
        read_predictions(path),
        subjects,
        is_partial=config.partial,
        other_splits=other_splits,
        unscored=unscored,
    )


def _manifest(config: EvalConfig, source: _Source, items: Sequence[Any]) -> dict[str, Any]:
    """What is evaluated; refuses a folder that holds something else."""
    asked = _asked(config.benchmark)
    limit = config.max_new_tokens if source.model is not None else None
    questions = fingerprint(source.identity, asked, items, config.judge.protocol(), limit)
    manifest = {"questions": questions, "label": config.shown_label}
    check_owner(Path(config.output_dir), manifest, overwrite=config.overwrite)
    return manifest


def _asked(benchmark: Any) -> dict[str, Any]:
    """The settings of the benchmark without the places of its files."""
    places = ("root", "annotations", "images")
    return {key: value for key, value in asdict(benchmark).items() if key not in places}


def _head(
    config: EvalConfig, data: ChoiceData | CaptionData, protocol: str, split: str
) -> dict[str, Any]:
    """How scores.json begins."""
    name = config.benchmark.NAME
    return {
        "benchmark": f"{name}_procedural" if data.procedural else name,
        "procedural": data.procedural,
        "protocol": protocol,
        "split": split,
        "label": config.shown_label,
    }


def _tail(
    config: EvalConfig,
    source: _Source,
    data: ChoiceData | CaptionData,
    left_out: Sequence[LeftOut],
) -> dict[str, Any]:
    """How scores.json ends: what is not scored, and how the numbers were made."""
    benchmark, model = config.benchmark, config.model
    settings: dict[str, Any] = {"answered_by": source.identity, "data": str(data.place)}
    if source.model is not None:
        settings |= {
            "model": model.path,
            "template": model.template.value,
            "max_new_tokens": config.max_new_tokens,
            "decoding": "greedy",
        }
    settings |= {key: getattr(value, "value", value) for key, value in _asked(benchmark).items()}
    if isinstance(data, CaptionData):
        settings["split"] = data.split  # of the file, whatever the setting says
    if isinstance(benchmark, CaptionConfig):
        settings["interval"] = f"bootstrap 95 %, {benchmark.resamples} resamples"
        settings["seed_of_bootstrap"] = config.seed
    else:
        settings["interval"] = "Wilson 95 %"
    if not data.procedural:
        for key in ("pairs", "seed"):
            settings.pop(key)
    return {
        "left_out": [
            {"reason": entry.reason, "count": len(entry.ids), "ids": list(entry.ids)}
            for entry in left_out
        ],
        "settings": settings,
    }


def _report(config: EvalConfig, finished: Run) -> None:
    from imgdiff.eval.report.html import write_report
    from imgdiff.eval.report.tables import write_tables

    report = finished.folder / REPORT_FILE
    write_report(report, [finished], thumbnail_px=config.report.image_px)
    tables = write_tables(finished.folder, [finished])
    show_summary(finished)
    say(f"{report}, {SCORES_FILE}, {', '.join(path.name for path in tables)}")

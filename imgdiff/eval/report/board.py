"""What scores.json holds, as records: the one place where the report reads that mapping."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval.records import ChoiceAnswer, Run

TITLES = {
    "mmvp": "MMVP",
    "spot_the_diff": "Spot-the-Diff",
    "image_edit_request": "Image-Edit-Request",
}
PROCEDURAL_SUFFIX = "_procedural"


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """How a score is called and shown: times `factor`, with `digits` decimals."""

    name: str
    title: str
    factor: float = 100.0
    digits: int = 1
    higher_is_better: bool = True


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="pair_accuracy", title="Pair accuracy"),
        Metric(name="accuracy", title="Accuracy"),
        Metric(name="unparsed", title="Unparsed", higher_is_better=False),
        Metric(name="bleu_1", title="BLEU-1"),
        Metric(name="bleu_2", title="BLEU-2"),
        Metric(name="bleu_3", title="BLEU-3"),
        Metric(name="bleu_4", title="BLEU-4"),
        Metric(name="meteor", title="METEOR"),
        Metric(name="cider_d", title="CIDEr-D"),
        Metric(name="rouge_l", title="ROUGE-L"),
    )
}


def metric_of(name: str) -> Metric:
    """The metric of that name; one that is not known is shown as it is, with three decimals."""
    return METRICS.get(name) or Metric(name=name, title=name, factor=1.0, digits=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A value as it is shown (`Metric.factor` applied) with its 95 % interval, where it has one.

    `value` is None where the score is unavailable; `why` then says why.
    """

    metric: Metric
    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Second run minus first, on the scale of scores.json, with its 95 % interval if known.

    `within_noise` is the verdict of a test where there is one, else the interval tells.
    """

    value: float
    low: float | None = None
    high: float | None = None
    within_noise: bool | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOutItems:
    """How many items are not scored, and why."""

    reason: str
    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """The scores of one run. `benchmark` is without the suffix of procedural sets."""

    label: str
    benchmark: str
    procedural: bool
    protocol: str
    split: str
    n: int
    pairs: int | None
    scores: tuple[Score, ...]
    corrected: tuple[Score, ...]  # by the corrected answer key; empty where there is none
    held: Mapping[str, Any]  # all of scores.json

    @property
    def title(self) -> str:
        """The name on the page; a procedural set never bears the benchmark's name alone."""
        name = TITLES.get(self.benchmark, self.benchmark)
        return f"Procedural set in the format of {name}" if self.procedural else name

    def score(self, name: str) -> Score | None:
        """The score of that name, if the run has it."""
        return next((score for score in self.scores if score.metric.name == name), None)

    def part(self, key: str) -> Mapping[str, Any]:
        """An object of scores.json, empty where there is none."""
        value = self.held.get(key)
        return value if isinstance(value, Mapping) else {}

    def left_out(self) -> tuple[LeftOutItems, ...]:
        """What scores.json says was not scored."""
        return tuple(
            LeftOutItems(
                reason=str(part["reason"]),
                count=int(part["count"]),
                ids=tuple(str(name) for name in part.get("ids", ())),
            )
            for part in self.held.get("left_out", ())
        )

    def unavailable(self) -> dict[str, str]:
        """Titles of scores that could not be computed, and why; a whole sentence or a few words."""
        return {
            score.metric.title: score.why.removeprefix(f"{score.metric.title} unavailable: ")
            for score in self.scores
            if score.why
        }


def boards_of(runs: Sequence[Run]) -> tuple[Board, ...]:
    """One or two boards of one benchmark.

    ConfigError for another number of runs; DataError for a scores.json that lacks a key or for
    runs of two benchmarks.
    """
    if len(runs) not in (1, 2):
        raise ConfigError(f"{len(runs)} runs: a report shows one run or compares two.")
    boards = tuple(map(_board, runs))
    names = [str(run.scores["benchmark"]) for run in runs]
    if len(set(names)) > 1:
        raise DataError(
            f"{runs[0].folder} holds {names[0]} and {runs[1].folder} holds {names[1]}: only runs "
            "of one benchmark can be compared. Choose two of the same."
        )
    return boards


def _board(run: Run) -> Board:
    held = run.scores
    missing = [key for key in ("benchmark", "protocol", "label", "n", "scores") if key not in held]
    if missing:
        raise DataError(
            f"{run.folder}/scores.json: no key {missing[0]!r}. Evaluate again with this version."
        )
    _check_ids(run)
    name = str(held["benchmark"])
    intervals, unavailable = held.get("intervals") or {}, held.get("unavailable") or {}
    corrected = held.get("corrected") or {}
    return Board(
        label=run.label,
        benchmark=name.removesuffix(PROCEDURAL_SUFFIX),
        procedural=bool(held.get("procedural")) or name.endswith(PROCEDURAL_SUFFIX),
        protocol=str(held["protocol"]),
        split=str(held.get("split") or ""),
        n=int(held["n"]),
        pairs=None if held.get("pairs") is None else int(held["pairs"]),
        scores=tuple(_scores(held["scores"], intervals, unavailable)),
        corrected=tuple(
            _scores(corrected.get("scores") or {}, corrected.get("intervals") or {}, {})
        ),
        held=held,
    )


def _check_ids(run: Run) -> None:
    """Each item is answered once."""
    seen: set[str] = set()
    for answer in run.answers:
        if answer.id in seen:
            raise DataError(f"{run.folder}: item {answer.id!r} is answered twice. Keep one answer.")
        seen.add(answer.id)


def _scores(
    values: Mapping[str, Any], intervals: Mapping[str, Any], unavailable: Mapping[str, Any]
) -> Iterator[Score]:
    """Known scores in the order of METRICS, then the others; an unavailable one has no value."""
    names = dict.fromkeys([*values, *unavailable])
    order = [name for name in METRICS if name in names]
    for name in [*order, *(name for name in names if name not in METRICS)]:
        metric, interval = metric_of(name), intervals.get(name) or {}
        value = _scaled(values.get(name), metric)
        why = str(unavailable.get(name, "")) if value is None else ""
        yield Score(
            metric=metric,
            value=value,
            low=_scaled(interval.get("low"), metric),
            high=_scaled(interval.get("high"), metric),
            why=why or ("not computed" if value is None else ""),
        )


def _scaled(value: Any, metric: Metric) -> float | None:
    """Times the metric's factor; None for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value) * metric.factor


def differences_of(
    boards: Sequence[Board], given: Mapping[str, Difference]
) -> dict[str, Difference]:
    """Second minus first by score, as shown. Those not given are plain differences, no interval."""
    if len(boards) != 2:  # noqa: PLR2004 - a difference is of two
        return {}
    found: dict[str, Difference] = {}
    for score in boards[1].scores:
        name, metric = score.metric.name, score.metric
        other = boards[0].score(name)
        if name in given:
            part = given[name]
            found[name] = Difference(
                value=part.value * metric.factor,
                low=_scaled(part.low, metric),
                high=_scaled(part.high, metric),
                within_noise=part.within_noise,
            )
        elif score.value is not None and other is not None and other.value is not None:
            found[name] = Difference(value=score.value - other.value)
    return found


def is_choice(run: Run) -> bool:
    """Whether the run answers questions with options (as MMVP does)."""
    return any(isinstance(answer, ChoiceAnswer) for answer in run.answers)

"""`python -m imgdiff.eval.compare RUN_A RUN_B`: differences of two evaluations, with intervals.

Both runs answered the same items of one benchmark. A difference is B minus A; it is within noise
where its 95 % interval holds 0 (for shares also where McNemar's test does not reject at 5 %).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say, show_table
from imgdiff.core.errors import ConfigError, DataError, ImgdiffError
from imgdiff.core.files import write_json
from imgdiff.eval.captions import bootstrap
from imgdiff.eval.captions.statistics import load_statistics
from imgdiff.eval.records import Answer, ChoiceAnswer, Run
from imgdiff.eval.report.board import Difference
from imgdiff.eval.report.html import write_report
from imgdiff.eval.run_files import STATISTICS_FILE, read_run
from imgdiff.eval.significance import compare, paired_table
from imgdiff.eval.summary import title_of

SAME_KEYS = ("benchmark", "protocol", "split")
EXIT_REFUSED = 2
LEAST_RESAMPLES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """One metric of two runs: B minus A, its 95 % interval and a two-sided p."""

    metric: str
    first: float
    second: float
    low: float
    high: float
    p: float
    test: str
    within_noise: bool

    @property
    def value(self) -> float:
        """B minus A."""
        return self.second - self.first


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Two runs beside each other; `unavailable` says why a metric is missing."""

    first: Run
    second: Run
    deltas: tuple[Delta, ...]
    unavailable: Mapping[str, str]


def compare_runs(
    first: Run, second: Run, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> Compared:
    """Differences of all metrics; DataError where the runs cannot be compared."""
    if resamples < LEAST_RESAMPLES:
        raise ConfigError(
            f"resamples={resamples}: must be at least {LEAST_RESAMPLES}; 2000 is usual"
        )
    if seed < 0:
        raise ConfigError(f"seed={seed}: must be 0 or more")
    _check_same(first, second)
    if all(isinstance(answer, ChoiceAnswer) for answer in first.answers):
        found = _choice_deltas(first, second)
        return Compared(first=first, second=second, deltas=tuple(found), unavailable={})
    statistics = [load_statistics(run.folder / STATISTICS_FILE) for run in (first, second)]
    compared = bootstrap.compare(statistics[0], statistics[1], resamples=resamples, seed=seed)
    return Compared(
        first=first,
        second=second,
        deltas=tuple(_resampled(name, item) for name, item in compared.differences.items()),
        unavailable=compared.unavailable,
    )


def _resampled(metric: str, item: bootstrap.Difference) -> Delta:
    return Delta(
        metric=metric,
        first=item.first,
        second=item.second,
        low=item.interval.low,
        high=item.interval.high,
        p=item.p,
        test="paired bootstrap",
        within_noise=item.within_noise,
    )


def _check_same(first: Run, second: Run) -> None:
    for key in SAME_KEYS:
        values = [run.scores.get(key) for run in (first, second)]
        if values[0] != values[1]:
            raise DataError(
                f"{first.folder} and {second.folder}: {key} is {values[0]!r} and {values[1]!r}. "
                "Only runs of one benchmark, split and protocol can be compared."
            )
    items = [{answer.id: _asked(answer) for answer in run.answers} for run in (first, second)]
    odd = sorted(key for key in items[0].keys() | items[1].keys() if _differs(key, *items))
    if odd:
        raise DataError(
            f"{first.folder} and {second.folder}: {len(odd)} items are in one of them only, or "
            f"are other ones; the first is {odd[0]!r}. A paired test needs the same items; score "
            "both on the same files."
        )


def _differs(key: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    return key not in first or key not in second or first[key] != second[key]


def _asked(answer: Answer) -> tuple[Any, ...]:
    """What makes an item this one and no other."""
    if isinstance(answer, ChoiceAnswer):
        return (answer.pair, answer.question, dict(answer.options), answer.correct)
    return answer.references


def _choice_deltas(first: Run, second: Run) -> list[Delta]:
    """Paired tests on pairs (the headline) and on single questions."""
    by_pair = [_right_pairs(run) for run in (first, second)]
    by_item = [{a.id: a.is_right for a in _choices(run)} for run in (first, second)]
    return [
        _paired("pair_accuracy", by_pair[0], by_pair[1]),
        _paired("accuracy", by_item[0], by_item[1]),
    ]


def _choices(run: Run) -> list[ChoiceAnswer]:
    return [answer for answer in run.answers if isinstance(answer, ChoiceAnswer)]


def _right_pairs(run: Run) -> dict[str, bool]:
    right: dict[str, bool] = {}
    for answer in _choices(run):
        right[answer.pair] = right.get(answer.pair, True) and answer.is_right
    return right


def _paired(metric: str, first: Mapping[str, bool], second: Mapping[str, bool]) -> Delta:
    result = compare(paired_table(first, second))
    return Delta(
        metric=metric,
        first=result.table.first.value,
        second=result.table.second.value,
        low=result.low,
        high=result.high,
        p=result.mcnemar.exact,
        test="exact McNemar, Newcombe's interval",
        within_noise=result.within_noise,
    )


def _intervals(compared: Compared) -> dict[str, Difference]:
    return {
        item.metric: Difference(
            value=item.value, low=item.low, high=item.high, within_noise=item.within_noise
        )
        for item in compared.deltas
    }


def show(compared: Compared) -> None:
    """The table; scores x 100."""
    first, second = compared.first, compared.second
    say(f"A: {first.label} ({first.folder})")
    say(f"B: {second.label} ({second.folder})")
    rows = [
        (
            item.metric.replace("_", " "),
            f"{100 * item.first:.1f}",
            f"{100 * item.second:.1f}",
            f"{100 * item.value:+.1f}",
            f"{100 * item.low:+.1f} .. {100 * item.high:+.1f}",
            f"{item.p:.3f}",
            _verdict(item),
        )
        for item in compared.deltas
    ]
    columns = ("x 100", "A", "B", "B - A", "95 % interval", "p", "")
    show_table(f"{title_of(first.scores)}, {first.scores['protocol']}", columns, rows)
    for why in compared.unavailable.values():
        say(why)


def _verdict(item: Delta) -> str:
    if item.within_noise:
        return "within noise"
    return "B is better" if item.value > 0 else "A is better"


def as_json(compared: Compared) -> dict[str, Any]:
    """What --json writes: fractions, B minus A."""
    first, second = compared.first, compared.second
    return {
        **{key: first.scores.get(key) for key in SAME_KEYS},
        "a": {"label": first.label, "folder": str(first.folder)},
        "b": {"label": second.label, "folder": str(second.folder)},
        "n": len(first.answers),
        "differences": {
            item.metric: {
                "a": item.first,
                "b": item.second,
                "difference": item.value,
                "low": item.low,
                "high": item.high,
                "p": item.p,
                "test": item.test,
                "within_noise": item.within_noise,
            }
            for item in compared.deltas
        },
        "unavailable": dict(compared.unavailable),
    }


def _arguments(values: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m imgdiff.eval.compare",
        description="Differences of two evaluations of the same items, with 95 % intervals.",
    )
    parser.add_argument("run_a", type=Path, help="output_dir of the first evaluation")
    parser.add_argument("run_b", type=Path, help="output_dir of the second one")
    parser.add_argument(
        "--resamples", type=int, default=bootstrap.RESAMPLES, help="of the bootstrap"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="also write the differences to this file")
    parser.add_argument("--report", type=Path, help="also write a page with both runs' answers")
    return parser.parse_args(values)


def main(values: Sequence[str] | None = None) -> None:
    """Print the comparison; what is refused ends with one message and exit code 2."""
    arguments = _arguments(values)
    try:
        first, second = read_run(arguments.run_a), read_run(arguments.run_b)
        compared = compare_runs(first, second, arguments.resamples, arguments.seed)
        show(compared)
        if arguments.json:
            write_json(arguments.json, as_json(compared))
        if arguments.report:
            write_report(arguments.report, [first, second], differences=_intervals(compared))
    except ImgdiffError as error:
        sys.stderr.write(f"imgdiff.eval.compare: {error}\n")
        sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()

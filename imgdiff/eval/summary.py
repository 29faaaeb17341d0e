"""What the terminal shows when an evaluation ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imgdiff.core.console import say, show_table
from imgdiff.eval.records import Run

NAMES = {
    "mmvp": "MMVP",
    "spot_the_diff": "Spot-the-Diff",
    "image_edit_request": "Image-Edit-Request",
}
GUESSED = 25.0  # %: two independent guesses among two options


def title_of(scores: Mapping[str, Any]) -> str:
    """The benchmark by its published name, or as a procedural set in its format."""
    name = NAMES[scores["benchmark"].removesuffix("_procedural")]
    return f"procedural {name}-format set (not {name})" if scores["procedural"] else name


def show_summary(run: Run) -> None:
    """A short table, percentages (CIDEr-D and the others x 100, as papers print them)."""
    scores = run.scores
    rows = list(_score_rows(scores)) + list(_kind_rows(scores))
    if "pairs" in scores:
        rows.append(("pair accuracy of independent guesses", f"{GUESSED:.1f}", "", ""))
    if "diagnostics" in scores:
        rows += list(_diagnostic_rows(scores["diagnostics"]))
    heading = f"{title_of(scores)}, {scores['protocol']}: {run.label}"
    show_table(heading, ("x 100", "score", "95 % interval", "n"), rows)
    for why in scores.get("unavailable", {}).values():
        say(why)
    for entry in scores["left_out"]:
        say(f"left out: {entry['count']} items, {entry['reason']}")


def _score_rows(scores: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for name, value in scores["scores"].items():
        if value is None:
            yield name, "-", "unavailable", ""
            continue
        interval = scores["intervals"][name]
        spread = f"{100 * interval['low']:.1f} - {100 * interval['high']:.1f}"
        n = scores["pairs"] if name == "pair_accuracy" else scores["n"]
        yield name.replace("_", " "), f"{100 * value:.1f}", spread, n
    if "corrected" in scores:
        value = scores["corrected"]["scores"]["pair_accuracy"]
        interval = scores["corrected"]["intervals"]["pair_accuracy"]
        spread = f"{100 * interval['low']:.1f} - {100 * interval['high']:.1f}"
        yield "pair accuracy, corrected key", f"{100 * value:.1f}", spread, scores["pairs"]


def _kind_rows(scores: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for kind, values in scores["by_kind"].items():
        if "pair_accuracy" in values:
            value = f"{100 * values['pair_accuracy']:.1f}"
            yield f"pair accuracy, {kind} differs", value, "", values["pairs"]
        else:
            value = f"{100 * values['mean_cider_d']:.1f}"
            yield f"mean cider d, {kind}", value, "", values["n"]


def _diagnostic_rows(found: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    yield "distinct captions", found["distinct_captions"], "", ""
    ratio = found["length_ratio"]
    yield "length ratio (1 is as long)", "-" if ratio is None else f"{ratio:.2f}", "", ""
    constant = found["constant_caption"]
    value = f"{100 * constant['scores']['cider_d']:.1f}"
    yield f"cider d of the constant {constant['caption']!r}", value, "", ""

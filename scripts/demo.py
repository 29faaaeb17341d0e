"""The whole job on the mini preset: synthesise, fine-tune without and with the data, evaluate.

Run by `make demo`. Everything is written below outputs/demo; running it again resumes. With
`--readme` its tables go into the README.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import runs

from imgdiff.core.console import say, show_table

OUTPUT = Path("outputs/demo")
PAIRS = 1_000
SEED = 0
FUNNEL = ("stage", "in", "out", "rejected")


def main() -> None:
    """Run the three commands and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    readme = parser.parse_args().readme
    clock = time.monotonic()
    synth = OUTPUT / "synth"
    runs.run(
        "synth",
        "source.split=train",
        f"source.limit={PAIRS}",
        f"seed={SEED}",
        f"output_dir={synth}",
    )
    scores = {"the base model": runs.evaluate("mini:llava", OUTPUT / "eval_base")}
    for number, arm in enumerate(runs.arms(synth)):
        checkpoint = runs.train(arm, OUTPUT / f"train_{number}", SEED)
        scores[arm.name] = runs.evaluate(checkpoint, OUTPUT / f"eval_{number}")
    rows = _synth_rows(synth) + _score_rows(scores)
    header = ("", "value", "95 % interval")
    show_table("What happened", header, rows)
    if readme:
        tables = [runs.markdown(FUNNEL, _funnel_rows(synth)), runs.markdown(header, rows)]
        runs.into_readme("demo", "\n\n".join(tables))
    say("Accuracies are on the procedural MMVP-format set of the test world (not MMVP).")
    say(f"Look at {synth}/gallery.html. Done in {(time.monotonic() - clock) / 60:.1f} minutes.")


def _funnel_rows(synth: Path) -> list[tuple[object, ...]]:
    """Stages that had something to decide on: pairs first, then regions."""
    funnel = runs.read(synth / "funnel.json")
    return [
        (
            f"{step['stage']} ({what})",
            step["in"],
            step["out"],
            "; ".join(f"{count} {reason}" for reason, count in step["rejected"].items()),
        )
        for level, what in (("items", "pairs"), ("regions", "regions"))
        for step in funnel[level]
        if step["rejected"]
    ]


def _synth_rows(synth: Path) -> list[tuple[str, str, str]]:
    funnel, audit = runs.read(synth / "funnel.json"), runs.read(synth / "audit.json")
    return [
        ("captions", str(funnel["items"][0]["in"]), ""),
        ("image pairs drawn", str(audit["n_pairs"]), ""),
        ("pairs with a difference kept", str(funnel["pairs_with_samples"]), ""),
        ("instruction samples", str(funnel["samples"]), ""),
        ("audit: boxes right", runs.percent(audit["box_precision"]), ""),
        ("audit: changed pairs found", runs.percent(audit["changed_pair_recall"]), ""),
        ("audit: region names right", runs.percent(audit["region_name_accuracy"]), ""),
        ("audit: difference sentences right", runs.percent(audit["difference_accuracy"]), ""),
    ]


def _score_rows(scores: dict[str, dict[str, object]]) -> list[tuple[str, str, str]]:
    rows = []
    for name, score in scores.items():
        values, intervals = score["scores"], score["intervals"]
        assert isinstance(values, dict) and isinstance(intervals, dict)  # noqa: PT018
        low, high = (intervals["pair_accuracy"][end] for end in ("low", "high"))
        span = f"{100 * low:.1f} .. {100 * high:.1f}"
        rows.append((f"pair accuracy: {name}", runs.percent(values["pair_accuracy"]), span))
    return rows


if __name__ == "__main__":
    main()

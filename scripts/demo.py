"""The whole job on the mini preset: synthesise, fine-tune without and with the data, evaluate.

Run by `make demo`. Everything is written below outputs/demo; running it again resumes.
"""

from __future__ import annotations

import time
from pathlib import Path

import runs

from imgdiff.core.console import say, show_table

OUTPUT = Path("outputs/demo")
PAIRS = 1_000
SEED = 0


def main() -> None:
    """Run the three commands and print one table."""
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
    show_table("What happened", ("", "value", "95 % interval"), rows)
    say("Accuracies are on the procedural MMVP-format set of the test world (not MMVP).")
    say(f"Look at {synth}/gallery.html. Done in {(time.monotonic() - clock) / 60:.1f} minutes.")


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

"""The demo's comparison over several seeds, with intervals; writes the table of the README.

Run by `make results`. Everything is written below outputs/results; running it again resumes.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import runs

from imgdiff.core.console import say
from imgdiff.core.files import write_json

OUTPUT = Path("outputs/results")
PAIRS = 1_000
MIN_SEEDS = 3
# Student's t, two-sided 95 %, for 1..9 degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def main() -> None:
    """Train and evaluate both arms for every seed, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="at least 3, at most 10")
    count = parser.parse_args().seeds
    if not MIN_SEEDS <= count <= len(T95) + 1:
        parser.error(f"--seeds {count}: must be {MIN_SEEDS} to {len(T95) + 1}")
    seeds = range(count)
    accuracies: dict[str, list[float]] = {}
    base = runs.evaluate("mini:llava", OUTPUT / "eval_base")["scores"]["pair_accuracy"]
    for seed in seeds:
        synth = OUTPUT / f"synth_{seed}"
        runs.run(
            "synth", "source.split=train", f"source.limit={PAIRS}", f"seed={seed}",
            f"output_dir={synth}",
        )  # fmt: skip
        for number, arm in enumerate(runs.arms(synth)):
            checkpoint = runs.train(arm, OUTPUT / f"train_{seed}_{number}", seed)
            scores = runs.evaluate(checkpoint, OUTPUT / f"eval_{seed}_{number}")["scores"]
            accuracies.setdefault(arm.name, []).append(scores["pair_accuracy"])
    without, with_data = accuracies.values()
    gains = [b - a for a, b in zip(without, with_data, strict=True)]
    write_json(OUTPUT / "results.json", {"base": base, "arms": accuracies, "gains": gains})
    table = _table(base, accuracies, gains)
    runs.into_readme("results", table)
    say(table)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval over seeds (Student's t)."""
    spread = statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), T95[len(values) - 2] * spread


def _table(base: float, accuracies: dict[str, list[float]], gains: list[float]) -> str:
    rows = [
        "| model | pair accuracy | 95 % interval over seeds |",
        "|---|--:|--:|",
        f"| mini LLaVA, as shipped | {100 * base:.1f} % | |",
    ]
    for name, values in (*accuracies.items(), ("gain from the difference data", gains)):
        mean, half = interval(values)
        unit = "points" if values is gains else "%"
        rows.append(f"| {name} | {100 * mean:.1f} {unit} | +- {100 * half:.1f} |")
    rows.append("")
    rows.append(
        f"Procedural MMVP-format set of the test world (not MMVP), 150 pairs, {len(gains)} seeds, "
        f"{runs.STEPS} steps each, {PAIRS} synthesised pairs; written by `make results`."
    )
    return "\n".join(rows)


if __name__ == "__main__":
    main()

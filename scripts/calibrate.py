"""Thresholds of the mini family from the validation world; writes conf/profile/mini.yaml.

Every score of every candidate is computed once with all intervals open, then each threshold is
put where the two kinds of cases that it should tell apart are best separated (largest balanced
accuracy; the middle of the gap where there is one) among those that keep at least 98.5 % of the
cases it should keep: six filters in a row would else lose too many good pairs.

    python scripts/calibrate.py            # print the thresholds
    python scripts/calibrate.py --write    # and put them into the profile
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from imgdiff.core.console import show_table
from imgdiff.core.files import write_text
from imgdiff.synth.audit import names

OUTPUT = Path("outputs/calibration")
PROFILE = Path("conf/profile/mini.yaml")
KEEP = 0.985
OPEN = (
    "rules.image_similarity.above=null", "rules.image_similarity.below=null",
    "rules.match.above=null", "rules.crop_similarity.below=null",
    "rules.content_similarity.below=null", "rules.content_match.above=null",
    "rules.max_iou=1.0", "rules.max_candidates=null", "rules.max_regions=null",
    "edit=both", "rules.removal.original_match.at_least=null",
    "rules.removal.inpainted_match.at_most=null", "rules.removal.max_per_side=null",
)  # fmt: skip


def main() -> None:
    """Score the validation world, find the thresholds, print and perhaps write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("settings", nargs="*", help="further settings of imgdiff.synth")
    args = parser.parse_args()
    settings = ("source.split=validation", f"source.limit={args.pairs}", "seed=1", *args.settings)
    command = [sys.executable, "-m", "imgdiff.synth", *settings, *OPEN, f"output_dir={OUTPUT}"]
    subprocess.run(command, check=True)
    rows = thresholds()
    table = [(key, f"{cut:.3f}", f"{accuracy:.3f}", counts) for key, cut, accuracy, counts in rows]
    show_table("Thresholds", ("key", "cut", "balanced accuracy", "cases"), table)
    if args.write:
        text = PROFILE.read_text(encoding="utf-8")
        for key, cut, _, _ in rows:
            text = placed(text, key, cut)
        write_text(PROFILE, text)


def thresholds() -> list[tuple[str, float, float, str]]:
    """(key, threshold, balanced accuracy, numbers of cases) of every rule."""
    pairs = pq.read_table(OUTPUT / "pairs.parquet").to_pylist()
    kept_layout = {row["id"] for row in pairs if row["truth"] in ("replaced", "side effect")}
    regions = [
        row
        for row in pq.read_table(OUTPUT / "regions.parquet").to_pylist()
        if row["pair_id"] in kept_layout
    ]
    right = [row for row in regions if row["box_right"]]
    wrong = [row for row in regions if not row["box_right"]]
    changed = [row for row in right if row["true_name_0"] != row["true_name_1"]]
    fits, misfits = _content_scores(changed)
    drawn = _column([row for row in pairs if row["id"] in kept_layout], "image_similarity")
    redrawn = _column([row for row in pairs if row["truth"] == "redrawn"], "image_similarity")
    ignored = _column([row for row in pairs if row["truth"] == "ignored"], "image_similarity")
    cases = {
        "image_similarity.above": (redrawn, drawn),
        "image_similarity.below": (drawn, ignored),
        "crop_similarity.below": (
            _column(right, "crop_similarity"),
            _column(wrong, "crop_similarity"),
        ),
        "match.above": (_best_match(wrong), _best_match(changed)),
        "content_similarity.below": (
            _column(changed, "content_similarity"),
            _column(wrong, "content_similarity"),
        ),
        "content_match.above": (misfits, fits),
        "removal.crop_similarity.below": (
            _column(right, "crop_similarity"),
            _column(wrong, "crop_similarity"),
        ),
        **_removal_cases(kept_layout),
    }
    return [
        (key, *cut(low, high, keeps_high=key.endswith(("above", "at_least"))))
        for key, (low, high) in cases.items()
    ]


def _removal_cases(kept_layout: set[str]) -> dict[str, tuple[list[float], list[float]]]:
    """Crops that do not show what the description names, and crops that do."""
    there: list[float] = []
    absent: list[float] = []
    gone: list[float] = []
    for row in pq.read_table(OUTPUT / "removals.parquet").to_pylist():
        if row["match_original"] is None or row["pair_id"] not in kept_layout:
            continue
        right = row["box_right"] and names(row["content"], row["true_name"])
        (there if right else absent).append(row["match_original"])
        gone += [row["match_inpainted"]] if right else []
    return {
        "removal.original_match.at_least": (absent + gone, there),
        "removal.inpainted_match.at_most": (gone, there),
    }


def _column(rows: list[dict[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def _best_match(rows: list[dict[str, Any]]) -> list[float]:
    """The better of the two sides, as the `either` rule sees it."""
    sides = ([row[f"match_{side}"] for side in (0, 1)] for row in rows)
    return [
        max(s for s in both if s is not None) for both in sides if any(s is not None for s in both)
    ]


def _content_scores(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Content match scores of contents that name the true object, and of those that do not."""
    fits: list[float] = []
    misfits: list[float] = []
    for row in rows:
        for side in (0, 1):
            score = row[f"content_match_{side}"]
            if score is not None:
                right = names(row[f"content_{side}"], row[f"true_name_{side}"])
                (fits if right else misfits).append(score)
    return fits, misfits


def cut(low: list[float], high: list[float], *, keeps_high: bool) -> tuple[float, float, str]:
    """(threshold, balanced accuracy, counts) that best has `low` below and `high` above it."""
    low_N, high_N = np.sort(np.array(low)), np.sort(np.array(high))
    counts = f"{low_N.size} below, {high_N.size} above"
    if not low_N.size or not high_N.size:
        return float("nan"), float("nan"), counts
    values = np.unique(np.concatenate([low_N, high_N]))
    middles = (values[1:] + values[:-1]) / 2
    below = np.searchsorted(low_N, middles) / low_N.size
    above = 1 - np.searchsorted(high_N, middles) / high_N.size
    kept = above if keeps_high else below
    accuracy = np.where(kept >= KEEP, (below + above) / 2, 0.0)
    best = np.flatnonzero(accuracy >= accuracy.max() - 1e-12)
    return round(float(middles[best].mean()), 3), float(accuracy.max()), counts


def placed(text: str, key: str, value: float) -> str:
    """The profile's text with one number replaced, comments kept."""
    if not np.isfinite(value):
        return text
    *parents, name, end = key.split(".")
    indent = "  " * len(parents)
    return re.sub(rf"(?m)^({indent}{name}:.*\b{end}: )[-0-9.]+", rf"\g<1>{value}", text)


if __name__ == "__main__":
    main()

"""A sweep over thresholds at the paper's scale, by look-up in a store of synthetic scores.

    python benchmarks/sweep.py                       # 118,000 pairs, 254 boxes each: 30 million
    python benchmarks/sweep.py --pairs 2000 --keep DIR

The four rows are those of the paper's Table 14 (image similarity / object matching / content
similarity / content matching). Scores are drawn so that about a third of the pairs and a few boxes
of each pass, as in the paper. Filling the store is not timed. Printed: seconds, peak memory of the
largest process, size on disk, models loaded (none).
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.core.console import meter, say, show_table
from imgdiff.core.files import write_json
from imgdiff.core.identity import fingerprint, seed_for
from imgdiff.core.records import Side
from imgdiff.core.store import Store, packed
from imgdiff.core.tables import ArrayCells
from imgdiff.launch import compose_typed
from imgdiff.synth.candidates import similarity_key
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.decide import Fate, fates
from imgdiff.synth.differences import describe_keys, region_prompt
from imgdiff.synth.nouns import words_to_match
from imgdiff.synth.pairs import edit_captions, generate_pairs
from imgdiff.synth.regions import find_nouns, match_key
from imgdiff.synth.scores import SCORE_DIGITS
from imgdiff.synth.selection import Interval, Rules
from imgdiff.synth.states import BOX_DIGITS, ItemState, proposals_key, state_from_json
from imgdiff.synth.sweep.columns import known_boxes
from imgdiff.synth.sweep.decide import decide_rows
from imgdiff.synth.tools import Backends, Tools
from imgdiff.synth.work import Layout

SIDE_PX = 1024
DIFFERENT, MATCHING = 0.1, 0.15  # shares of boxes whose crops differ, and that a noun fits
# image similarity above / below, match above, content similarity below, content match above
TABLE_14 = ((0.90, 0.98, 0.30, 0.90, 0.30), (0.90, 0.98, 0.35, 0.90, 0.30),
            (0.90, 0.98, 0.35, 0.85, 0.40), (0.85, 0.98, 0.35, 0.85, 0.40))  # fmt: skip


def main() -> None:
    """Fill a store, sweep, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=118_000)
    parser.add_argument("--boxes", type=int, default=254, help="of each pair")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder to fill, or to use if it is filled")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    args = parser.parse_args()
    register()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        config = compose_typed(
            "synth",
            SynthConfig,
            [
                f"source.limit={args.pairs}",
                "profile=paper",
                "stop_after=decide",
                f"workers={args.workers}",
            ],
        )
        layout = Layout(output=folder / "out", store=folder / "store", source="synthetic")
        if not (folder / "filled.json").exists():
            fill(config, layout, args.pairs, args.boxes)
            write_json(folder / "filled.json", {"pairs": args.pairs, "boxes": args.boxes})
        figures = sweep(config, layout, args.pairs, args.boxes)
    if args.out is not None:
        write_json(args.out, figures)


def rules_of(config: SynthConfig) -> list[Rules]:
    """The rows of Table 14."""
    return [
        replace(
            config.rules,
            image_similarity=Interval(above=low, below=high),
            match=Interval(above=match),
            content_similarity=Interval(below=alike),
            content_match=Interval(above=fit),
        )
        for low, high, match, alike, fit in TABLE_14
    ]


def sweep(config: SynthConfig, layout: Layout, pairs: int, boxes: int) -> dict[str, float]:
    """Decide all rows and print what it took."""
    shards = -(-pairs // config.shard_size)
    clock = time.monotonic()
    decided = decide_rows(config, rules_of(config), layout, shards, pairs)
    funnels = [decision.funnel for decision in decided.rows]
    seconds = time.monotonic() - clock
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
    disk = sum(f.stat().st_size for f in layout.store.rglob("*.parquet")) / 2**20
    rows = [
        (f"row {n + 1}", f.totals["regions"], f.totals["pairs_with_samples"], f.totals["samples"])
        for n, f in enumerate(funnels)
    ]
    show_table("Table 14", ("row", "boxes of pairs that pass", "pairs kept", "samples"), rows)
    figures = {
        "pairs": pairs,
        "boxes": pairs * boxes,
        "seconds": round(seconds, 2),
        "peak_mib": round(peak),
        "disk_mib": round(disk),
        "model_calls": sum(row["model_calls"] for row in decided.effort.profile),
        "workers": config.processes,
        "cores": os.cpu_count() or 0,
    }
    say(", ".join(f"{key} {value}" for key, value in figures.items()))
    return figures


def fill(config: SynthConfig, layout: Layout, pairs: int, boxes: int) -> None:
    """Captions, and scores as if models had given them."""
    from imgdiff.synth.pipeline import write_shards

    count, _ = write_shards(config, layout)
    store = Store(layout.store, layout.source)
    with meter(pairs, "filling the store") as bar, Backends(config) as backends:
        for number in range(count):
            tools = Tools(config, store, backends, number)
            fill_shard(tools, store, layout, boxes)
            bar.advance(config.shard_size)


def fill_shard(tools: Tools, store: Store, layout: Layout, boxes: int) -> None:
    """One shard's cells, of every kind."""
    from imgdiff.core.files import read_json

    states = [state_from_json(row) for row in read_json(layout.shard(tools.shard))]
    dice = np.random.default_rng(seed_for(0, str(tools.shard), "scores"))
    edit_captions(states, tools)
    pairs = [state.pair for state in states if state.pair is not None]
    drawn = [
        {
            "captions": [pair.left, pair.right],
            "size": [SIDE_PX, SIDE_PX],
            "truth": None,
            "paths": [f"{pair.id}_0.png", f"{pair.id}_1.png"],
            "ids": [fingerprint(pair.id, side) for side in (0, 1)],
        }
        for pair in pairs
    ]
    suffix = tools.config.store_format.value
    keyed = [(fingerprint(pair), row) for pair, row in zip(pairs, drawn, strict=True)]
    tools.values("generate", "generator", keyed, lambda rows: rows, suffix)
    generate_pairs(states, tools)
    shown = [state for state in states if state.rejected is None]
    find_nouns(shown, tools)
    add_scores(shown, tools, store, dice, boxes)
    add_contents([state for state in shown if state.nouns], tools, dice)


def add_scores(
    states: list[ItemState], tools: Tools, store: Store, dice: np.random.Generator, boxes: int
) -> None:
    """Image similarities, boxes and their scores."""
    count = len(states)
    ranges = np.array([(0.5, 0.85), (0.85, 0.9), (0.9, 0.98), (0.98, 1.0)])
    chosen = ranges[dice.choice(4, count, p=(0.45, 0.12, 0.33, 0.10))]
    similar = dice.uniform(chosen[:, 0], chosen[:, 1])
    keyed = [
        (similarity_key(state.images), round(float(score), SCORE_DIGITS))
        for state, score in zip(states, similar, strict=True)
        if state.images is not None
    ]
    tools.values("image_similarity", "embedder", keyed, lambda values: values)
    segments: dict[str, Any] = {}
    crops: dict[str, Any] = {}
    matches: dict[str, Any] = {}
    for state in states:
        assert state.images is not None and state.nouns is not None  # noqa: PT018
        centres = dice.uniform(0, SIDE_PX, (boxes, 2))
        halves = dice.lognormal(4.0, 0.8, (boxes, 2))
        corners = np.clip(np.hstack([centres - halves, centres + halves]), 0, SIDE_PX)
        units = packed(corners, BOX_DIGITS)
        middle = boxes // 2 * 4
        segments |= {state.images.left_id: units[:middle], state.images.right_id: units[middle:]}
        key = proposals_key(state.images, units)
        scores = np.where(dice.random(boxes) < DIFFERENT, dice.uniform(0.3, 0.85, boxes),
                          dice.uniform(0.85, 1.0, boxes))  # fmt: skip
        crops[key] = packed(scores.reshape(-1, 1), SCORE_DIGITS)
        best = np.where(dice.random((boxes, 2)) < MATCHING, dice.uniform(0.3, 0.6, (boxes, 2)),
                        dice.uniform(0.0, 0.3, (boxes, 2)))  # fmt: skip
        texts = tuple(
            words_to_match(state.nouns, tools.config.rules.noun_side, side) for side in Side
        )
        matches[match_key(key, texts)] = packed(best, SCORE_DIGITS)
    for kind, role, cells, digits in (
        ("segment", "segmenter", segments, BOX_DIGITS),
        ("crop_similarity", "embedder", crops, SCORE_DIGITS),
        ("match", "matcher", matches, SCORE_DIGITS),
    ):
        cell = tools.fingerprint(role, digits)
        store.table(kind, cell, tools.shard, ArrayCells()).add(cells)


def add_contents(states: list[ItemState], tools: Tools, dice: np.random.Generator) -> None:
    """Contents of every box that stands in a row, and their scores."""
    from imgdiff.core.geometry import box_from

    known = known_boxes([(states, tools)])
    standing = np.zeros(len(known.columns.pair_B), dtype=bool)
    for rules in rules_of(tools.config):
        standing |= fates(known.columns, rules) == Fate.STANDS
    config, margin = tools.config.describe, tools.config.rules.content_margin_px
    said, alike, fits = [], [], []
    for place in np.flatnonzero(standing).tolist():
        state = known.states[int(known.columns.pair_B[place])]
        assert state.images is not None
        (row,) = known.columns.boxes_B4(slice(place, place + 1)).tolist()
        box = box_from(row)
        prompt = region_prompt(state.images, box, config.region_prompt)
        texts = (f"A thing {place}.", f"Another {place}.")
        said += list(zip(describe_keys(state.images, prompt), texts, strict=True))
        alike.append((fingerprint(*texts), round(float(dice.uniform(0.4, 1.0)), SCORE_DIGITS)))
        scores = [{text: round(float(dice.uniform(0.2, 0.6)), SCORE_DIGITS)} for text in texts]
        fits.append((state.boxed(box, *texts), scores))
    tools.values("describe", "describer", said, lambda v: v, config.region_tokens)
    tools.values("content_similarity", "embedder", alike, lambda v: v)
    tools.values("content_match", "matcher", fits, lambda v: v, margin)


if __name__ == "__main__":
    main()

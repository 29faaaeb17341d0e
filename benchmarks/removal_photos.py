"""Object removal on real photos, with a matcher that learned photos.

    python benchmarks/removal_photos.py --root FOLDER --out removal_photos.json

FOLDER has COCO's layout, with instances of two splits. A BLIP is trained on crops of four fifths of
the first split's photos, its thresholds are chosen on unpainted crops of the last fifth, and the
pipeline removes the annotated objects of the second split. Of those that the matcher recognises,
the ones count as gone whose painted crop scores at or below the lower threshold. Controls say what
that is worth: the same crops with moved edges and nothing painted, with everything painted but the
object, background of the same size, and names of other things.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch load their libraries

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from photo_crops import Shown, cut, parted, photos_of, window_of
from photo_cuts import Cuts, Scored, auc, choose, figures_of
from photo_matcher import Recipe, teach, words_of
from photo_scores import Thing, scores_of, things_of
from PIL import Image

from imgdiff.backends.configs import BlipConfig, MatchScore
from imgdiff.backends.inpainters import OpenCvInpaintConfig, grown_mask, pasted_back
from imgdiff.backends.protocols import Matches
from imgdiff.core.console import show_table
from imgdiff.core.files import read_json, write_json
from imgdiff.core.geometry import box_from
from imgdiff.core.images import open_rgb
from imgdiff.eval.scores import Share
from imgdiff.mini.build.loop import LoopConfig
from imgdiff.synth.audit import STILL_THERE
from imgdiff.synth.removal_config import RemovalConfig
from imgdiff.synth.selection import RemovalRules
from imgdiff.synth.wording import truthful_content

ALARMS = (0.02, 0.05, 0.1, 0.2)  # other shares of false alarms, to see what hangs on the choice
COMMONEST = "person"  # of COCO; its figure stands beside that of all others
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run of imgdiff.synth: where it is, and the removals that were scored."""

    command: list[str]
    output: Path
    store: Path
    rows: list[Row]


def main() -> None:
    """Train, choose, remove, measure, print."""
    args = parsed()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    photos = photos_of(args.root, args.train)
    names = sorted({item.category for photo in photos for item in photo.objects})
    taught, held = parted(photos, args.seed)
    start, model = time.monotonic(), args.work / "matcher"
    loop = LoopConfig(steps=args.steps, learning_rate=args.rate, warmup=50)
    recipe = Recipe(loop=loop, from_mini=not args.from_random, seed=args.seed)
    teach(taught, words_of(photos), model, recipe)
    minutes = (time.monotonic() - start) / 60
    with BlipConfig(model=str(model), score=MatchScore(args.score)).build() as matcher:
        limits = RemovalRules()
        things = things_of(held, limits.min_area, limits.max_area)
        scored = scores_of(things, names, matcher)
        cuts = choose(scored)
        run = removed(args, model, cuts)
        tested = tested_things(run, photos_of(args.root, args.test))
        unpainted = scores_of(tested, names, matcher)
        figures: dict[str, Any] = {
            "score": args.score, "steps": args.steps, "minutes": round(minutes, 1), **asdict(cuts),
            "held_out": figures_of(scored, cuts),
            "test": figures_of(unpainted, cuts) | painted_figures(run, tested, cuts, matcher),
            "removal": removal_figures(run),
            "other_cuts": [other_cut(run, alarms, scored, unpainted) for alarms in ALARMS],
            "command": run.command,
        }  # fmt: skip
    write_json(args.out, figures)
    show(figures)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", required=True, help="folder in COCO layout")
    parser.add_argument("--train", default="train2017", help="split to learn from")
    parser.add_argument("--test", default="val2017", help="split to measure on")
    parser.add_argument("--out", type=Path, default=Path("removal_photos.json"))
    parser.add_argument("--work", type=Path, default=Path("outputs/removal_photos"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--score", choices=[s.value for s in MatchScore], default="itc")
    parser.add_argument("--from-random", action="store_true", help="not from the mini BLIP")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def removed(args: argparse.Namespace, model: Path, cuts: Cuts) -> Run:
    """The pipeline on the test split, with this matcher and these thresholds."""
    output, store = args.work / "synth", args.work / "store"
    command = [
        sys.executable, "-m", "imgdiff.synth", "source=coco", f"source.root={args.root}",
        f"source.split={args.test}", "generator=composite", "edit=remove", "inpainter=opencv",
        "removal.check=matcher", f"matcher.model={model}", f"matcher.score={args.score}",
        f"rules.removal.original_match.at_least={cuts.at_least}",
        f"rules.removal.inpainted_match.at_most={cuts.at_most}",
        "workers=1", "overwrite=true", f"output_dir={output}", f"store_dir={store}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    rows = pq.read_table(output / "removals.parquet").to_pylist()
    scored = [row for row in rows if row["match_original"] is not None]
    return Run(command=command, output=output, store=store, rows=scored)


def tested_things(run: Run, photos: Sequence[Shown]) -> list[Thing]:
    """The scored objects of a run in its order, as the pipeline stored their photos."""
    by_id = {item.id: (photo, item) for photo in photos for item in photo.objects}
    things = []
    for row in run.rows:
        photo, item = by_id[row["pair_id"]]
        box = box_from(row[side] for side in ("left", "top", "right", "bottom"))
        image = open_rgb(run.store / row["original"])
        things.append(Thing(photo=photo, item=item, image=image, box=box))
    return things


def painted_figures(
    run: Run, things: Sequence[Thing], cuts: Cuts, matcher: Matches
) -> dict[str, float]:
    """How well painted crops are told from originals; and objects left with all else painted."""
    before = [row["match_original"] for row in run.rows]
    after = [row["match_inpainted"] for row in run.rows]
    recognised = [t for t, score in zip(things, before, strict=True) if score >= cuts.at_least]
    left = [(crop, t) for t in recognised if (crop := surroundings_painted(t)) is not None]
    texts = [[truthful_content(thing.item.category)] for _, thing in left]
    scores = [float(row[0]) for row in matcher.match([crop for crop, _ in left], texts)]
    return {
        "auc_painted": auc(before, after),
        "painted_scores_lower": float(np.mean(np.less(after, before))),
        "surroundings_painted": float(len(scores)),
        "gone_surroundings_painted": float(np.mean(np.less_equal(scores, cuts.at_most))),
    }


def other_cut(
    run: Run, alarms: float, held: Sequence[Scored], unpainted: Sequence[Scored]
) -> dict[str, float]:
    """The figures, had another share of false alarms been allowed on the held-out photos."""
    cuts = choose(held, alarms)
    recognised = [row for row in run.rows if row["match_original"] >= cuts.at_least]
    gone = [row["match_inpainted"] <= cuts.at_most for row in recognised]
    return {
        "false_alarms": alarms,
        **asdict(cuts),
        "recognised": float(len(recognised)),
        "gone": float(np.mean(gone)) if gone else float("nan"),
        "gone_unpainted": figures_of(unpainted, cuts)["gone_unpainted"],
    }


def surroundings_painted(thing: Thing) -> Image.Image | None:
    """The crop with everything in the box painted but the object; None where that is nothing."""
    settings, (width, height) = RemovalConfig(), thing.image.size
    object_HW = grown_mask(thing.item.outline.mask(0, 0, width, height), settings.dilate_px)
    left, top, right, bottom = window_of(thing.box, width, height)
    hole_HW = np.zeros_like(object_HW)
    hole_HW[top:bottom, left:right] = ~object_HW[top:bottom, left:right]
    if not hole_HW.any():
        return None
    with OpenCvInpaintConfig().build() as inpainter:
        (painted,) = inpainter.inpaint([thing.image], [hole_HW], [0], [object_HW])
    return cut(pasted_back(thing.image, painted, hole_HW, settings.feather_px), thing.box)


def removal_figures(run: Run) -> dict[str, Any]:
    """Counts of the run, the share gone with its 95 % interval, and the run's own audit."""
    audit = read_json(run.output / "audit.json")
    funnel = read_json(run.output / "funnel.json")
    recognised = [row for row in run.rows if row["kept"] or row["reason"] == STILL_THERE]
    common = [row for row in recognised if row["true_name"] == COMMONEST]
    rare = [row for row in recognised if row["true_name"] != COMMONEST]
    return {
        "annotated": funnel["items"][0]["in"],
        "suit": len(run.rows),
        "recognised": len(recognised),
        "gone": _gone(recognised),
        f"gone_{COMMONEST}": _gone(common),
        "gone_others": _gone(rare),
        "exported": funnel["samples"],
        "answers_right": audit["removal_answer_accuracy"],
        "boxes_right": audit["removal_box_precision"],
        "names_right": audit["removal_name_accuracy"],
    }


def _gone(recognised: Sequence[Row]) -> dict[str, Any] | None:
    """None where nothing was recognised."""
    if not recognised:
        return None
    share = Share(hits=sum(row["kept"] for row in recognised), total=len(recognised))
    low, high = share.interval()
    return {"hits": share.hits, "total": share.total, "value": share.value, "interval": [low, high]}


def show(figures: dict[str, Any]) -> None:
    """Three tables: unpainted crops of both splits, the removals, other thresholds."""
    held, test, removal = figures["held_out"], figures["test"], figures["removal"]
    rows = [
        (key, f"{held[key]:.3f}" if key in held else "", f"{value:.3f}")
        for key, value in test.items()
    ]
    cuts = f"recognised from {figures['at_least']}, gone up to {figures['at_most']}"
    show_table(f"Crops: {cuts}", ("figure", "held out", "test"), rows)
    show_table("Removals", ("figure", "value"), [(k, _shown(v)) for k, v in removal.items()])
    others = [[f"{value:g}" for value in row.values()] for row in figures["other_cuts"]]
    show_table("Had other thresholds been chosen", list(figures["other_cuts"][0]), others)


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    low, high = value["interval"]
    return f"{value['hits']} of {value['total']}, {value['value']:.3f} ({low:.3f} .. {high:.3f})"


if __name__ == "__main__":
    main()

"""Removal questions as files: the two images with the red box, the row, every candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from imgdiff.core.geometry import crop, normalised_text
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import save_image, side_by_side, with_red_box
from imgdiff.core.masks import marked, mask_text
from imgdiff.core.records import Side
from imgdiff.synth.audit import held_by
from imgdiff.synth.removal_states import RemovalState
from imgdiff.synth.removals import answer_of, open_both
from imgdiff.synth.states import ItemState, open_removals
from imgdiff.synth.tools import Tools
from imgdiff.synth.wording import LETTERS

HEADING = "removal "  # opens their gallery headings: their stages share names with regions
REMOVAL_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("pair_id", pa.string()), ("side", pa.int8()),
        ("left", pa.float64()), ("top", pa.float64()), ("right", pa.float64()),
        ("bottom", pa.float64()), ("crop_similarity", pa.float64()), ("mask", pa.string()),
        ("mask_px", pa.int64()), ("seed", pa.int64()), ("original", pa.string()),
        ("patch", pa.string()), ("patch_left", pa.int32()), ("patch_top", pa.int32()),
        ("change", pa.float64()), ("content", pa.string()), ("match_original", pa.float64()),
        ("match_inpainted", pa.float64()), ("shown", pa.int8()), ("question", pa.string()),
        ("answer", pa.string()), ("true_name", pa.string()), ("box_right", pa.bool_()),
        ("kept", pa.bool_()), ("stage", pa.string()), ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)  # fmt: skip


def export_removals(
    states: Sequence[ItemState], tools: Tools, dataset: Path, audit: Counter[str]
) -> list[dict[str, object]]:
    """Write the images of every removal that stands; its rows. Counts go to `audit`."""
    samples = []
    numbers: Counter[str] = Counter()
    for state, item in open_removals(states):
        side = f"{state.id}_img{int(item.side)}"
        original, painted = open_both(item, tools)
        images = (original, painted) if item.shown is Side.LEFT else (painted, original)
        samples.append(_sample(item, f"{side}_{numbers[side]}", images, tools, dataset))
        numbers[side] += 1
        audit["removals_exported"] += 1
        audit["removals_answered"] += answer_shows(item, original, images)
    return samples


def answer_shows(
    item: RemovalState, original: Image.Image, images: tuple[Image.Image, Image.Image]
) -> bool:
    """Whether, by the pixels in the box, the letter names the only side as it was before."""
    before = np.asarray(crop(original, item.box))
    same = [np.array_equal(np.asarray(crop(image, item.box)), before) for image in images]
    return same.count(True) == 1 and LETTERS[same.index(True)] == answer_of(item)


def _sample(
    item: RemovalState,
    name: str,
    images: tuple[Image.Image, Image.Image],
    tools: Tools,
    dataset: Path,
) -> dict[str, object]:
    """Write the pair image and return its LLaVA row."""
    config = tools.config.export
    stem = f"images/{tools.shard:05d}/{name}"
    suffix = config.image_format.value
    margin = tools.config.removal.box_margin_px
    marked_up = [with_red_box(image, item.box, margin) for image in images]
    save_image(side_by_side(marked_up), dataset / f"{stem}.{suffix}")
    if config.separate_images:
        for side, image in enumerate(marked_up):
            save_image(image, dataset / f"{stem}_{side}.{suffix}")
    contents = [item.content if item.shown is side else "" for side in Side]
    return {
        "id": name,
        "image": f"{stem}.{suffix}",
        "conversations": [
            {"from": "human", "value": f"<image>\n{question_of(item, tools)}"},
            {"from": "gpt", "value": answer_of(item)},
        ],
        "bbox": normalised_text(item.box, item.original.width, item.original.height),
        "captions1": contents[0],
        "captions2": contents[1],
        "path": stem,
        "task": "remove",
    }


def question_of(item: RemovalState, tools: Tools) -> str:
    """The question with its key words, which are the description."""
    return tools.config.removal.question.format(caption=item.content)


def removal_row(state: ItemState, item: RemovalState, tools: Tools) -> dict[str, object]:
    """One row of removals.parquet: every score of a candidate, kept or not."""
    fell, made = item.rejected, item.inpainted
    truth = state.images.truth if state.images is not None else None
    corners = dict(zip(("left", "top", "right", "bottom"), item.box.as_tuple(), strict=True))
    name, right = held_by(item.box, item.side, truth) if truth is not None else (None, None)
    frame = (item.original.width, item.original.height)
    match = item.match or (None, None)
    window = made.window if made is not None else None
    return {
        "id": item.id, "pair_id": item.pair_id, "side": int(item.side), **corners,
        "crop_similarity": item.crop_similarity,
        "mask": None if item.runs is None else mask_text(item.runs, *frame),
        "mask_px": None if item.runs is None else marked(item.runs),
        "seed": item.seed, "original": item.original.path,
        "patch": made.patch if made else None,
        "patch_left": window[0] if window else None, "patch_top": window[1] if window else None,
        "change": made.change if made else None, "content": item.content,
        "match_original": match[0], "match_inpainted": match[1],
        "shown": None if item.shown is None else int(item.shown),
        "question": None if item.shown is None else question_of(item, tools),
        "answer": None if item.shown is None else answer_of(item),
        "true_name": name, "box_right": right, "kept": fell is None,
        "stage": fell.stage if fell else None, "reason": fell.reason if fell else None,
        "detail": fell.detail if fell else None,
    }  # fmt: skip


def removal_entries(states: Sequence[ItemState], tools: Tools) -> list[dict[str, object]]:
    """Gallery material of one shard: each removal that has a mask, under its verdict."""
    return [
        {
            "verdict": "removed" if item.rejected is None else _heading(item),
            "rank": fingerprint(item.id),
            "removal": removal_row(state, item, tools),
            "regions": [],
        }
        for state in states
        for item in state.removals
        if item.runs is not None
    ]


def _heading(item: RemovalState) -> str:
    assert item.rejected is not None
    return f"{HEADING}{item.rejected.stage}: {item.rejected.reason}"

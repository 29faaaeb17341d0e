"""Object removal, second half: paint over, describe, check that the object is gone, ask.

Source: Img-Diff paper §16 and the released generate_inpaint.py, whose answers name the other side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from imgdiff.backends.inpainters import changed_window, grown_mask, pasted_back
from imgdiff.core.geometry import crop, normalised_text
from imgdiff.core.identity import fingerprint, image_id, seed_for
from imgdiff.core.images import open_rgb, save_image
from imgdiff.core.masks import Mask, marked
from imgdiff.core.records import Side
from imgdiff.synth.audit import STILL_THERE
from imgdiff.synth.config import DescribeBy
from imgdiff.synth.removal_config import RemovalCheck
from imgdiff.synth.removal_states import Inpainted, RemovalState, Stored, inpainted_from
from imgdiff.synth.scores import CHUNK
from imgdiff.synth.sources import IMAGE_PLACEHOLDER
from imgdiff.synth.states import ItemState, open_items, open_removals
from imgdiff.synth.tools import Tools
from imgdiff.synth.wording import LETTERS, truthful_content

CHANGE_DIGITS, SHARE_DIGITS = 3, 4


def paint_over(states: list[ItemState], tools: Tools) -> None:
    """The original without the object: the grown mask is painted, the rest keeps its bytes."""
    rules = tools.config.rules.removal
    waiting = []
    for _, item in open_removals(states):
        assert item.runs is not None
        if not marked(item.runs):
            item.reject("mask", "mask is empty")
            continue
        item.seed = seed_for(tools.config.seed, item.id, "inpaint")
        waiting.append(item)

    def compute(items: Sequence[RemovalState]) -> list[dict[str, object]]:
        rows = []
        for start in range(0, len(items), CHUNK):
            rows += _painted(items[start : start + CHUNK], tools)
        return rows

    keyed = [(_painting(item), item) for item in waiting]
    rows = tools.values("inpaint", "inpainter", keyed, compute, *_how(tools))
    for item, row in zip(waiting, rows, strict=True):
        if row["share"] > rules.max_mask or row["id"] is None:
            item.reject("mask", "mask covers the image", f"{row['share']:.2f} of it")
            continue
        item.inpainted = inpainted_from(row)
        if item.inpainted.change < rules.min_change:
            item.reject("inpaint", "removal is hardly visible", f"{item.inpainted.change:.1f}")


def _how(tools: Tools) -> tuple[object, ...]:
    """The settings that change a painted image beside the inpainter's own."""
    config = tools.config.removal
    return config.dilate_px, config.feather_px, config.paste_back


def _painting(item: RemovalState) -> str:
    alike = item.record.alike if item.record is not None else None
    return fingerprint(item.original.id, item.runs, alike, item.seed)


def _painted(items: Sequence[RemovalState], tools: Tools) -> list[dict[str, object]]:
    """Rows of the store. A mask that leaves nothing to paint from gets no image."""
    settings = tools.config.removal
    rows: dict[str, dict[str, object]] = {}
    asked: list[tuple[RemovalState, Image.Image, Mask]] = []
    for item in items:
        hole = grown_mask(item.mask(), settings.dilate_px)
        rows[item.id] = {"id": None, "share": round(float(hole.mean()), SHARE_DIGITS)}
        if not hole.all():
            asked.append((item, open_rgb(tools.root / item.original.path), hole))
    images = [image for _, image, _ in asked]
    holes = [hole for _, _, hole in asked]
    seeds = [item.seed or 0 for item, _, _ in asked]
    avoid = [item.alike() for item, _, _ in asked]
    made = tools.backends.inpainter.inpaint(images, holes, seeds, avoid) if asked else []
    for (item, image, hole), painted in zip(asked, made, strict=True):
        final = painted
        if settings.paste_back:
            final = pasted_back(image, painted, hole, settings.feather_px)
        rows[item.id] |= _keep(item, image, final, tools)
    return [rows[item.id] for item in items]


def _keep(
    item: RemovalState, original: Image.Image, painted: Image.Image, tools: Tools
) -> dict[str, object]:
    """Write the patch that differs; PNG, so that not a byte beside it changes."""
    window = changed_window(original, painted)
    before, after = (np.asarray(i, dtype=np.float32)[item.mask()] for i in (original, painted))
    row: dict[str, object] = {
        "id": image_id(painted),
        "patch": None,
        "window": window,
        "change": round(float(np.abs(after - before).mean()), CHANGE_DIGITS),
    }
    if window is not None:
        folder = tools.image_folder("inpaint", "inpainter", *_how(tools))
        path = folder / f"{item.id}-{_painting(item)}.png"
        save_image(painted.crop(window), path)
        row["patch"] = tools.relative(path)
    return row


def open_both(item: RemovalState, tools: Tools) -> tuple[Image.Image, Image.Image]:
    """(original, painted)."""
    assert item.inpainted is not None
    original = open_rgb(tools.root / item.original.path)
    return original, item.inpainted.open(tools.root, original)


def describe_removals(states: list[ItemState], tools: Tools) -> None:
    """What the box holds in the original, by the describer or from the record."""
    config, limit = tools.config.describe, tools.config.describe.region_tokens
    waiting = [item for _, item in open_removals(states)]
    if config.by is DescribeBy.truth:
        for item in waiting:
            item.content = truthful_content(item.record.name if item.record else "")
        return

    def compute(items: Sequence[tuple[Stored, str]]) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            images = [open_rgb(tools.root / image.path) for image, _ in part]
            prompts = [prompt for _, prompt in part]
            answers += tools.backends.describer.chat(images, prompts, max_new_tokens=limit)
        return answers

    keyed = []
    for item in waiting:
        box = normalised_text(item.box, item.original.width, item.original.height)
        prompt = config.region_prompt.format(box=box)
        keyed.append((fingerprint(item.original.id, prompt), (item.original, prompt)))
    answers = tools.values("describe", "describer", keyed, compute, limit)
    for item, answer in zip(waiting, answers, strict=True):
        item.content = " ".join(answer.split())
        if not item.content:
            item.reject("describe", "empty description")
        elif IMAGE_PLACEHOLDER in item.content:
            item.reject("describe", "description holds an image placeholder", item.content)


def match_removals(states: list[ItemState], tools: Tools) -> None:
    """Two-sided matching: the description fits the original crop, and the painted one no longer."""
    if tools.config.removal.check is RemovalCheck.none:
        return
    rules = tools.config.rules.removal
    margin = rules.match_margin_px

    def compute(items: Sequence[RemovalState]) -> list[list[float]]:
        rows: list[list[float]] = []
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            both = [open_both(item, tools) for item in part]
            crops = [
                crop(image, item.box.grown(margin))
                for item, images in zip(part, both, strict=True)
                for image in images
            ]
            texts = [[item.content or ""] for item in part for _ in range(2)]
            scores = tools.backends.matcher.match(crops, texts)
            flat = [round(float(score[0]), 6) for score in scores]
            rows += [[flat[2 * i], flat[2 * i + 1]] for i in range(len(part))]
        return rows

    waiting = [item for _, item in open_removals(states)]
    keyed = [(_matched(item), item) for item in waiting]
    values = tools.values("removal_match", "matcher", keyed, compute, margin)
    for item, (original, painted) in zip(waiting, values, strict=True):
        item.match = (original, painted)
        if not rules.original_match.accepts(original):
            item.reject("match", "description does not fit the object")
        elif not rules.inpainted_match.accepts(painted):
            item.reject("match", STILL_THERE)


def _matched(item: RemovalState) -> str:
    painted: Inpainted | None = item.inpainted
    assert painted is not None
    return fingerprint(item.original.id, painted.id, item.box.as_tuple(), item.content)


def place_removals(states: list[ItemState], tools: Tools) -> None:
    """On which side of the question the original is shown, drawn for each object."""
    for _, item in open_removals(states):
        item.shown = Side(seed_for(tools.config.seed, item.id, "side") % len(Side))
    if tools.config.edit.replaces:
        return
    for state in open_items(states):
        if all(item.rejected is not None for item in state.removals):
            reason = "no removal left" if state.removals else "no segment found"
            state.reject("removal", reason)


def answer_of(item: RemovalState) -> str:
    """The letter of the side that shows the object."""
    assert item.shown is not None
    return LETTERS[item.shown]

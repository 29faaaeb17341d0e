"""Object removal, second half: paint over, describe, check that the object is gone, ask.

Source: Img-Diff paper §16 and the released generate_inpaint.py, whose answers name the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imgdiff.backends.inpainters import changed_window, grown_mask, pasted_back
from imgdiff.backends.protocols import Inpainter
from imgdiff.core.geometry import crop, normalised_text
from imgdiff.core.identity import fingerprint, image_id, seed_for
from imgdiff.core.images import open_rgb, save_image
from imgdiff.core.masks import Mask, marked
from imgdiff.core.records import Side
from imgdiff.synth.audit import STILL_THERE
from imgdiff.synth.chunks import opened_ahead
from imgdiff.synth.config import DescribeBy
from imgdiff.synth.removal_config import RemovalCheck
from imgdiff.synth.removal_states import Inpainted, RemovalState, Stored, inpainted_from
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

    def canvas(item: RemovalState) -> _Canvas:
        return _canvas(item, tools)

    def compute(items: Sequence[RemovalState]) -> list[dict[str, object]]:
        rows = []
        inpainter = tools.backends.inpainter
        for part, canvases in opened_ahead(items, canvas):
            rows += _painted(part, canvases, inpainter, tools)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Canvas:
    """What is painted: the grown mask, and the original where the mask leaves some of it."""

    hole: Mask
    image: Image.Image | None


def _canvas(item: RemovalState, tools: Tools) -> _Canvas:
    hole = grown_mask(item.mask(), tools.config.removal.dilate_px)
    return _Canvas(
        hole=hole, image=None if hole.all() else open_rgb(tools.root / item.original.path)
    )


def _painted(
    items: Sequence[RemovalState],
    canvases: Sequence[_Canvas],
    inpainter: Inpainter,
    tools: Tools,
) -> list[dict[str, object]]:
    """Rows of the store. A mask that leaves nothing to paint from gets no image."""
    settings = tools.config.removal
    rows: dict[str, dict[str, object]] = {}
    asked: list[tuple[RemovalState, Image.Image, Mask]] = []
    for item, canvas in zip(items, canvases, strict=True):
        share = round(float(canvas.hole.mean()), SHARE_DIGITS)
        rows[item.id] = {"id": None, "share": share}
        if canvas.image is not None:
            asked.append((item, canvas.image, canvas.hole))
    images = [image for _, image, _ in asked]
    holes = [hole for _, _, hole in asked]
    seeds = [item.seed or 0 for item, _, _ in asked]
    avoid = [item.alike() for item, _, _ in asked]
    made = inpainter.inpaint(images, holes, seeds, avoid) if asked else []
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

    def shown(item: tuple[Stored, str]) -> Image.Image:
        return open_rgb(tools.root / item[0].path)

    def compute(items: Sequence[tuple[Stored, str]]) -> list[str]:
        answers: list[str] = []
        describer = tools.backends.describer
        for part, images in opened_ahead(items, shown):
            prompts = [prompt for _, prompt in part]
            answers += describer.chat(images, prompts, max_new_tokens=limit)
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

    def crops(item: RemovalState) -> list[Image.Image]:
        return [crop(image, item.box.grown(margin)) for image in open_both(item, tools)]

    def compute(items: Sequence[RemovalState]) -> list[list[float]]:
        rows: list[list[float]] = []
        matcher = tools.backends.matcher
        for part, both in opened_ahead(items, crops):
            texts = [[item.content or ""] for item in part for _ in range(2)]
            scores = matcher.match([image for pair in both for image in pair], texts)
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

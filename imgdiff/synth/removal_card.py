"""One removed object in the gallery: before and after, the mask's outline, question and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside
from imgdiff.core.images import open_rgb
from imgdiff.core.masks import mask_of
from imgdiff.synth.audit import names
from imgdiff.synth.gallery_card import (
    chips_of,
    detail_text,
    draw_boxes,
    figure,
    score_text,
    shown_size,
)
from imgdiff.synth.page_parts import escaped

OUTLINE = (0, 220, 255)
SIDES = ("left", "right")


def removal_card(entry: Mapping[str, Any], store: Path) -> str:
    """The HTML of one entry of `removal_export.removal_entries`."""
    row = entry["removal"]
    content, truth = row["content"], row["true_name"]
    parts = (
        '<div class="two"><p>before, with the mask</p><p>after</p></div>',
        _said(content, truth),
        _question(row),
        chips_of(
            [
                ("crop similarity", score_text(row["crop_similarity"])),
                ("match before | after", score_text(row["match_original"], row["match_inpainted"])),
                ("change", "" if row["change"] is None else f"{row['change']:.0f} grey levels"),
                ("found in the", f"{SIDES[row['side']]} image"),
                ("id", row["id"]),
            ]
        ),
        detail_text(row["detail"]),
    )
    body = "\n".join(part for part in parts if part)
    return f'<article class="card">{_picture(row, store)}\n<div class="body">{body}</div></article>'


def _picture(row: Mapping[str, Any], store: Path) -> str:
    try:
        original = open_rgb(inside(store, row["original"]))
        painted = original.copy()
        if row["patch"] is not None:
            patch = open_rgb(inside(store, row["patch"]))
            painted.paste(patch, (row["patch_left"], row["patch_top"]))
    except DataError as error:
        return f'<figure><p class="absent">{escaped(error)}</p></figure>'
    size = shown_size(*original.size)
    marked = [draw_boxes(image, [row], size) for image in (original, painted)]
    marked[0] = outlined(marked[0], row, original.size)
    return figure(marked, original.size, [], escaped(f"before and after: {row['content'] or ''}"))


def outlined(image: Image.Image, row: Mapping[str, Any], frame: tuple[int, int]) -> Image.Image:
    """The enlarged image with a line along the mask's border."""
    counts = json.loads(row["mask"])["counts"]
    small = Image.fromarray(mask_of(counts, *frame).astype(np.uint8) * 255)
    mask_HW = np.asarray(small.resize(image.size, Image.Resampling.NEAREST)) > 0
    padded = np.pad(mask_HW, 2)
    inner = padded.copy()
    for step in (-2, -1, 1, 2):
        inner &= np.roll(padded, step, axis=0) & np.roll(padded, step, axis=1)
    edge_HW = mask_HW & ~inner[2:-2, 2:-2]
    pixels_HW3 = np.array(image)
    pixels_HW3[edge_HW] = OUTLINE
    return Image.fromarray(pixels_HW3)


def _said(content: str | None, truth: str | None) -> str:
    """The description, green where it names what is truly there."""
    if content is None:
        return ""
    if truth is None:
        return f'<div class="content" dir="auto">{escaped(content)}</div>'
    right = names(content, truth)
    sign = "✓" if right else "✗"
    return (
        f'<div class="content {"right" if right else "wrong"}" dir="auto">{escaped(content)}'
        f'<span class="truth">{sign} truly <bdi>{escaped(truth or "no object")}</bdi></span></div>'
    )


def _question(row: Mapping[str, Any]) -> str:
    if row["question"] is None:
        return ""
    lines = "<br>".join(escaped(line) for line in row["question"].split("\n"))
    where = SIDES[row["shown"]]
    return (
        f'<blockquote dir="auto">{lines}<br><b>{escaped(row["answer"])}</b> '
        f"(the object is shown {where})</blockquote>"
    )

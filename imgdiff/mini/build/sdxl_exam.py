"""What the mini SDXL draws, looked at by the mini CLIP: are the caption's objects there?"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw

from imgdiff.backends.protocols import Embedder
from imgdiff.core.identity import seed_for
from imgdiff.mini.language import NounPhrase, describe, parse_caption
from imgdiff.mini.scene import CELL_PX, GRID, SCENE_PX, Split
from imgdiff.mini.shapes import CATEGORIES, COLOURS
from imgdiff.mini.small_world import held_out_part

DRAWN_AT_ONCE = 16
EMPTY_SPREAD = 12.0  # grey levels; a cell of ground alone spreads less
SHEET_COLUMNS = 8
LABEL_PX, LABEL_LINES = 36, 3
LABEL_LETTERS = 26  # that fit below an image


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw: denoising steps, guidance, seed."""

    steps: int = 20
    guidance: float = 5.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """Shares over all objects of the captions, and over all captions.

    `nouns`: one of the cells that hold something is named as the caption's object among all
    categories; `colours`: of the coloured ones, that cell is painted as said (0 if not named);
    `counts`: as many cells hold something as the caption names objects.
    """

    nouns: float
    colours: float
    counts: float

    def text(self) -> str:
        """One line."""
        return f"nouns {self.nouns:.3f}  colours {self.colours:.3f}  counts {self.counts:.3f}"


def exam_captions(count: int, split: Split = Split.validation, seed: int = 0) -> list[str]:
    """Captions of scenes that show things together which no training scene shows together."""
    scenes = held_out_part(count, split, seed)
    rngs = (np.random.default_rng(seed_for(seed, str(k), "wording")) for k in range(count))
    return [describe(scene, rng) for scene, rng in zip(scenes, rngs, strict=True)]


def drawn(pipeline: Any, captions: Sequence[str], sampling: Sampling) -> list[Image.Image]:
    """One image per caption; image k depends on (seed, k) and its caption."""
    images: list[Image.Image] = []
    for start in range(0, len(captions), DRAWN_AT_ONCE):
        part = list(captions[start : start + DRAWN_AT_ONCE])
        generators = [
            torch.Generator().manual_seed(sampling.seed * 1_000_003 + start + k)
            for k in range(len(part))
        ]
        images += pipeline(
            prompt=part,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            height=SCENE_PX,
            width=SCENE_PX,
            generator=generators,
        ).images
    return images


def cells_of(image: Image.Image) -> list[Image.Image]:
    """The four cells, row by row."""
    corners = [(k % GRID * CELL_PX, k // GRID * CELL_PX) for k in range(GRID * GRID)]
    return [image.crop((x, y, x + CELL_PX, y + CELL_PX)) for x, y in corners]


def spread(cell: Image.Image) -> float:
    """How far a cell is from one tint: the largest standard deviation of a channel."""
    return float(np.asarray(cell, dtype=np.float32).std(axis=(0, 1)).max())


class Examiner:
    """Names cells by the cosines of an entered embedder."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._nouns = embedder.embed_texts(list(CATEGORIES))
        painted = [f"a {colour} {noun}" for noun in CATEGORIES for colour in COLOURS]
        self._painted = embedder.embed_texts(painted).reshape(len(CATEGORIES), len(COLOURS), -1)

    def graded(self, captions: Sequence[str], images: Sequence[Image.Image]) -> Report:
        """Figures of images that should show their captions."""
        cells = [cell for image in images for cell in cells_of(image)]
        rows_ID = self._embedder.embed_images(cells).reshape(len(images), GRID * GRID, -1)
        spreads = np.array([spread(cell) for cell in cells]).reshape(len(images), -1)
        nouns: list[bool] = []
        colours: list[bool] = []
        counts: list[bool] = []
        for caption, rows, spreads_4 in zip(captions, rows_ID, spreads, strict=True):
            said = parse_caption(caption).objects
            held = np.argsort(-spreads_4)[: len(said)]
            counts.append(int((spreads_4 > EMPTY_SPREAD).sum()) == len(said))
            for phrase in said:
                found = self._found(phrase, rows[held])
                nouns.append(found is not None)
                if phrase.colour is not None:
                    colours.append(found is not None and self._colour(phrase, found))
        return Report(
            nouns=float(np.mean(nouns)),
            colours=float(np.mean(colours)) if colours else 1.0,
            counts=float(np.mean(counts)),
        )

    def _found(
        self, phrase: NounPhrase, rows: Float[np.ndarray, "C D"]
    ) -> Float[np.ndarray, " D"] | None:
        """The cell that is named so among all categories."""
        wanted = list(CATEGORIES).index(phrase.category)
        named = (rows @ self._nouns.T).argmax(axis=1)
        return next((row for row, name in zip(rows, named, strict=True) if name == wanted), None)

    def _colour(self, phrase: NounPhrase, row_D: Float[np.ndarray, " D"]) -> bool:
        paints = self._painted[list(CATEGORIES).index(phrase.category)]
        return list(COLOURS)[int((paints @ row_D).argmax())] == phrase.colour


def sheet(captions: Sequence[str], images: Sequence[Image.Image]) -> Image.Image:
    """All images with their captions below."""
    rows = -(-len(images) // SHEET_COLUMNS)
    pitch = SCENE_PX + LABEL_PX
    page = Image.new("RGB", (SHEET_COLUMNS * (SCENE_PX + 4), rows * pitch), "white")
    pen = ImageDraw.Draw(page)
    for k, (caption, image) in enumerate(zip(captions, images, strict=True)):
        x, y = k % SHEET_COLUMNS * (SCENE_PX + 4), k // SHEET_COLUMNS * pitch
        page.paste(image, (x, y))
        text = "\n".join(textwrap.wrap(caption, LABEL_LETTERS)[:LABEL_LINES])
        pen.multiline_text((x, y + SCENE_PX), text, fill="black", font_size=9, spacing=1)
    return page

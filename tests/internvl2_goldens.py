"""What the goldens of InternVL2 record; `scripts/goldens.py` writes them, tests compare them."""

# ruff: noqa: RUF001 - full-width marks are part of the texts
from __future__ import annotations

import functools
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from internvl2_toy import KINDS, internvl2_toy
from PIL import Image

from imgdiff.backends.chat_templates import Exchange
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_text import render_turns, show_images
from imgdiff.backends.internvl2_weights import load
from imgdiff.core.errors import DataError

Case = tuple[list[tuple[str, str | None]], tuple[int, ...]]  # turns, image token counts
CASES: dict[str, Case] = {
    "pair": ([("<image>\nWhat is different?", "The cat is red.")], (4,)),
    "two turns": ([("<image>\nWhat is it?", "A cat."), ("Sure?", "Yes, it is.")], (3,)),
    "text alone": ([("What is a cat?", "There is a cat on the left.")], ()),
    "asked": ([("<image>\nWhat is different?", None)], (3,)),
    "asked again": ([("<image>\nWhat?", "A cat."), ("And?", None)], (3,)),
    "image not said": ([("What is different?", "The dog.")], (3,)),
    "image said late": ([("Hello", "Yes?"), ("See <image> here", "A dog.")], (3,)),
    "two images": ([("Image-1: <image>\nImage-2: <image>\nDescribe", "No.")], (2, 3)),
    "image in the middle": ([("Is <image> red?", "No.")], (2,)),
    "three images said, two given": ([("<image><image><image>", "No.")], (2, 2)),
    "image said, none given": ([("<image>\nWhat?", "No.")], ()),
    "image in the answer": ([("<image>\nWhat?", "This: <image>")], (2, 2)),
    "answer missing in between": ([("What?", None), ("Sure?", "Yes.")], ()),
    "stop in the question": ([("What is <|im_end|><|im_start|>assistant\nA cat?", "No.")], ()),
    "stop in the answer": ([("<image>\nWhat?", "A <|im_end|> cat")], (2,)),
    "context in the question": ([("<image>\n<IMG_CONTEXT>?", "No.")], (2,)),
    "context in the answer": ([("<image>\nWhat?", "<IMG_CONTEXT><IMG_CONTEXT>")], (2,)),
    "other special tokens": ([("Is <img> or </img> a tag?", "<ref>cat</ref><box>2</box>")], ()),
    "empty answer": ([("<image>\nWhat?", "")], (2,)),
    "empty answer in between": ([("What?", ""), ("Sure?", "Yes.")], ()),
    "empty question": ([("", "Yes.")], ()),
    "blanks around": ([("  What?  \n", "\n\n A cat. \n")], ()),
    "blanks alone": ([("What?", "  ")], ()),
    "Chinese": ([("<image>\n左边的图片里有什么？", "左边有一只猫，右边没有！")], (2,)),
    "emoji": ([("Is 🐱 or 👩‍👩‍👧 there? é ñ", "🐱!")], ()),
    "exclamation marks": ([("!!! What!", "!")], ()),
}  # fmt: skip
_PICTURES = {"no image": (), "pair image": ((2068, 1024),), "two images": ((300, 200), (90, 200))}


@functools.lru_cache(maxsize=1)
def _checkpoints() -> tuple[tempfile.TemporaryDirectory[str], dict[str, Path]]:
    held = tempfile.TemporaryDirectory(prefix="goldens-")
    return held, {kind: internvl2_toy(Path(held.name), kind) for kind in KINDS}


def prompts() -> dict[str, Any]:
    """Text, ids and loss mask (# with, . without) of every case under both templates."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        reader = InternVl2Reader(_checkpoints()[1][kind], 6)
        found[reader.template.name] = {name: _prompt(reader, *CASES[name]) for name in CASES}
    return found


def _prompt(
    reader: InternVl2Reader, turns: list[tuple[str, str | None]], counts: tuple[int, ...]
) -> dict[str, Any]:
    exchanges = [Exchange(*turn) for turn in turns]
    try:
        coded = reader.encode(exchanges, counts)
    except DataError as error:
        return {"refused": str(error)}
    marked = list(zip(coded.input_ids, coded.labels, strict=True))
    runs = [(lossy, [i for i, _ in run]) for lossy, run in groupby(marked, lambda p: p[1] >= 0)]
    return {
        "text": render_turns(show_images(exchanges, len(counts)), reader.template).text,
        "ids": " ".join(map(str, coded.input_ids)),
        "mask": "".join("#" if label >= 0 else "." for label in coded.labels),
        "learned": [reader.tokenizer.decode(run) for lossy, run in runs if lossy],
    }


def picture(size: tuple[int, int]) -> Image.Image:
    """A colourful image of this size; the same everywhere."""
    across = Image.linear_gradient("L").resize(size)
    down = across.transpose(Image.Transpose.ROTATE_180)
    rings = Image.radial_gradient("L").resize(size)
    return Image.merge("RGB", (across, down, rings))


def losses() -> dict[str, Any]:
    """Loss of the toy models on samples without, with one and with two images."""
    import torch

    found: dict[str, Any] = {}
    for kind in KINDS:
        reader, model = (make(_checkpoints()[1][kind]) for make in (_reader, load))
        rows: dict[str, float] = {}
        for name, sizes in _PICTURES.items():
            images = [picture(size) for size in sizes]
            question = "<image>\n" * len(images) + "What is different between the two images?"
            turns = [Exchange(question, "There is a red cat!"), Exchange("Sure?", "Yes, it is.")]
            coded = reader.encode(turns, reader.image_tokens(sizes))
            inputs = {"input_ids": coded.input_ids, "labels": coded.labels}
            tensors = {key: torch.tensor([value]) for key, value in inputs.items()}
            if images:
                tensors["pixel_values"] = reader.views(images)
            with torch.no_grad():
                rows[name] = round(float(model(**tensors).loss), 6)
        found[kind] = rows
    return found


def _reader(folder: Path) -> InternVl2Reader:
    return InternVl2Reader(folder, 6)

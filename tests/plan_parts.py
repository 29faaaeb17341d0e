"""Tiny data files, tables and a reader without torch, shared by the tests of the data side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from imgdiff.backends.chat_templates import Encoded, Exchange, encode
from imgdiff.train.lengths import Lengths
from imgdiff.train.source_config import RowRules, SourceConfig
from imgdiff.train.table import Table, open_table

ASK = {"from": "human", "value": "<image>\nWhat?"}
SAY = {"from": "gpt", "value": "That."}
PLAIN = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def write_json(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def picture(folder: Path, name: str = "a.png", size: tuple[int, int] = (4, 4)) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / name)
    return name


def table_of(
    tmp_path: Path, rows: list[Any], rules: RowRules | None = None, **source: Any
) -> Table:
    path = write_json(tmp_path / "data.json", rows)
    return open_table(
        {"data": SourceConfig(path=str(path), **source)}, rules or RowRules(), tmp_path / "cache"
    )


def talk(words: int, image: str | None = None, name: object = None) -> dict[str, Any]:
    """A row whose answer has so many words."""
    question = "<image>\nWhat?" if image else "What?"
    turns = [
        {"from": "human", "value": question},
        {"from": "gpt", "value": " ".join(["word"] * words)},
    ]
    row: dict[str, Any] = {"id": name, "conversations": turns}
    return row | ({"image": image} if image else {})


def text_table(folder: Path, name: str, count: int, images: int = 0) -> Path:
    """A LLaVA JSON of `count` rows of many lengths; the first `images` show a.png."""
    folder.mkdir(parents=True, exist_ok=True)
    picture(folder)
    lengths = np.random.default_rng(0).integers(1, 60, count)
    rows = [
        talk(int(words), "a.png" if number < images else None, f"{name}-{number}")
        for number, words in enumerate(lengths)
    ]
    return write_json(folder / f"{name}.json", rows)


def realistic_lengths(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, has image) as LLaVA's mix: 94 % with 576 image tokens, the rest a long tail."""
    rng = np.random.default_rng(seed)
    image = rng.random(count) < 0.94
    text = np.where(image, rng.lognormal(4.9, 0.75, count), rng.lognormal(6.2, 0.9, count))
    tokens = 45 + text + 576 * image
    return np.minimum(tokens, 2048).astype(np.int32), image


def lengths_of(tokens: Sequence[int] | np.ndarray) -> Lengths:
    return Lengths(tokens_N=np.asarray(tokens, dtype=np.int32), identity="given")


class TinyReader:
    """LLaVA's text with the mini tokenizer; an image takes `width // 16` tokens and one view."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.identity = "tiny"
        self.pad_id = int(tokenizer.pad_token_id)
        self.vocabulary = 32
        self.view_px = 2

    def image_tokens(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, ...]:
        return tuple(max(1, width // 16) for width, _ in sizes)

    def encode(self, turns: Sequence[Exchange], image_tokens: Sequence[int] = ()) -> Encoded:
        return encode(self.tokenizer, turns, image_tokens)

    def views(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack(
            [torch.full((3, 2, 2), float(image.width)) for image in images]
            or [torch.zeros(0, 3, 2, 2)]
        ).reshape(-1, 3, 2, 2)

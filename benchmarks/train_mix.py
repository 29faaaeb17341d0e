"""A random LLaVA of any size, and instruction data whose lengths are spread as in LLaVA's mix665k.

Used by `benchmarks/train.py`. At `scale` 4 an image takes 144 tokens instead of 576, and texts are
a quarter as long: the shares of image, text and padding stay what they are at full length.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)

from imgdiff.backends.chat_templates import VICUNA_V1, Exchange, Template
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.loading import quietly
from imgdiff.backends.readers import LlavaReader

PATCH_PX, HEAD_WIDTH = 16, 64
IMAGE_SHARE, IMAGE_TOKENS, TEMPLATE_TOKENS, LONGEST = 0.94, 576, 45, 2048
TURN_TOKENS = 150  # of text, at full length: longer rows have more turns
PHOTOS, PHOTO_PX = 64, (640, 480)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the language model, and how much shorter than LLaVA's the samples are."""

    width: int = 768
    layers: int = 2
    scale: int = 4

    @property
    def image_px(self) -> int:
        """Side of the view that takes IMAGE_TOKENS / scale tokens."""
        return math.isqrt(IMAGE_TOKENS // self.scale) * PATCH_PX

    @property
    def max_tokens(self) -> int:
        """Where a sample is cut."""
        return LONGEST // self.scale


def open_reader(folder: Path, shape: Shape) -> LlavaReader:
    """The reader of both trainers; shorter samples have a shorter system prompt too."""
    return LlavaReader(folder, template_of(shape))


def template_of(shape: Shape) -> Template:
    """Vicuna's; without its system prompt (29 tokens) where samples are shortened."""
    return VICUNA_V1 if shape.scale == 1 else dataclasses.replace(VICUNA_V1, system="")


def write_model(folder: Path, shape: Shape) -> None:
    """A checkpoint of random weights with the mini's tokenizer.

    The tower is small, as CLIP is beside 7B. Few and wide layers: attention then takes the share of
    the work that it takes in 7B at full length, and the head 5 % (2 % in 7B).
    """
    shipped = locate("tokenizer", "mini:llava")
    processor = LlavaProcessor.from_pretrained(shipped)
    side = shape.image_px
    processor.image_processor = LlavaImageProcessorPil(
        do_pad=True, size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
        patch_size=PATCH_PX, image_size=side, projection_dim=64,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=shape.width, num_hidden_layers=shape.layers,
        intermediate_size=shape.width * 8 // 3 // 32 * 32, max_position_embeddings=LONGEST,
        num_attention_heads=shape.width // HEAD_WIDTH, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision.to_dict(), text_config=text.to_dict(), tie_word_embeddings=False,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=IMAGE_TOKENS // shape.scale, vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )  # fmt: skip
    torch.manual_seed(0)
    with quietly():
        LlavaForConditionalGeneration(config).save_pretrained(folder)
        processor.save_pretrained(folder)


def lengths(count: int) -> tuple[Int[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Tokens at full length, and whether there is an image: 94 % with one, mean about 800."""
    rng = np.random.default_rng(0)
    shown = rng.random(count) < IMAGE_SHARE
    text = np.where(shown, rng.lognormal(4.9, 0.75, count), rng.lognormal(6.2, 0.9, count))
    return np.minimum(TEMPLATE_TOKENS + text + IMAGE_TOKENS * shown, LONGEST).astype(int), shown


def write_rows(folder: Path, reader: LlavaReader, shape: Shape, count: int) -> Path:
    """`count` rows in LLaVA's format with photos to decode; half of a text is answer."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(PHOTOS):
        coarse = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(PHOTO_PX).save(folder / f"images/{number}.jpg")
    rows = [
        _row(number, int(total), bool(shown), reader, shape, rng)
        for number, (total, shown) in enumerate(zip(*lengths(count), strict=True))
    ]
    path = folder / "mix.json"
    path.write_text(json.dumps(rows))
    return path


def _row(
    number: int, total: int, shown: bool, reader: LlavaReader, shape: Shape,  # noqa: FBT001
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    image = IMAGE_TOKENS // shape.scale if shown else 0
    single = len(reader.encode([Exchange("", "a")]).input_ids)
    double = len(reader.encode([Exchange("", "a")] * 2).input_ids)
    budget = max(2, total // shape.scale - image - single)
    turns = 1 + budget * shape.scale // TURN_TOKENS
    share = max(1, (budget - (turns - 1) * (double - single)) // (2 * turns))
    words = _words(reader)
    texts = [" ".join(rng.choice(words, share)) for _ in range(2 * turns)]
    if shown:
        texts[0] = f"<image>\n{texts[0]}"
    said = [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(texts)]
    row: dict[str, Any] = {"id": str(number), "conversations": said}
    return row | ({"image": f"images/{number % PHOTOS}.jpg"} if shown else {})


def _words(reader: LlavaReader) -> list[str]:
    """Words of one token each."""
    pieces = sorted(reader.tokenizer.get_vocab())
    return [piece[1:] for piece in pieces if piece[:1] == "▁" and piece[1:].isalpha()]

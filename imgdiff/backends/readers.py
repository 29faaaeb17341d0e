"""What a model family reads: conversations and images as token ids, labels and pixels.

One reader per family, opened from a checkpoint folder without its weights. Training and evaluation
use the same one, so a model is asked with the very tokens and pixels that it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends.chat_templates import (
    Encoded,
    Exchange,
    Template,
    encode,
    image_token_id,
)
from imgdiff.backends.llama_tokenizer import (
    open_llama_tokenizer,
    original_vocabulary,
    without_added_tokens,
)
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.identity import fingerprint

Size = tuple[int, int]  # width, height in pixels
Grid = tuple[int, int]  # columns, rows of views


@runtime_checkable
class Reader(Protocol):
    """Text and pixels of one family, exactly as its authors' code makes them."""

    @property
    def identity(self) -> str:
        """Names all that token counts, ids and pixels depend on: tokenizer, template, sizes."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers, by which `encode` cuts texts."""

    @property
    def pad_id(self) -> int:
        """What fills a row on the right; it is never attended to and has no label."""

    @property
    def vocabulary(self) -> int:
        """How many of the head's outputs are words of the original model; the loss sees these."""

    @property
    def view_px(self) -> int:
        """Side of the square views that the vision tower takes."""

    def image_tokens(self, sizes: Sequence[Size]) -> tuple[int, ...]:
        """How many ids the images of one sample take, each; from their sizes alone."""

    def grids(self, sizes: Sequence[Size]) -> tuple[Grid, ...]:
        """How the images of one sample are cut into views, each: columns and rows.

        An image of several views has one more, of the whole, as its last.
        """

    def encode(self, turns: Sequence[Exchange], image_tokens: Sequence[int] = ()) -> Encoded:
        """Ids and labels of a conversation with its images expanded; nothing is truncated.

        An answer of None ends the ids where generation begins. DataError where the number of
        `<image>` in the text differs from that of `image_tokens`.
        """

    def views(self, images: Sequence[Image.Image]) -> Float[Tensor, "K 3 S S"]:
        """Normalised views of all images of one sample, in order, S = view_px."""


class LlavaReader:
    """LLaVA-1.5: text in chunks around the image, every image padded to a square."""

    def __init__(self, folder: Path, template: Template) -> None:
        from transformers import LlavaConfig, LlavaImageProcessorPil

        self._template = template
        try:
            with quietly():
                shape = LlavaConfig.from_pretrained(folder)
                tokenizer = open_llama_tokenizer(folder)
                # The published preprocessor files say centre crop: half of a pair would be lost.
                self._images: Any = LlavaImageProcessorPil.from_pretrained(folder, do_pad=True)
        except (OSError, ValueError) as error:
            raise BackendError(
                f"{folder}: not a LLaVA checkpoint of transformers ({error})"
            ) from None
        self.view_px = int(shape.vision_config.image_size)
        self._tokens_per_image = (self.view_px // int(shape.vision_config.patch_size)) ** 2
        self.pad_id = int(tokenizer.pad_token_id)
        self.image_id = image_token_id(tokenizer)
        self.vocabulary = original_vocabulary(tokenizer)
        self.tokenizer: Any = without_added_tokens(tokenizer, self.vocabulary)
        self.identity = fingerprint(
            "llava", self.tokenizer.backend_tokenizer.to_str(), template.name,
            self._images.to_dict(), self._tokens_per_image,
        )  # fmt: skip

    def image_tokens(self, sizes: Sequence[Size]) -> tuple[int, ...]:
        """Every image takes equally many."""
        return (self._tokens_per_image,) * len(sizes)

    def grids(self, sizes: Sequence[Size]) -> tuple[Grid, ...]:
        """One view per image."""
        return ((1, 1),) * len(sizes)

    def encode(self, turns: Sequence[Exchange], image_tokens: Sequence[int] = ()) -> Encoded:
        """As `chat_templates.encode`."""
        return encode(self.tokenizer, turns, image_tokens, self._template, self.image_id)

    def views(self, images: Sequence[Image.Image]) -> Float[Tensor, "K 3 S S"]:
        """One view per image: padded with the processor's mean colour, resized, normalised."""
        if not images:
            return torch.zeros(0, 3, self.view_px, self.view_px)
        pixels: Tensor = self._images(list(images), return_tensors="pt")["pixel_values"]
        return pixels

"""From planned samples to batches of tensors. Texts are encoded at once, images when needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from imgdiff.backends.chat_templates import IGNORED, Encoded, Template, encode
from imgdiff.core.errors import DataError
from imgdiff.core.images import open_rgb
from imgdiff.train.sources import Sample, Source

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What turns a sample into numbers: tokenizer, image processor (pads to square), sizes."""

    tokenizer: Any
    image_processor: Any
    image_tokens: int  # per image
    template: Template
    max_tokens: int

    def encode(self, sample: Sample) -> Encoded:
        """Ids and labels; DataError where it is too long or nothing carries loss."""
        counts = () if sample.image is None else (self.image_tokens,)
        encoded = encode(self.tokenizer, sample.turns, counts, self.template)
        if len(encoded.input_ids) > self.max_tokens:
            raise DataError(
                f"sample {sample.id}: {len(encoded.input_ids)} tokens, model.max_tokens="
                f"{self.max_tokens} allows fewer. Raise it, or remove the sample."
            )
        if not encoded.supervised:
            raise DataError(
                f"sample {sample.id}: no supervised token under template {self.template.name}. "
                "Every sample needs an answer of the model; remove it or correct model.template."
            )
        return encoded

    def pixels(self, image: Image.Image) -> Float[Tensor, "3 S S"]:
        """Padded to a square with the processor's mean colour, resized and normalised."""
        values: Tensor = self.image_processor(image, return_tensors="pt")["pixel_values"]
        return values[0]


class PlannedSamples(Dataset[Batch]):
    """The samples of a run in their order; item k is what place k of the plan shows."""

    def __init__(
        self, sources: Sequence[Source], plan: Sequence[tuple[int, int]], reader: Reader
    ) -> None:
        self._sources, self._plan, self._reader = sources, plan, reader
        self._encoded = {
            (source, index): reader.encode(sources[source].samples[index])
            for source, index in sorted(set(plan))
        }

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, place: int) -> Batch:
        source, index = self._plan[place]
        encoded = self._encoded[source, index]
        item = {
            "input_ids": torch.tensor(encoded.input_ids),
            "labels": torch.tensor(encoded.labels),
        }
        image = self._sources[source].samples[index].image
        if image is not None:
            item["pixel_values"] = self._reader.pixels(open_rgb(image))
        return item


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Pads a batch on the right; the attention mask follows lengths, not the padding id."""

    pad_id: int

    def __call__(self, items: Sequence[Batch]) -> Batch:
        """One batch; `pixel_values` holds the images of the samples that have one, in order."""
        lengths = torch.tensor([len(item["input_ids"]) for item in items])
        longest = int(lengths.max())
        batch = {
            "input_ids": _padded([item["input_ids"] for item in items], longest, self.pad_id),
            "labels": _padded([item["labels"] for item in items], longest, IGNORED),
            "attention_mask": (torch.arange(longest)[None] < lengths[:, None]).long(),
        }
        pixels = [item["pixel_values"] for item in items if "pixel_values" in item]
        if pixels:
            batch["pixel_values"] = torch.stack(pixels)
        return batch


def _padded(rows: Sequence[Tensor], length: int, value: int) -> Int[Tensor, "B T"]:
    padded = torch.full((len(rows), length), value)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded

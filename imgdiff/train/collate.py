"""From places of a plan to batches of tensors: the data set, and two ways to lay samples out.

B samples of a micro-batch in R rows of T tokens, K image views of S x S px.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.backends.readers import Reader
from imgdiff.core.errors import DataError
from imgdiff.train.config import TrainConfig
from imgdiff.train.plan import Plan
from imgdiff.train.table import Table

PADDING_SOURCE = -1
MARK_BYTES = 5  # sums over 8,192 samples stay exact in float64


class MicroBatch(NamedTuple):
    """What one forward pass takes. A tuple, so that pinning and moving to a device see into it.

    `position_ids` None: one sample per row, filled on the right. Else one row holds all samples end
    to end. `pixel_values` None: no image. Lengths are plain numbers: reading them off a device
    would wait for all that it has still to do.
    """

    input_ids: Int[Tensor, "R T"]
    labels: Int[Tensor, "R T"]
    sources: Int[Tensor, "R T"]  # number of the source; PADDING_SOURCE where a row is filled
    position_ids: Int[Tensor, "R T"] | None
    pixel_values: Float[Tensor, "K 3 S S"] | None
    lengths: tuple[int, ...]  # tokens of each of the B samples
    seen: int  # see `Item.mark`, summed over the samples

    @property
    def samples(self) -> int:
        """How many samples."""
        return len(self.lengths)

    @property
    def views(self) -> int:
        """How many views of images."""
        return 0 if self.pixel_values is None else len(self.pixel_values)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sample as numbers: L ids with labels, its views in order, the number of its source."""

    input_ids: Int[Tensor, " L"]
    labels: Int[Tensor, " L"]
    views: Float[Tensor, "K 3 S S"]
    source: int
    mark: int = 0  # of 40 bits, from place and id: equal sums over a step tell equal samples


class PlannedSamples(Dataset[Item]):
    """The samples of a run: item p is what place p of the plan shows. Nothing is random.

    A sample is cut at `max_tokens`; those that lose all answers by that were to be left out of the
    plan (`fit_check`), and raise DataError here.
    """

    def __init__(self, table: Table, plan: Plan, reader: Reader, max_tokens: int) -> None:
        self._table, self._plan, self._reader = table, plan, reader
        self._max_tokens = max_tokens

    def __len__(self) -> int:
        return len(self._plan.rows)

    def __getitem__(self, place: int) -> Item:
        row = int(self._plan.rows[place])
        sample = self._table.sample(row)
        images = [picture.open() for picture in sample.pictures]
        counts = self._reader.image_tokens([image.size for image in images])
        encoded = self._reader.encode(sample.turns, counts)
        labels = encoded.labels[: self._max_tokens]
        if all(label == IGNORED for label in labels):
            raise DataError(
                f"{self._table.place(row)}: no answer within max_tokens={self._max_tokens}. Raise "
                "it or remove the row."
            )
        return Item(
            input_ids=torch.tensor(encoded.input_ids[: self._max_tokens]),
            labels=torch.tensor(labels),
            views=self._reader.views(images),
            source=sample.source,
            mark=_mark(place, sample.id),
        )


@dataclass(frozen=True, kw_only=True)
class PaddedCollator:
    """One row per sample, filled on the right.

    No attention mask is needed: in a causal model padding on the right is seen by nothing that
    carries loss.
    """

    pad_id: int

    def __call__(self, items: Sequence[Item]) -> MicroBatch:
        """R = B rows as long as the longest sample."""
        longest = max(len(item.input_ids) for item in items)
        shape = (len(items), longest)
        batch = _micro_batch(
            items,
            input_ids=torch.full(shape, self.pad_id),
            labels=torch.full(shape, IGNORED),
            sources=torch.full(shape, PADDING_SOURCE),
        )
        for row, item in enumerate(items):
            length = len(item.input_ids)
            batch.input_ids[row, :length] = item.input_ids
            batch.labels[row, 1:length] = item.labels[1:]
            batch.sources[row, :length] = item.source
        return batch


@dataclass(frozen=True, kw_only=True)
class PackedCollator:
    """All samples end to end in one row, nothing filled.

    `position_ids` begin at 0 with every sample. The first token of a sample has no label: it would
    be predicted from its predecessor.
    """

    def __call__(self, items: Sequence[Item]) -> MicroBatch:
        """R = 1 row."""
        labels = [torch.cat([item.labels.new_tensor([IGNORED]), item.labels[1:]]) for item in items]
        positions = [torch.arange(len(item.input_ids)) for item in items]
        batch = _micro_batch(
            items,
            input_ids=torch.cat([item.input_ids for item in items])[None],
            labels=torch.cat(labels)[None],
            sources=torch.cat(
                [item.labels.new_full(item.labels.shape, item.source) for item in items]
            )[None],
        )
        return batch._replace(position_ids=torch.cat(positions)[None])


def collator_of(config: TrainConfig, pad_id: int) -> PaddedCollator | PackedCollator:
    """How a run with these settings lays out its micro-batches."""
    return PackedCollator() if config.without_padding else PaddedCollator(pad_id=pad_id)


def _micro_batch(
    items: Sequence[Item],
    input_ids: Int[Tensor, "R T"],
    labels: Int[Tensor, "R T"],
    sources: Int[Tensor, "R T"],
) -> MicroBatch:
    views = [item.views for item in items if len(item.views)]
    return MicroBatch(
        input_ids=input_ids,
        labels=labels,
        sources=sources,
        position_ids=None,
        pixel_values=torch.cat(views) if views else None,
        lengths=tuple(len(item.input_ids) for item in items),
        seen=sum(item.mark for item in items),
    )


def _mark(place: int, sample: str) -> int:
    digest = hashlib.blake2b(f"{place}:{sample}".encode(), digest_size=MARK_BYTES).digest()
    return int.from_bytes(digest, "big")

"""From places of a plan to batches of tensors: the data set, and two ways to lay samples out.

B samples of a micro-batch, T tokens of the longest row, R packed rows, K image views of S x S px.
"""

from __future__ import annotations

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
from imgdiff.train.packing import rows_of
from imgdiff.train.plan import Batching, Plan
from imgdiff.train.table import Table

PADDING_SOURCE = -1


class MicroBatch(NamedTuple):
    """What one forward pass takes. A tuple, so that pinning and moving to a device see into it.

    `position_ids` None: one sample per row, counted from 0. `pixel_values` None: no image.
    """

    input_ids: Int[Tensor, "R T"]
    labels: Int[Tensor, "R T"]
    sources: Int[Tensor, "R T"]  # number of the source; PADDING_SOURCE where a row is filled
    position_ids: Int[Tensor, "R T"] | None
    pixel_values: Float[Tensor, "K 3 S S"] | None
    lengths: Int[Tensor, " B"]  # tokens of each sample

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
        )


@dataclass(frozen=True, kw_only=True)
class PaddedCollator:
    """One row per sample, filled on the right.

    No attention mask is needed: in a causal model padding on the right is seen by nothing that
    carries loss.
    """

    pad_id: int

    def __call__(self, items: Sequence[Item]) -> MicroBatch:
        """R = B rows."""
        longest = max(len(item.input_ids) for item in items)
        rows = [_laid([item], longest, self.pad_id) for item in items]
        return _micro_batch(rows, items, positions=False)


@dataclass(frozen=True, kw_only=True)
class PackedCollator:
    """Samples end to end in few rows of at most `max_row_tokens`.

    `position_ids` begin at 0 with every sample and with the filling at a row's end (a segment of
    its own); without an attention mask and with `use_cache=False`, transformers then keeps the
    samples apart. The first token of a sample has no label: it would be predicted from its
    predecessor. `pixel_values` are in the order in which the images stand in the rows.
    """

    pad_id: int
    max_row_tokens: int

    def __call__(self, items: Sequence[Item]) -> MicroBatch:
        """R rows, as few as the limit allows, of nearly equal length."""
        placed = [
            [items[index] for index in row]
            for row in rows_of([len(item.input_ids) for item in items], self.max_row_tokens)
        ]
        longest = max(sum(len(item.input_ids) for item in row) for row in placed)
        rows = [_laid(row, longest, self.pad_id) for row in placed]
        return _micro_batch(rows, [item for row in placed for item in row], positions=True)


def collator_of(config: TrainConfig, pad_id: int) -> PaddedCollator | PackedCollator:
    """How a run with these settings lays out its micro-batches."""
    if config.batching is Batching.pack:
        return PackedCollator(pad_id=pad_id, max_row_tokens=config.row_tokens)
    return PaddedCollator(pad_id=pad_id)


class _Row(NamedTuple):
    input_ids: Int[Tensor, " T"]
    labels: Int[Tensor, " T"]
    sources: Int[Tensor, " T"]
    position_ids: Int[Tensor, " T"]


def _laid(items: Sequence[Item], length: int, pad_id: int) -> _Row:
    """Samples end to end, filled on the right."""
    row = _Row(
        input_ids=torch.full((length,), pad_id),
        labels=torch.full((length,), IGNORED),
        sources=torch.full((length,), PADDING_SOURCE),
        position_ids=torch.zeros(length, dtype=torch.long),
    )
    start = 0
    for item in items:
        end = start + len(item.input_ids)
        row.input_ids[start:end] = item.input_ids
        row.labels[start + 1 : end] = item.labels[1:]
        row.position_ids[start:end] = torch.arange(end - start)
        row.sources[start:end] = item.source
        start = end
    row.position_ids[start:] = torch.arange(length - start)
    return row


def _micro_batch(rows: Sequence[_Row], items: Sequence[Item], *, positions: bool) -> MicroBatch:
    views = [item.views for item in items if len(item.views)]
    return MicroBatch(
        input_ids=torch.stack([row.input_ids for row in rows]),
        labels=torch.stack([row.labels for row in rows]),
        sources=torch.stack([row.sources for row in rows]),
        position_ids=torch.stack([row.position_ids for row in rows]) if positions else None,
        pixel_values=torch.cat(views) if views else None,
        lengths=torch.tensor([len(item.input_ids) for item in items]),
    )

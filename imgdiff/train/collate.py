"""From places of a plan to batches of tensors: the data set, and two ways to lay samples out.

B samples of a micro-batch, T tokens of the longest row, R packed rows, K image views of S x S px.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.backends.readers import Reader
from imgdiff.core.errors import DataError
from imgdiff.train.packing import rows_of
from imgdiff.train.plan import Plan
from imgdiff.train.table import Table

Batch = dict[str, Tensor]
PADDING_SOURCE = -1


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

    `input_ids`, `labels` [B T], `lengths` [B], `source` [B], `useful_tokens`, `all_tokens` [], and
    `pixel_values` [K 3 S S] where there are images. No attention mask: in a causal model padding
    on the right is seen by nothing that carries loss.
    """

    pad_id: int

    def __call__(self, items: Sequence[Item]) -> Batch:
        """The batch of one micro-batch's samples."""
        lengths = torch.tensor([len(item.input_ids) for item in items])
        longest = int(lengths.max())
        batch = {
            "input_ids": torch.full((len(items), longest), self.pad_id),
            "labels": torch.full((len(items), longest), IGNORED),
            "lengths": lengths,
            "source": torch.tensor([item.source for item in items]),
        }
        for number, item in enumerate(items):
            batch["input_ids"][number, : len(item.input_ids)] = item.input_ids
            batch["labels"][number, : len(item.labels)] = item.labels
        return batch | _counts(batch) | _pixels(items)


@dataclass(frozen=True, kw_only=True)
class PackedCollator:
    """Samples end to end in few rows of at most `max_row_tokens`.

    `input_ids`, `labels`, `position_ids`, `source` [R T], `useful_tokens`, `all_tokens` [], and
    `pixel_values` [K 3 S S] in the order in which the images stand in the rows. `position_ids`
    begin at 0 with every sample and with the filling at a row's end (a segment of its own, source
    -1); without an attention mask and with `use_cache=False`, transformers then keeps the samples
    apart. The first token of a sample has no label: it would be predicted from its predecessor.
    """

    pad_id: int
    max_row_tokens: int

    def __call__(self, items: Sequence[Item]) -> Batch:
        """The batch of one micro-batch's samples."""
        rows = rows_of([len(item.input_ids) for item in items], self.max_row_tokens)
        placed = [items[index] for row in rows for index in row]
        longest = max(sum(len(items[index].input_ids) for index in row) for row in rows)
        laid = [self._row([items[index] for index in row], longest) for row in rows]
        batch = {name: torch.stack([row[name] for row in laid]) for name in laid[0]}
        lengths = torch.tensor([len(item.input_ids) for item in placed])
        return batch | _counts(batch | {"lengths": lengths}) | _pixels(placed)

    def _row(self, items: Sequence[Item], longest: int) -> Batch:
        row = {
            "input_ids": torch.full((longest,), self.pad_id),
            "labels": torch.full((longest,), IGNORED),
            "position_ids": torch.zeros(longest, dtype=torch.long),
            "source": torch.full((longest,), PADDING_SOURCE),
        }
        start = 0
        for item in items:
            end = start + len(item.input_ids)
            row["input_ids"][start:end] = item.input_ids
            row["labels"][start + 1 : end] = item.labels[1:]
            row["position_ids"][start:end] = torch.arange(end - start)
            row["source"][start:end] = item.source
            start = end
        row["position_ids"][start:] = torch.arange(longest - start)
        return row


def _counts(batch: Batch) -> Batch:
    return {
        "useful_tokens": batch["lengths"].sum(),
        "all_tokens": torch.tensor(batch["input_ids"].numel()),
    }


def _pixels(items: Sequence[Item]) -> Batch:
    views = [item.views for item in items if len(item.views)]
    return {"pixel_values": torch.cat(views)} if views else {}

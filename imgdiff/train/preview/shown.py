"""The first samples of a plan, taken back out of the micro-batches that the model gets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from imgdiff.backends.readers import Reader
from imgdiff.train.collate import PADDING_SOURCE, MicroBatch, PlannedSamples, collator_of
from imgdiff.train.config import TrainConfig
from imgdiff.train.data import Planned
from imgdiff.train.fit_check import image_id
from imgdiff.train.preview.pieces import Piece, Role, pieces_of
from imgdiff.train.preview.views import pictures_of


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One sample as it lies in its micro-batch. Numbers of batches and rows count from 0."""

    number: int  # from 1, in the order shown
    id: str
    source: str
    place: str  # file, number in it, id
    step: int  # from 1
    micro_batch: int
    row: int
    samples_in_row: int
    filled: int  # tokens of padding in its row
    tokens: int
    at_limit: bool  # as many as max_tokens: what is longer was cut there
    pieces: tuple[Piece, ...]
    files: tuple[str, ...]
    pictures: tuple[Image.Image, ...]

    def count(self, role: Role) -> int:
        """Tokens of a role."""
        return sum(piece.tokens for piece in self.pieces if piece.role is role)

    @property
    def figures(self) -> str:
        """`121 tokens: 9 supervised, 36 image, 76 context`, and what else is to be known."""
        counts = (Role.supervised, Role.image, Role.context)
        parts = ", ".join(f"{self.count(role)} {role.value}" for role in counts)
        filled = f" (+ {self.filled} of padding in its row)" if self.filled else ""
        limit = ", cut at max_tokens" if self.at_limit else ""
        return f"{self.tokens} tokens: {parts}{filled}{limit}"

    @property
    def position(self) -> str:
        """`step 1, micro-batch 0, row 3`."""
        row = f"row {self.row}"
        if self.samples_in_row > 1:
            row += f" of {self.samples_in_row} samples"
        return f"step {self.step}, micro-batch {self.micro_batch}, {row}"


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """One sample of a micro-batch: which it is, and where it lies."""

    item: int  # number in the micro-batch, as planned
    row: int
    samples_in_row: int
    filled: int
    ids: list[int]
    labels: list[int]


def first_samples(config: TrainConfig, planned: Planned, reader: Reader, count: int) -> list[Shown]:
    """The first `count` samples of the run (all, if it has fewer), micro-batch by micro-batch."""
    found = itertools.islice(_Batches(config, planned, reader).samples(), count)
    return [dataclasses.replace(sample, number=k) for k, sample in enumerate(found, start=1)]


class _Batches:
    """The micro-batches of a run, collated and taken apart again."""

    def __init__(self, config: TrainConfig, planned: Planned, reader: Reader) -> None:
        self._limit = config.model.max_tokens
        self._table, self._plan, self._reader = planned.table, planned.plan, reader
        self._samples = PlannedSamples(self._table, self._plan, reader, self._limit)
        self._collate = collator_of(config, reader.pad_id)
        self._image_id = image_id(reader)

    def samples(self) -> Iterator[Shown]:
        """All samples of the run, not numbered."""
        for number in range(self._plan.micro_batches):
            places = self._plan.places(number)
            # Marked by its number, an item is found again in whatever way the batch is laid out.
            items = [
                dataclasses.replace(self._samples[place], source=mark)
                for mark, place in enumerate(places)
            ]
            batch = self._collate(items)
            first_view = 0
            for laid in _laid(batch):
                last_view = first_view + len(items[laid.item].views)
                views = _views(batch, first_view, last_view)
                yield self._shown(laid, number, int(self._plan.rows[places[laid.item]]), views)
                first_view = last_view

    def _shown(self, laid: _Laid, micro_batch: int, row: int, views: Tensor | None) -> Shown:
        sample = self._table.sample(row)
        sizes = [picture.open().size for picture in sample.pictures]
        grids = self._reader.grids(sizes)
        return Shown(
            number=0,
            id=sample.id,
            source=self._table.sources[sample.source].name,
            place=self._table.place(row),
            step=micro_batch // self._plan.micro_per_step + 1,
            micro_batch=micro_batch,
            row=laid.row,
            samples_in_row=laid.samples_in_row,
            filled=laid.filled,
            tokens=len(laid.ids),
            at_limit=len(laid.ids) == self._limit,
            pieces=pieces_of(laid.ids, laid.labels, self._reader.tokenizer, self._image_id),
            files=tuple(
                " + ".join(path.name for path in picture.paths) for picture in sample.pictures
            ),
            pictures=() if views is None else pictures_of(views, grids, self._reader),
        )


def _views(batch: MicroBatch, first: int, last: int) -> Tensor | None:
    if batch.pixel_values is None or first == last:
        return None
    return batch.pixel_values[first:last]


def _laid(batch: MicroBatch) -> Iterator[_Laid]:
    """Samples in the order in which they lie in the rows; so do their views."""
    for row, marks in enumerate(batch.sources):
        held = [int(mark) for mark in dict.fromkeys(marks.tolist()) if mark != PADDING_SOURCE]
        for item in held:
            here = marks == item
            yield _Laid(
                item=item,
                row=row,
                samples_in_row=len(held),
                filled=int((marks == PADDING_SOURCE).sum()),
                ids=batch.input_ids[row][here].tolist(),
                labels=batch.labels[row][here].tolist(),
            )

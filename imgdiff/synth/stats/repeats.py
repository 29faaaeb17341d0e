"""What occurs more than once in the data: captions, images and sentences that are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool

from imgdiff.synth.stats.reading import Batch, Run, batches
from imgdiff.synth.stats.tally import Repeated, Tally, hashes

SHOWN = 5  # groups of equal things, the largest first
SENTENCES_SHOWN = 10
IDS_SHOWN = 3
APART = "\x1f"  # between the parts of what must be equal as a whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Things that are equal: how many, what they say, the ids of the first."""

    number: int
    parts: tuple[str, ...]  # two where a pair of captions is equal
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeats:
    """Figures of one kind of equality, and its largest groups."""

    key: str
    title: str
    figures: Repeated
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What is compared: columns of a table, of the rows that take part."""

    key: str
    title: str
    table: str
    columns: tuple[str, ...]
    shown: tuple[str, ...]  # the columns that a group shows
    needs: tuple[str, ...] = ()  # columns that must hold something, too
    most: int = SHOWN
    least: int = 2  # equal things that make a group


PAIR_KINDS = (
    Kind(key="captions", title="captions of the left image", table="pairs",
         columns=("caption_0",), shown=("caption_0",)),
    Kind(key="caption_pairs", title="caption pairs", table="pairs",
         columns=("caption_0", "caption_1"), shown=("caption_0", "caption_1")),
    Kind(key="left_images", title="left images, by their pixels", table="pairs",
         columns=("image_id_0",), shown=("caption_0",)),
    Kind(key="image_pairs", title="image pairs, by their pixels", table="pairs",
         columns=("image_id_0", "image_id_1"), shown=("caption_0", "caption_1"),
         needs=("caption_1",)),  # where objects of photos are removed, both are the photo
)  # fmt: skip
SENTENCES = Kind(
    key="sentences", title="difference sentences", table="regions", columns=("sentence",),
    shown=("sentence",), most=SENTENCES_SHOWN, least=1,
)  # fmt: skip


def compared(kind: Kind, batch: Batch, where: Bool[np.ndarray, " N"]) -> list[str | None]:
    """What is compared of each row that `where` marks; None for a row without one of the parts."""
    parts = [batch.values(name, where) for name in (*kind.columns, *kind.needs)]
    number = len(kind.columns)
    return [APART.join(row[:number]) if all(row) else None for row in zip(*parts, strict=True)]


@dataclass(kw_only=True, slots=True)
class RepeatCounts:
    """Counts of one kind. The rows that take part are those that `taking` marks."""

    kind: Kind
    taking: Callable[[Batch], Bool[np.ndarray, " N"]]
    tally: Tally = field(default_factory=Tally)

    def add(self, batch: Batch) -> list[str]:
        """Count a batch; the texts that were compared."""
        if not all(batch.has(name) for name in self.kind.columns):
            return []
        texts = [t for t in compared(self.kind, batch, self.taking(batch)) if t is not None]
        self.tally.add(texts)
        return texts

    def wanted(self) -> dict[int, int]:
        """Hash and size of the groups that are shown."""
        return self.tally.top(self.kind.most, self.kind.least)


def with_groups(
    run: Run, counted: Sequence[RepeatCounts], columns: Sequence[str], rows: int
) -> list[Repeats]:
    """The figures of kinds of one table, and their groups, found by reading it once more."""
    wanted = [counts.wanted() for counts in counted]
    found: list[dict[int, tuple[tuple[str, ...], list[str]]]] = [{} for _ in counted]
    if any(wanted):
        for batch in batches(run, counted[0].kind.table, ["id", *columns], rows):
            for counts, groups, held in zip(counted, wanted, found, strict=True):
                for key, parts, name in _members(counts, batch, groups):
                    _, ids = held.setdefault(key, (parts, []))
                    if len(ids) < IDS_SHOWN:
                        ids.append(name)
    return [
        Repeats(
            key=counts.kind.key,
            title=counts.kind.title,
            figures=counts.tally.repeated(),
            groups=tuple(
                Group(number=number, parts=held[key][0], ids=tuple(held[key][1]))
                for key, number in groups.items()
            ),
        )
        for counts, groups, held in zip(counted, wanted, found, strict=True)
    ]


def _members(
    counts: RepeatCounts, batch: Batch, groups: dict[int, int]
) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """(hash, what is shown, id) of the rows of a batch that belong to one of the groups."""
    if not groups:
        return
    taking = counts.taking(batch)
    texts = compared(counts.kind, batch, taking)
    known = np.array([text is not None for text in texts], dtype=bool)
    keys = hashes([text for text in texts if text is not None])
    member = np.isin(keys, np.fromiter(groups, dtype=np.uint64))
    rows = np.flatnonzero(taking)[known][member]
    chosen = np.zeros(len(batch), dtype=bool)
    chosen[rows] = True
    shown = zip(*(batch.values(name, chosen) for name in counts.kind.shown), strict=True)
    names = batch.values("id", chosen)
    yield from zip((int(key) for key in keys[member]), shown, names, strict=True)

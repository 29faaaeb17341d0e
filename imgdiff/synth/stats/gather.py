"""One reading of a run's tables: everything that its page shows, in memory that stays flat."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from imgdiff.synth.stats.boxes import CORNERS, BoxCounts
from imgdiff.synth.stats.frames import Frames
from imgdiff.synth.stats.histogram import WORDS, Histogram
from imgdiff.synth.stats.names import (
    Coverage,
    NameCounts,
    NameList,
    coverage,
    first_name,
    replaced_names,
)
from imgdiff.synth.stats.nearest import Looks, Nearest
from imgdiff.synth.stats.reading import BATCH_ROWS, Batch, Run, absent_columns, batches
from imgdiff.synth.stats.repeats import (
    PAIR_KINDS,
    SENTENCES,
    RepeatCounts,
    Repeats,
    with_groups,
)
from imgdiff.synth.stats.scores import ScoreCounts, score_kinds

IMAGE_IDS = ("image_id_0", "image_id_1")
PAIR_COLUMNS = (
    "id", "caption_0", "caption_1", "nouns_0", "nouns_1", *IMAGE_IDS, "width", "height",
    "image_0", "look_0", "image_similarity", "kept",
)  # fmt: skip
REGION_COLUMNS = (
    "id", "pair_id", *CORNERS, "crop_similarity", "match_0", "match_1", "content_similarity",
    "content_match_0", "content_match_1", "content_0", "content_1", "sentence", "kept",
)  # fmt: skip
REMOVAL_COLUMNS = (
    "pair_id", *CORNERS, "crop_similarity", "match_original", "match_inpainted", "content",
    "answer", "kept",
)  # fmt: skip
REPEAT_COLUMNS = ("caption_0", "caption_1", *IMAGE_IDS, "kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A list of names, and how much of each table of names it covers."""

    title: str
    names: int
    coverage: tuple[Coverage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """What a run holds."""

    run: Run
    caption_pairs: int  # captions that have an edited one
    kept: dict[str, int]  # exported samples by kind: replace, remove
    names: tuple[NameCounts, ...]
    listed: tuple[Listed, ...]
    boxes: tuple[BoxCounts, ...]
    scores: tuple[ScoreCounts, ...]
    sentence_words: Histogram
    description_words: Histogram
    answers: dict[str, int]  # letters of removal questions
    repeats: tuple[Repeats, ...]
    same_images: int  # pairs whose two images have equal pixels
    nearest: Nearest | None  # left images that look alike; None: not on record
    absent: frozenset[str]  # `table.column` of columns that the files lack


def gather(run: Run, lists: tuple[NameList, ...] = (), rows: int = BATCH_ROWS) -> Stats:
    """Read the tables of a run, `rows` at a time; no result depends on `rows`."""
    gathering = _Gathering(run)
    for table, columns in _read_by(run).items():
        gathering.absent |= {f"{table}.{name}" for name in absent_columns(run, table, columns)}
    for batch in batches(run, "pairs", PAIR_COLUMNS, rows):
        gathering.add_pairs(batch)
    for batch in batches(run, "regions", REGION_COLUMNS, rows) if run.edit.replaces else ():
        gathering.add_regions(batch)
    for batch in batches(run, "removals", REMOVAL_COLUMNS, rows) if run.edit.removes else ():
        gathering.add_removals(batch)
    return gathering.result(lists, rows)


def _read_by(run: Run) -> dict[str, tuple[str, ...]]:
    """The tables that a run of this kind has, and the columns that are read of each."""
    tables: dict[str, tuple[str, ...]] = {"pairs": PAIR_COLUMNS}
    tables |= {"regions": REGION_COLUMNS} if run.edit.replaces else {}
    tables |= {"removals": REMOVAL_COLUMNS} if run.edit.removes else {}
    return tables


def _of_data_set(run: Run, batch: Batch) -> Bool[np.ndarray, " N"]:
    """Pairs with samples; where a run has no sample at all, every pair."""
    return batch.flags("kept") if run.samples else np.ones(len(batch), dtype=bool)


class _Gathering:
    """The counts while the tables stream by."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.frames = Frames()
        self.caption_pairs = 0
        self.kept = Counter[str]()
        self.edited, self.exported, self.described, self.removed = _name_counts()
        self.scores = [ScoreCounts(kind) for kind in score_kinds(run)]
        self.boxes = _box_counts(run)
        self.sentence_words, self.description_words = Histogram(WORDS), Histogram(WORDS)
        self.answers = Counter[str]()
        self.pair_repeats = [
            RepeatCounts(kind=kind, taking=lambda batch: _of_data_set(run, batch))
            for kind in PAIR_KINDS
        ]
        self.sentences = RepeatCounts(kind=SENTENCES, taking=lambda batch: batch.flags("kept"))
        self.same_images = 0
        self.looks = Looks()
        self.absent: set[str] = set()

    def add_pairs(self, batch: Batch) -> None:
        self.frames.add(batch)
        self.looks.add(batch)
        self._add_scores("pairs", batch)
        for counts in self.pair_repeats:
            counts.add(batch)
        taking = _of_data_set(self.run, batch)
        columns = [batch.values(name, taking) for name in (*IMAGE_IDS, "caption_1")]
        rows = zip(*columns, strict=True)
        self.same_images += sum(left == right and bool(said) for left, right, said in rows if left)
        self._add_names(batch)

    def _add_names(self, batch: Batch) -> None:
        texts = [batch.values(f"{name}_{side}") for name in ("caption", "nouns") for side in (0, 1)]
        rows = zip(*texts, batch.flags("kept"), strict=True)
        for left, right, left_nouns, right_nouns, kept in rows:
            if not left or not right:
                continue
            self.caption_pairs += 1
            names = replaced_names((left, right), (left_nouns, right_nouns))
            self.edited.add(*names)
            if kept:
                self.exported.add(*names)

    def add_regions(self, batch: Batch) -> None:
        kept = batch.flags("kept")
        self.kept["replace"] += int(kept.sum())
        self._add_scores("regions", batch)
        self._add_boxes("regions", batch)
        contents = [batch.values(name, kept) for name in ("content_0", "content_1")]
        for both in zip(*contents, strict=True):
            self.described.add(*(_first_names(content) for content in both))
        self.description_words.add(_lengths([text for side in contents for text in side]))
        self.sentence_words.add(_lengths(self.sentences.add(batch)))

    def add_removals(self, batch: Batch) -> None:
        kept = batch.flags("kept")
        self.kept["remove"] += int(kept.sum())
        self._add_scores("removals", batch)
        self._add_boxes("removals", batch)
        contents = batch.values("content", kept)
        for content in contents:
            self.removed.add(_first_names(content))
        self.description_words.add(_lengths(contents))
        self.answers.update(answer or "none" for answer in batch.values("answer", kept))

    def _add_boxes(self, table: str, batch: Batch) -> None:
        needed = {f"{table}.{name}" for name in ("pair_id", *CORNERS)}
        if not self.absent & (needed | {"pairs.id", "pairs.width", "pairs.height"}):
            self.boxes[table].add(batch, batch.flags("kept"), self.frames)

    def _add_scores(self, table: str, batch: Batch) -> None:
        for counts in self.scores:
            if counts.kind.table == table:
                counts.add(batch)

    def result(self, lists: tuple[NameList, ...], rows: int) -> Stats:
        names = self._tables_of_names()
        repeats = with_groups(self.run, self.pair_repeats, REPEAT_COLUMNS, rows)
        if self.run.edit.replaces:
            repeats += with_groups(self.run, [self.sentences], ("sentence", "kept"), rows)
        return Stats(
            run=self.run,
            caption_pairs=self.caption_pairs,
            kept=dict(self.kept),
            names=names,
            listed=tuple(
                Listed(
                    title=held.title,
                    names=len(held.names),
                    coverage=tuple(coverage(held, counts) for counts in names),
                )
                for held in lists
            ),
            boxes=tuple(self.boxes.values()),
            scores=tuple(self.scores),
            sentence_words=self.sentence_words,
            description_words=self.description_words,
            answers=dict(sorted(self.answers.items())),
            repeats=tuple(repeats),
            same_images=self.same_images,
            nearest=self.looks.nearest(self.run, rows),
            absent=frozenset(self.absent),
        )

    def _tables_of_names(self) -> tuple[NameCounts, ...]:
        """Those that this run can have."""
        tables = [self.edited, self.exported]
        tables += [self.described] if self.run.edit.replaces else []
        tables += [self.removed] if self.run.edit.removes else []
        return tuple(tables)


def _name_counts() -> tuple[NameCounts, NameCounts, NameCounts, NameCounts]:
    """Of edited captions, of those with samples, of descriptions, of removed objects."""
    return (
        NameCounts(key="edited", title="All edited captions"),
        NameCounts(key="exported", title="Captions of pairs with samples"),
        NameCounts(key="described", title="Descriptions of exported regions"),
        NameCounts(key="removed", title="Removed objects", sides=("removed object",)),
    )


def _box_counts(run: Run) -> dict[str, BoxCounts]:
    rules = run.settings["rules"]
    boxes = {}
    if run.edit.replaces:
        limits = (rules.get("min_area"), rules.get("max_area"))
        boxes["regions"] = BoxCounts("regions", "Regions", limits)
    if run.edit.removes:
        held = rules["removal"]
        limits = (held.get("min_area"), held.get("max_area"))
        boxes["removals"] = BoxCounts("removals", "Objects to remove", limits)
    return boxes


def _first_names(description: str | None) -> list[str]:
    name = first_name(description) if description else None
    return [] if name is None else [name]


def _lengths(texts: list[str | None] | list[str]) -> np.ndarray:
    """Words of each text, as they are separated by blanks."""
    return np.array([len(text.split()) for text in texts if text], dtype=np.float64)

"""How many tokens each sample takes: counts, upper bounds, and what grouping needs.

Exact counts equal `len(reader.encode(...).input_ids)`. They come from the reader's own code run
with a stand-in for its tokenizer, which notes the texts; all texts of many rows are then tokenised
in one call. Some rows of every chunk are encoded in the ordinary way too, and a chunk that differs
is counted that way whole.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from imgdiff.backends.chat_templates import IMAGE_TOKEN, Encoded, Exchange
from imgdiff.core.console import meter
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.files import atomic_path
from imgdiff.core.identity import fingerprint
from imgdiff.train.table import Table

if TYPE_CHECKING:  # it imports torch
    from imgdiff.backends.readers import Reader

LENGTHS_VERSION = 2
EXACT_ROWS = 20_000  # of a source: seconds of work
SAMPLED_ROWS = 4096
CHUNK_ROWS = 1024
CHECKED_ROWS = 2  # of every chunk
PARALLELISM = "TOKENIZERS_PARALLELISM"


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of every row of a table, images expanded, nothing truncated; see `token_lengths`."""

    tokens_N: Int32[np.ndarray, " N"]
    identity: str  # of table and reader


class _Recorder:
    """Stands in for a tokenizer: notes the texts and returns no ids. Else it is the tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, int | None] = {}
        self.texts: list[str] = []
        self.bos_token_id = tokenizer.bos_token_id

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(
        self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> dict[str, Any]:
        if add_special_tokens or not return_offsets_mapping:
            raise TypeError("a reader tokenises without special tokens and with offsets")
        self.texts.append(text)
        return {"input_ids": [], "offset_mapping": []}

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """As the tokenizer, remembered."""
        if tokens not in self._ids:
            self._ids[tokens] = self._tokenizer.convert_tokens_to_ids(tokens)
        return self._ids[tokens]


class RowEncoder:
    """Rows of a table as ids and labels, nothing truncated.

    `opening`: of the first question alone, up to where its answer begins; it must show all
    pictures of the row.
    """

    def __init__(self, table: Table, reader: Reader, *, opening: bool = False) -> None:
        self._table, self._reader, self._opening = table, reader, opening

    def __call__(self, row: int) -> Encoded:
        """DataError names the row that the reader refuses."""
        sample = self._table.sample(row)
        turns = [Exchange(sample.turns[0].question)] if self._opening else sample.turns
        try:
            counts = self._reader.image_tokens([picture.size for picture in sample.pictures])
            return self._reader.encode(turns, counts)
        except DataError as error:
            raise DataError(f"{self._table.place(row)}: {error}") from None


def recording(reader: Reader) -> tuple[Reader, _Recorder]:
    """A copy of `reader` whose tokenizer notes texts instead of tokenising them."""
    recorder = _Recorder(reader.tokenizer)
    quiet: Any = copy.copy(reader)
    quiet.tokenizer = recorder
    return quiet, recorder


class _Counter:
    """Counts tokens of chunks of rows; used by several threads at once."""

    def __init__(self, table: Table, reader: Reader, *, opening: bool) -> None:
        self._table, self._reader, self._opening = table, reader, opening
        self._encode = RowEncoder(table, reader, opening=opening)

    def __call__(self, rows: Sequence[int]) -> Int32[np.ndarray, " C"]:
        counts = self._at_once(rows)
        checked = range(0, len(rows), max(1, len(rows) // CHECKED_ROWS))
        if any(len(self._encode(rows[k]).input_ids) != counts[k] for k in checked):
            counts = [len(self._encode(row).input_ids) for row in rows]
        return np.asarray(counts, dtype=np.int32)

    def _at_once(self, rows: Sequence[int]) -> list[int]:
        quiet, recorder = recording(self._reader)
        encode = RowEncoder(self._table, quiet, opening=self._opening)
        counts, ends = [], []
        for row in rows:
            counts.append(len(encode(row).input_ids))
            ends.append(len(recorder.texts))
        texts = list(dict.fromkeys(recorder.texts))
        backend = self._reader.tokenizer.backend_tokenizer
        coded = backend.encode_batch_fast(texts, add_special_tokens=False)
        taken = dict(zip(texts, map(len, coded), strict=True))
        for number, (start, end) in enumerate(pairwise([0, *ends])):
            counts[number] += sum(taken[text] for text in recorder.texts[start:end])
        return counts


@contextmanager
def _own_threads() -> Iterator[None]:
    """Keep the tokenizers library from starting threads of its own: it warns after a fork."""
    before = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before


def count_tokens(
    table: Table,
    reader: Reader,
    rows: Int64[np.ndarray, " R"],
    threads: int = 2,
    *,
    opening: bool = False,
) -> Int32[np.ndarray, " R"]:
    """Exact token counts of some rows, in their order; `opening` as in RowEncoder.

    A row that the reader refuses raises DataError.
    """
    _need_sizes(table)
    if not len(rows):
        return np.empty(0, dtype=np.int32)
    counter = _Counter(table, reader, opening=opening)
    chunks = [rows[k : k + CHUNK_ROWS].tolist() for k in range(0, len(rows), CHUNK_ROWS)]
    counted = []
    with (
        _own_threads(),
        meter(len(rows), "counting tokens") as bar,
        ThreadPoolExecutor(threads, thread_name_prefix="tokens") as pool,
    ):
        counter(rows[:1].tolist())  # opens the table and settles truncation, before any thread
        for counts in pool.map(counter, chunks):
            counted.append(counts)
            bar.advance(len(counts))
    return np.concatenate(counted)


def _need_sizes(table: Table) -> None:
    if not table.has_sizes:
        raise ConfigError(
            "images=exists: token counts need the sizes of images. Set images=header."
        )


def token_lengths(table: Table, reader: Reader, threads: int = 2) -> Lengths:
    """Token counts of all rows, from the table's folder if they were counted before.

    Exact for sources of up to EXACT_ROWS rows. Of a larger one SAMPLED_ROWS rows, evenly spread,
    are counted: image and template tokens of the others are known, and their text is taken to have
    as many tokens per byte. Whole numbers only, so that every machine finds the same.
    """
    _need_sizes(table)
    identity = fingerprint(LENGTHS_VERSION, table.identity, reader.identity)
    path = table.folder / f"lengths-{identity}.npy"
    if not path.exists():
        counted_N = np.ones(len(table), dtype=bool)
        for source in table.sources:
            if source.rows > EXACT_ROWS:
                spread = np.arange(SAMPLED_ROWS) * source.rows // SAMPLED_ROWS
                counted_N[source.start : source.start + source.rows] = False
                counted_N[source.start + spread] = True
        tokens_N = np.zeros(len(table), dtype=np.int32)
        tokens_N[counted_N] = count_tokens(table, reader, np.flatnonzero(counted_N), threads)
        if not counted_N.all():
            _estimate_others(tokens_N, counted_N, table, reader)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.save(handle, tokens_N)
    return Lengths(tokens_N=np.load(path), identity=identity)


def _estimate_others(
    tokens_N: Int32[np.ndarray, " N"],
    counted_N: Bool[np.ndarray, " N"],
    table: Table,
    reader: Reader,
) -> None:
    """Fill in what was not counted, source by source, from what was."""
    one, two = (len(reader.encode([Exchange("a", "a")] * turns).input_ids) for turns in (1, 2))
    turns_N, bytes_N = (table.column(name).astype(np.int64) for name in ("turns", "text_bytes"))
    known_N = _image_tokens(table, reader) + one + (two - one) * (turns_N - 1)
    for source in table.sources:
        here = slice(source.start, source.start + source.rows)
        counted, others = (np.flatnonzero(part) + here.start for part in (
            counted_N[here], ~counted_N[here]
        ))  # fmt: skip
        if not len(others):
            continue
        text = max(0, int((tokens_N[counted] - known_N[counted]).sum()))
        per = max(1, int(bytes_N[counted].sum()))
        tokens_N[others] = known_N[others] + bytes_N[others] * text // per


@dataclass(frozen=True, kw_only=True)
class Most:
    """Upper bounds of tokens, per row."""

    whole_N: Int64[np.ndarray, " N"]
    opening_N: Int64[np.ndarray, " N"]  # up to the first answer; -1 where that is not known


def most_tokens(table: Table, reader: Reader) -> Most:
    """Upper bounds without tokenising.

    A token covers at least one byte of text. To the bytes of the row's own texts come its images'
    tokens and what the template adds, measured in bytes on short conversations.
    """
    _need_sizes(table)
    overhead = _overhead(reader)
    around = (
        _image_tokens(table, reader) + overhead.whole + overhead.picture * table.column("pictures")
    )
    opening = table.column("opening_bytes")
    return Most(
        whole_N=table.column("text_bytes") + around + overhead.turn * table.column("turns"),
        opening_N=np.where(opening < 0, -1, opening + around + overhead.turn),
    )


def _image_tokens(table: Table, reader: Reader) -> Int64[np.ndarray, " N"]:
    sizes, which_N = table.picture_sizes()
    counts: Int64[np.ndarray, " K"] = np.array(
        [sum(reader.image_tokens(kind)) for kind in sizes], dtype=np.int64
    )
    return counts[which_N]


@dataclass(frozen=True, kw_only=True)
class _Overhead:
    """Most tokens that a template adds: once, per turn, per picture (beside its image tokens)."""

    whole: int
    turn: int
    picture: int


def _overhead(reader: Reader) -> _Overhead:
    def size(questions: Sequence[str], images: Sequence[int]) -> int:
        quiet, recorder = recording(reader)
        encoded = quiet.encode([Exchange(question, "a") for question in questions], images)
        # One more per text: a sentencepiece tokenizer puts a blank before each.
        return len(encoded.input_ids) + sum(len(text.encode()) + 1 for text in recorder.texts)

    one, two = size(["q"], ()), size(["q", "q"], ())
    shown = size([f"{IMAGE_TOKEN}\nq"], (1,))
    return _Overhead(whole=one, turn=max(0, two - one), picture=max(0, shown - one) + 2)

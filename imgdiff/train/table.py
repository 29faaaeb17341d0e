"""All samples of a run in one memory-mapped Arrow file, built once and found again.

A table lies in CACHE/tables/KEY, KEY being the fingerprint of the data files' content, the image
folders and the rules of reading. Memory is flat in the number of rows while building and while
reading. Rows of one source are neighbours, in the order of its file.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64

from imgdiff.backends.chat_templates import Exchange
from imgdiff.core.errors import DataError, StoreError
from imgdiff.core.files import read_json
from imgdiff.core.identity import fingerprint
from imgdiff.train.samples import Sample, Size, pictures_of
from imgdiff.train.source_config import DataFile, Pairs, RowRules, SourceConfig, expand_sources

TABLE_VERSION = 2  # of the file's columns and of the rules that make them
SAMPLES_FILE, MANIFEST = "samples.arrow", "table.json"
BATCH_ROWS = 4096  # of each record batch but the last
SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("source", pa.int32()), ("row", pa.int32()),
        ("texts", pa.list_(pa.string())), ("images", pa.list_(pa.string())),
        ("sizes", pa.list_(pa.int32())), ("pictures", pa.int32()), ("turns", pa.int32()),
        ("words", pa.int32()), ("text_bytes", pa.int32()),
        ("opening_bytes", pa.int32()),
    ]
)  # fmt: skip
_READ_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSource:
    """A data set in the table: rows start .. start + rows, how they are repeated and weighted."""

    name: str
    file: str
    root: str
    start: int
    rows: int
    sha256: str
    skipped: dict[str, int]  # left out, by reason
    repeat: float = 1.0
    weight: float | None = None


class Table:
    """A handle on a built table; cheap to pickle, maps the file on first use in each process."""

    def __init__(self, folder: Path, shares: tuple[tuple[float, float | None], ...] = ()) -> None:
        """`shares`: repeat and weight of each source, which the file does not hold."""
        self.folder = folder
        self._shares = shares
        manifest = read_json(folder / MANIFEST)
        self.identity: str = manifest["identity"]
        self.notices: tuple[str, ...] = tuple(manifest["notices"])
        self.has_sizes: bool = manifest["has_sizes"]
        self._pairs = Pairs(manifest["pairs"])
        known = shares or ((1.0, None),) * len(manifest["sources"])
        self.sources = tuple(
            TableSource(**source, repeat=repeat, weight=weight)
            for source, (repeat, weight) in zip(manifest["sources"], known, strict=True)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return (Table, (self.folder, self._shares))

    def __len__(self) -> int:
        return sum(source.rows for source in self.sources)

    def sample(self, row: int) -> Sample:
        """The sample of one row (from 0); about 50 microseconds."""
        batch = self._batches[row // BATCH_ROWS]
        values = {
            name: batch.column(name)[row % BATCH_ROWS].as_py()
            for name in ("id", "source", "texts", "images", "sizes")
        }
        root = Path(self.sources[values["source"]].root)
        texts = values["texts"]
        return Sample(
            id=values["id"],
            source=values["source"],
            turns=tuple(map(Exchange, texts[::2], texts[1::2])),
            pictures=pictures_of(
                [root / name for name in values["images"]],
                _as_sizes(values["sizes"]),
                self._pairs,
            ),
        )

    def picture_sizes(self) -> tuple[list[tuple[Size, ...]], Int32[np.ndarray, " N"]]:
        """The distinct sizes of pictures, and which of them each row has; no text is looked at."""
        known: dict[tuple[int, ...], int] = {}
        found = [np.empty(0, dtype=np.int32)]
        for batch in self._batches:
            kinds, which = _distinct(batch.column("sizes"))
            numbers = [known.setdefault(kind, len(known)) for kind in kinds]
            found.append(np.asarray(numbers, dtype=np.int32)[which])
        sizes = []
        for flat in known:
            pairs = _as_sizes(flat)
            pictures = pictures_of([Path()] * len(pairs), pairs, self._pairs)
            sizes.append(tuple(picture.size for picture in pictures))
        return sizes, np.concatenate(found)

    def place(self, row: int) -> str:
        """Where a row stands, for messages: file, number in it, id."""
        batch, offset = self._batches[row // BATCH_ROWS], row % BATCH_ROWS
        source, number, name = (batch.column(c)[offset].as_py() for c in ("source", "row", "id"))
        return f"{self.sources[source].file}: sample {number} (id {name!r})"

    @functools.cached_property
    def _batches(self) -> list[Any]:
        path = self.folder / SAMPLES_FILE
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            return [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except (pa.ArrowException, OSError) as error:
            raise StoreError(
                f"{path}: damaged table ({error}). Delete its folder; it is then built anew."
            ) from None

    def column(self, name: str) -> Int32[np.ndarray, " N"]:
        """A whole number per row: `source`, `row` (in its file), `pictures`, `turns`,
        `words` (LLaVA's count), `text_bytes` (upper bound of the UTF-8 bytes of all texts),
        `opening_bytes` (of the first question, where it shows all images and is answered; else -1).
        """
        return np.concatenate([batch.column(name).to_numpy() for batch in self._batches])


def _distinct(lists: Any) -> tuple[list[tuple[int, ...]], Int64[np.ndarray, " R"]]:
    """The distinct ones of R lists of numbers, and which of them each list is."""
    offsets = lists.offsets.to_numpy()
    counts, flat = np.diff(offsets), lists.values.to_numpy()
    padded = np.full((len(counts), int(counts.max(initial=0))), -1, dtype=np.int64)
    padded[np.arange(padded.shape[1]) < counts[:, None]] = flat[offsets[0] : offsets[-1]]
    kinds, which = np.unique(padded, axis=0, return_inverse=True)
    return [tuple(kind[kind >= 0].tolist()) for kind in kinds], which.reshape(-1)


def _as_sizes(flat: Sequence[int]) -> list[Size]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def open_table(
    sources: Mapping[str, SourceConfig], rules: RowRules, cache: Path, threads: int = 4
) -> Table:
    """The table of these sources, built if it is not in the cache.

    ConfigError for settings, DataError for a bad file, or for a bad row where the rules say `fail`
    (with file, line, id, value, rule and remedy). `threads` look at images.
    """
    files = expand_sources(sources)
    contents = [content_sha256(file.path) for file in files]
    folder = cache / "tables" / _key(files, contents, rules)
    if not (folder / MANIFEST).exists():
        from imgdiff.train.table_build import build_table

        build_table(folder, files, contents, rules, threads)
    return Table(folder, tuple((file.config.repeat, file.config.weight) for file in files))


def _key(files: list[DataFile], contents: list[str], rules: RowRules) -> str:
    """Image folders are part of it: their files were looked at."""
    read = [
        (
            file.name, file.path, content, file.root, file.config.cap, file.declared_rows,
            file.notices,
        )
        for file, content in zip(files, contents, strict=True)
    ]  # fmt: skip
    return fingerprint(TABLE_VERSION, dataclasses.asdict(rules), read)


def content_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            while chunk := handle.read(_READ_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    return digest.hexdigest()

"""Files of cells: what one shard knows of one kind, written whole, checked on reading.

A file is named after its content (`000012-<digest>.parquet`), so a flipped byte or a cut end is
seen, and two writers never write the same file. Who adds cells writes one file with all that it
knows and removes the files that it had read: files stay few, and nothing that another process
wrote in between is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int32

from imgdiff.core.console import say
from imgdiff.core.errors import StoreError
from imgdiff.core.files import atomic_path

DIGEST_BYTES = 8
ASIDE = ".damaged"  # suffix of a file that is not what its name says
_TRIES = 20  # of reading while other processes replace files
ABSENT = np.iinfo(np.int32).min  # of an array's entry: never computed
NOTHING = ABSENT + 1  # computed, and there is no number

Value = TypeVar("Value")


@runtime_checkable
class Codec(Protocol[Value]):
    """How cells of one type lie in a Parquet file, and what two writers' cells make together."""

    def encode(self, cells: Mapping[str, Value]) -> pa.Table:
        """Rows sorted by key, so that equal cells give equal bytes."""

    def decode(self, table: pa.Table) -> dict[str, Value]:
        """The cells of `encode`."""

    def merge(self, old: Value, new: Value) -> Value:
        """What is known of a key that both have."""


class JsonCells:
    """Any JSON value. Of two that differ the one that was there first stays."""

    SCHEMA = pa.schema([("key", pa.string()), ("value", pa.string())])

    def encode(self, cells: Mapping[str, Any]) -> pa.Table:
        """One row per cell."""
        rows = sorted(cells.items())
        keys = [key for key, _ in rows]
        values = [json.dumps(value, ensure_ascii=False) for _, value in rows]
        return pa.table({"key": keys, "value": values}, schema=self.SCHEMA)

    def decode(self, table: pa.Table) -> dict[str, Any]:
        """Parsed again."""
        keys, values = (table.column(name).to_pylist() for name in ("key", "value"))
        return {key: json.loads(value) for key, value in zip(keys, values, strict=True)}

    def merge(self, old: Any, new: Any) -> Any:
        """The first."""
        del new
        return old


class ArrayCells:
    """int32 arrays, flat. Where one has ABSENT the other's entry counts."""

    SCHEMA = pa.schema([("key", pa.string()), ("value", pa.list_(pa.int32()))])

    def encode(self, cells: Mapping[str, Int32[np.ndarray, " _"]]) -> pa.Table:
        """One row per cell."""
        keys = sorted(cells)
        arrays = [cells[key] for key in keys]
        ends = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
        flat = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
        values = pa.ListArray.from_arrays(_to_arrow(ends), _to_arrow(flat))
        return pa.table({"key": pa.array(keys, pa.string()), "value": values}, schema=self.SCHEMA)

    def decode(self, table: pa.Table) -> dict[str, Int32[np.ndarray, " _"]]:
        """Views of one array."""
        keys = table.column("key").to_pylist()
        if not keys:
            return {}
        column = table.column("value").combine_chunks()
        flat, ends = _to_numpy(column.flatten()), _to_numpy(column.offsets)
        ends = ends - ends[0]
        return {key: flat[ends[n] : ends[n + 1]] for n, key in enumerate(keys)}

    def merge(
        self, old: Int32[np.ndarray, " N"], new: Int32[np.ndarray, " N"]
    ) -> Int32[np.ndarray, " N"]:
        """Both together; arrays of two lengths mean two things, and the first stays."""
        if old.shape != new.shape:
            return old
        merged: Int32[np.ndarray, " N"] = np.where(old == ABSENT, new, old)
        return merged


# pyarrow's own ways from and to NumPy import pandas, which takes longer than most look-ups.
def _to_arrow(values: Int32[np.ndarray, " N"]) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values)])


def _to_numpy(values: pa.Array) -> Int32[np.ndarray, " N"]:
    data = values.buffers()[1]
    if data is None or not len(values):
        return np.zeros(0, dtype=np.int32)
    held = np.frombuffer(data, dtype=np.int32)
    return held[values.offset : values.offset + len(values)]


class Table:
    """The cells of one kind for one shard, as this process knows them."""

    def __init__(self, folder: Path, shard: int, codec: Codec[Any]) -> None:
        """Read what is there; a damaged file is set aside with a word, and its cells are absent."""
        self.folder = folder
        self.shard = shard
        self._codec = codec
        self._files: list[Path] = []
        self.cells: dict[str, Any] = {}
        self._read()

    def add(self, cells: Mapping[str, Any]) -> None:
        """Take in cells and put all that is known into one file. StoreError for a full disk."""
        self._take(cells)
        data = _bytes_of(self._codec.encode(self.cells))
        path = self.folder / f"{self.shard:06d}-{_digest(data)}.parquet"
        if path not in self._files:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        for file in self._files:
            if file != path:
                file.unlink(missing_ok=True)
        self._files = [path]

    def _take(self, cells: Mapping[str, Any]) -> None:
        for key, value in cells.items():
            if key in self.cells:
                value = self._codec.merge(self.cells[key], value)
            self.cells[key] = value

    def _read(self) -> None:
        """All files, or from the start where another process replaced one meanwhile."""
        for _ in range(_TRIES):
            files = sorted(self.folder.glob(f"{self.shard:06d}-*.parquet"))
            try:
                parts = [(file, self._cells_of(file)) for file in files]
            except FileNotFoundError:
                continue
            for file, cells in parts:
                if cells is not None:
                    self._files.append(file)
                    self._take(cells)
            return
        raise StoreError(
            f"{self.folder}: other processes replace the files of shard {self.shard} faster than "
            "they can be read. Run the same command again."
        )

    def _cells_of(self, file: Path) -> dict[str, Any] | None:
        """The cells of a file, or None (and the file set aside) where it is damaged."""
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(
                f"{file}: cannot be read ({error.strerror or error}). Make it readable, or delete "
                "it: its scores are then computed anew."
            ) from None
        if file.stem.rpartition("-")[2] == _digest(data):
            with pq.ParquetFile(pa.BufferReader(data)) as opened:
                return self._codec.decode(opened.read())
        aside = file.with_name(f"{file.name}{ASIDE}")
        say(f"{file}: damaged (its content is not what its name says); computed anew.")
        try:
            file.replace(aside)
        except OSError:
            say(f"{file}: cannot be set aside; it is passed over.")
        return None


def _bytes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()

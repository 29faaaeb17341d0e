"""The files of a run, read so that memory does not grow with them: batches of a few columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float64, Int64

from imgdiff.core.errors import DataError
from imgdiff.core.files import read_json
from imgdiff.synth.export import PAIR_SCHEMA, REGION_SCHEMA
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.removal_export import REMOVAL_SCHEMA

BATCH_ROWS = 16_384
SCHEMAS = {"pairs": PAIR_SCHEMA, "regions": REGION_SCHEMA, "removals": REMOVAL_SCHEMA}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run's folder, the settings that made it, and `funnel.json`."""

    folder: Path
    settings: dict[str, Any]
    funnel: dict[str, Any]

    @property
    def edit(self) -> Edit:
        """What the run made (older runs and replacing ones do not say)."""
        return Edit(self.settings.get("edit", "replace"))

    @property
    def samples(self) -> int:
        """How many samples it exported."""
        return int(self.funnel["samples"])

    def path(self, table: str) -> Path:
        """The Parquet file of `pairs`, `regions` or `removals`."""
        return self.folder / f"{table}.parquet"


def open_run(folder: Path, *, finished: bool = True) -> Run:
    """The run in `folder`; DataError where there is none, or one that has not ended.

    `finished=False` is for the run itself, which writes its pictures before it is complete.
    """
    manifest = folder / "run.json"
    if not manifest.is_file():
        raise DataError(
            f"{folder}: holds no run (no run.json). Give the output_dir of a finished "
            "`python -m imgdiff.synth`."
        )
    held = read_json(manifest)
    settings = held.get("settings") if isinstance(held, dict) else None
    if not isinstance(settings, dict) or not isinstance(settings.get("rules"), dict):
        raise DataError(
            f"{manifest}: is not of `python -m imgdiff.synth`. Give the output_dir of such a run."
        )
    if finished and not held.get("complete"):
        raise DataError(
            f"{folder}: the run has not ended. Type its command again to finish it; what is done "
            "is kept."
        )
    if settings.get("stop_after") == "decide":
        raise DataError(
            f"{folder}: the run only decided and has no tables. Make it with stop_after=export."
        )
    funnel = read_json(folder / "funnel.json")
    if not isinstance(funnel, dict) or not {"items", "samples", "pairs_with_samples"} <= set(
        funnel
    ):
        raise DataError(
            f"{folder / 'funnel.json'}: is not the funnel of a run. Make the run again."
        )
    return Run(folder=folder, settings=settings, funnel=funnel)


class Batch:
    """Some rows of a table. Columns that its file lacks read as if nothing stood in them."""

    def __init__(self, rows: pa.RecordBatch, absent: Sequence[str] = ()) -> None:
        self._rows = rows
        self._absent = frozenset(absent)

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def has(self, name: str) -> bool:
        """Whether the file has this column."""
        return name not in self._absent

    def numbers(self, name: str) -> Float64[np.ndarray, " N"]:
        """A column of numbers; NaN where there is none."""
        column = self._rows.column(name).cast(pa.float64())
        return _plain(column, np.float64, math.nan)

    def not_numbers(self, name: str) -> int:
        """How many of them were written as NaN."""
        return int(np.isnan(self.numbers(name)).sum()) - int(self._rows.column(name).null_count)

    def flags(self, name: str) -> Bool[np.ndarray, " N"]:
        """A column of truth values; False where there is none."""
        return _plain(self._rows.column(name).cast(pa.int8()), np.int8, 0).astype(bool)

    def values(self, name: str, where: Bool[np.ndarray, " N"] | None = None) -> list[Any]:
        """A column as Python values, of the rows that `where` marks."""
        column = self._rows.column(name)
        if where is not None:
            column = column.filter(_mask(where))
        values: list[Any] = column.to_pylist()
        return values

    def coded(self, name: str) -> tuple[list[str | None], Int64[np.ndarray, " N"]]:
        """The distinct texts of a column, and which of them each row has."""
        column = self._rows.column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode(null_encoding="encode")
        return column.dictionary.to_pylist(), _plain(column.indices.cast(pa.int64()), np.int64, -1)


# By their buffers: Arrow's own ways from and to numpy import pandas, which takes longer than to
# count a small run.
def _plain(column: pa.Array, kind: type[np.generic], absent: float) -> np.ndarray:
    """The values of a column of this type, `absent` in the place of nulls."""
    bits, data = column.buffers()
    end = column.offset + len(column)
    if not len(column):
        return np.zeros(0, dtype=kind)
    values = np.frombuffer(data, dtype=kind, count=end)[column.offset :]
    if bits is None:
        return values
    known = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little", count=end)
    return np.where(known[column.offset :].astype(bool), values, kind(absent))


def _mask(where: Bool[np.ndarray, " N"]) -> pa.Array:
    bits = pa.py_buffer(np.packbits(where, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(where), [None, bits])


def batches(
    run: Run, table: str, columns: Sequence[str], rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """Consecutive rows of a table, of which only `columns` are read.

    Columns that the file lacks are empty. DataError for a file that is absent or damaged, or whose
    columns have other types.
    """
    path = run.path(table)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Make the run again, or copy its whole folder.")
    try:
        # A pair's id repeats in each of its boxes: read as codes, it is made into text once.
        coded = ["pair_id"] if "pair_id" in set(columns).intersection(_names(path)) else []
        # pre_buffer would keep all that was ever read.
        with pq.ParquetFile(path, read_dictionary=coded, pre_buffer=False) as file:
            wanted = _checked(path, file.schema_arrow, SCHEMAS[table], columns)
            absent = [name for name in columns if name not in wanted]
            for held in file.iter_batches(batch_size=rows, columns=wanted, use_threads=False):
                yield Batch(_with_nulls(held, SCHEMAS[table], absent), absent)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Make the run again.") from None


def absent_columns(run: Run, table: str, columns: Sequence[str]) -> list[str]:
    """Those of `columns` that the file of a table lacks; DataError where it cannot be read."""
    path = run.path(table)
    if not path.is_file():
        raise DataError(f"{path}: no such file. Make the run again, or copy its whole folder.")
    try:
        names = _names(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Make the run again.") from None
    return [name for name in columns if name not in names]


def _names(path: Path) -> list[str]:
    return list(pq.read_schema(path).names)


def _with_nulls(rows: pa.RecordBatch, known: pa.Schema, absent: Sequence[str]) -> pa.RecordBatch:
    for name in absent:
        kind = known.field(name).type
        rows = rows.append_column(name, pa.nulls(len(rows), kind))
    return rows


def _checked(path: Path, found: pa.Schema, known: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Those of the columns that are there; DataError where one is of another type."""
    wanted = [name for name in columns if name in found.names]
    for name in wanted:
        held = found.field(name).type
        if pa.types.is_dictionary(held):
            held = held.value_type
        if held != known.field(name).type:
            raise DataError(
                f"{path}: {name} is of type {held}, which must be {known.field(name).type}. Make "
                "the run again."
            )
    return wanted

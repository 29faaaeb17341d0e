"""The score store: what was computed once is never computed again.

A cell is what is known of one thing that a model saw, under its content key. Cells of one kind
(stage name and fingerprint of all that changes the value) and one shard of the source lie together
in the files of one `Table`. A killed run loses at most the shard it was working on; several
processes may write at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int32

from imgdiff.core.errors import StoreError
from imgdiff.core.files import read_json, write_json
from imgdiff.core.tables import ABSENT, NOTHING, ArrayCells, Codec, JsonCells, Table

SCHEMA = 2  # of the folders and files below a root
_MARK = "store.json"
_KEPT_TABLES = 64  # shard tables held in memory per process: bounds memory, spares re-reading

Compute = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(kw_only=True, slots=True)
class Entries:
    """Entries of one array that are wanted: `indices` of `length`, computed from `item`."""

    key: str
    length: int
    indices: list[int]
    item: Any = field(repr=False)


class Store:
    """All tables under one root folder."""

    def __init__(self, root: Path, source: str) -> None:
        """`source` is the fingerprint of the item source: it names the shards.

        StoreError for a folder that another version of imgdiff wrote.
        """
        self.root = root
        self.source = source
        self._tables: OrderedDict[tuple[Path, int], Table] = OrderedDict()
        _check_schema(root)

    def folder(self, kind: str, fingerprint: str) -> Path:
        """Where a kind keeps its tables (and, for generated images, the images)."""
        return self.root / kind / fingerprint / self.source

    def table(self, kind: str, fingerprint: str, shard: int, codec: Codec[Any]) -> Table:
        """The table, from memory when it was used lately."""
        folder = self.folder(kind, fingerprint)
        table = self._tables.pop((folder, shard), None) or Table(folder, shard, codec)
        self._tables[folder, shard] = table
        while len(self._tables) > _KEPT_TABLES:
            self._tables.popitem(last=False)
        return table

    def values(
        self,
        kind: str,
        fingerprint: str,
        shard: int,
        keyed: Iterable[tuple[str, Any]],
        compute: Compute,
    ) -> list[Any]:
        """One JSON value per (key, item), in order; computes and stores the absent ones.

        Equal keys are computed once.
        """
        pairs = list(keyed)
        table = self.table(kind, fingerprint, shard, JsonCells())
        absent = {key: item for key, item in pairs if key not in table.cells}
        if absent:
            values = compute(list(absent.values()))
            table.add(dict(zip(absent, values, strict=True)))
        return [table.cells[key] for key, _ in pairs]

    def arrays(
        self,
        kind: str,
        fingerprint: str,
        shard: int,
        keyed: Iterable[tuple[str, Any]],
        compute: Compute,
        *,
        width: int,
        digits: int,
    ) -> list[Float64[np.ndarray, "_ _"]]:
        """As `values`, for arrays of any number of rows of `width` numbers, kept at `digits`."""
        pairs = list(keyed)
        table = self.table(kind, fingerprint, shard, ArrayCells())
        absent = {key: item for key, item in pairs if key not in table.cells}
        if absent:
            made = [
                packed(np.asarray(rows, dtype=np.float64).reshape(-1, width), digits)
                for rows in compute(list(absent.values()))
            ]
            table.add(dict(zip(absent, made, strict=True)))
        return [unpacked(table.cells[key], width, digits) for key, _ in pairs]

    def entries(
        self,
        kind: str,
        fingerprint: str,
        shard: int,
        asked: Sequence[Entries],
        compute: Compute,
        *,
        width: int,
        digits: int,
    ) -> list[Float64[np.ndarray, "_ _"]]:
        """For each one its whole array, in which at least the wanted rows are known.

        `compute` gets a list of (item, index) and returns a row of `width` numbers, NaN for none,
        for each. Rows that nobody ever asked for are NaN too.
        """
        table = self.table(kind, fingerprint, shard, ArrayCells())
        absent = _absent(table.cells, asked, width)
        if absent:
            rows = np.asarray(compute([(one.item, index) for one, index in absent]))
            table.add(_filled(absent, packed(rows.reshape(-1, width), digits), width))
        unknown = {one.key: np.full(one.length * width, ABSENT, dtype=np.int32) for one in asked}
        cells = unknown | {key: table.cells[key] for key in unknown if key in table.cells}
        return [unpacked(cells[one.key], width, digits) for one in asked]


def _absent(
    cells: Mapping[str, Int32[np.ndarray, " _"]], asked: Sequence[Entries], width: int
) -> list[tuple[Entries, int]]:
    """The wanted entries that no cell has, each once."""
    found: dict[tuple[str, int], Entries] = {}
    for one in asked:
        known = cells.get(one.key)
        for index in one.indices:
            if known is None or known[index * width] == ABSENT:
                found.setdefault((one.key, index), one)
    return [(one, index) for (_, index), one in found.items()]


def packed(rows_NW: Float[np.ndarray, "N W"], digits: int) -> Int32[np.ndarray, " M"]:
    """Numbers as whole units of the last kept digit, which lose nothing that rounding kept.

    StoreError for an infinite number or one that is too large.
    """
    units = np.rint(rows_NW.astype(np.float64).ravel() * 10**digits)
    if not (np.abs(units[~np.isnan(units)]) < -float(NOTHING)).all():
        raise StoreError(f"a score beyond {-NOTHING / 10**digits:.0f} cannot be stored")
    return np.where(np.isnan(units), NOTHING, units).astype(np.int32)


def unpacked(
    units_M: Int32[np.ndarray, " M"], width: int, digits: int
) -> Float64[np.ndarray, "N W"]:
    """The numbers again; NaN where there is none, or none is known."""
    rows: Float64[np.ndarray, "N W"] = units_M.reshape(-1, width) / 10**digits
    rows[units_M.reshape(-1, width) <= NOTHING] = np.nan
    return rows


def _filled(
    absent: Sequence[tuple[Entries, int]], units: Int32[np.ndarray, " M"], width: int
) -> dict[str, Int32[np.ndarray, " _"]]:
    """New cells with the computed entries in their places."""
    rows = units.reshape(-1, width)
    made: dict[str, Int32[np.ndarray, " _"]] = {}
    for (one, index), row in zip(absent, rows, strict=True):
        cell = made.setdefault(one.key, np.full(one.length * width, ABSENT, dtype=np.int32))
        cell[index * width : (index + 1) * width] = row
    return made


def _check_schema(root: Path) -> None:
    mark = root / _MARK
    # In this order: who fills a new store at the same time writes the mark before any folder.
    filled = root.is_dir() and any(entry.is_dir() for entry in root.iterdir())
    found = read_json(mark).get("schema") if mark.exists() else (1 if filled else SCHEMA)
    if found != SCHEMA:
        raise StoreError(
            f"store_dir={root}: holds scores in format {found}, and this imgdiff reads format "
            f"{SCHEMA}. Choose another store_dir, or delete that folder; its scores are then "
            "computed anew."
        )
    if not mark.exists():
        write_json(mark, {"schema": SCHEMA})

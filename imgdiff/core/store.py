"""The score store: what was computed once is never computed again.

A cell is one value keyed by what the model saw. Cells of one kind (stage name and fingerprint of
all that changes the value) and one shard of the source live in one Parquet file, written whole and
atomically: a killed run loses at most the shard it was working on.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgdiff.core.errors import StoreError
from imgdiff.core.files import atomic_path

_SCHEMA = pa.schema([("key", pa.string()), ("value", pa.string())])
_KEPT_TABLES = 64  # shard tables held in memory per process: bounds memory, spares re-reading

Compute = Callable[[Sequence[Any]], Sequence[Any]]


class Table:
    """The cells of one kind for one shard. Values are JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells: dict[str, Any] = _read(path)

    def add(self, cells: Mapping[str, Any]) -> None:
        """Add cells and write the file; rows are sorted by key, so equal cells give equal bytes."""
        self.cells.update(cells)
        rows = sorted(self.cells.items())
        table = pa.table(
            {
                "key": [key for key, _ in rows],
                "value": [json.dumps(value, ensure_ascii=False) for _, value in rows],
            },
            schema=_SCHEMA,
        )
        with atomic_path(self.path) as temporary:
            pq.write_table(table, temporary, compression="zstd")


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        with pq.ParquetFile(path) as file:  # pq.read_table imports pandas
            table = file.read()
        keys, values = table.column("key").to_pylist(), table.column("value").to_pylist()
        return {key: json.loads(value) for key, value in zip(keys, values, strict=True)}
    except (pa.ArrowException, OSError, KeyError, json.JSONDecodeError) as error:
        raise StoreError(
            f"{path}: damaged score table ({error}). Delete that file; its scores are then "
            "computed anew."
        ) from None


class Store:
    """All tables under one root folder. One process writes one shard at a time."""

    def __init__(self, root: Path, source: str) -> None:
        """`source` is the fingerprint of the item source: it names the shards."""
        self.root = root
        self.source = source
        self._tables: OrderedDict[Path, Table] = OrderedDict()

    def folder(self, kind: str, fingerprint: str) -> Path:
        """Where a kind keeps its tables (and, for generated images, the images)."""
        return self.root / kind / fingerprint / self.source

    def table(self, kind: str, fingerprint: str, shard: int) -> Table:
        """The table, from memory when it was used lately."""
        path = self.folder(kind, fingerprint) / f"{shard:06d}.parquet"
        table = self._tables.pop(path, None) or Table(path)
        self._tables[path] = table
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
        """One value per (key, item), in order; computes and stores the absent ones.

        Equal keys are computed once.
        """
        pairs = list(keyed)
        table = self.table(kind, fingerprint, shard)
        absent = {key: item for key, item in pairs if key not in table.cells}
        if absent:
            values = compute(list(absent.values()))
            table.add(dict(zip(absent, values, strict=True)))
        return [table.cells[key] for key, _ in pairs]

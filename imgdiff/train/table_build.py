"""Building a table: rows are read, checked and written in batches, so memory stays flat."""

from __future__ import annotations

import gc
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from imgdiff.core.console import meter
from imgdiff.core.errors import DataError
from imgdiff.core.files import atomic_path, write_json
from imgdiff.core.identity import fingerprint
from imgdiff.train.image_check import ImageFiles, Looked
from imgdiff.train.rows import RawRow, raw_rows
from imgdiff.train.samples import PAIR, Defect, Draft, parse_row
from imgdiff.train.source_config import DataFile, ImageCheck, OnDefect, Pairs, RowRules
from imgdiff.train.table import BATCH_ROWS, MANIFEST, SAMPLES_FILE, SCHEMA, TABLE_VERSION

EXAMPLES = 3  # skipped rows that are named, per source
CHUNK_ROWS = 2048  # whose images are looked at together
MIB = 1 << 20


@dataclass(kw_only=True)
class _Tally:
    """What became of the rows of one source."""

    start: int
    kept: int = 0
    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


class _Writer:
    """Collects rows and writes a record batch whenever BATCH_ROWS are there."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        self.rows = 0
        self.digest = hashlib.sha256()  # of all that the data files' bytes do not say

    def add(self, values: Mapping[str, Any]) -> None:
        """One row with a value for every column."""
        for name, column in self._columns.items():
            column.append(values[name])
        self.rows += 1
        if self.rows % BATCH_ROWS == 0:
            self.flush()

    def flush(self) -> None:
        """Write what is there."""
        columns = self._columns
        if not columns["id"]:
            return
        for name in ("source", "row", "pictures"):
            self.digest.update(np.asarray(columns[name], dtype=np.int64).tobytes())
        sizes = [side for sizes in columns["sizes"] for side in sizes]
        self.digest.update(np.asarray(sizes, dtype=np.int64).tobytes())
        arrays = [pa.array(columns[entry.name], type=entry.type) for entry in SCHEMA]
        self._sink.write_batch(pa.record_batch(arrays, schema=SCHEMA))
        for column in columns.values():
            column.clear()


def build_table(
    folder: Path, files: Sequence[DataFile], contents: Sequence[str], rules: RowRules, threads: int
) -> None:
    """Write the table of `files` into `folder`; its manifest comes last. Errors as `open_table`.

    The identity of the table names what it holds, wherever the files lie: their bytes, the rules,
    which rows were kept and how large their images are.
    """
    images = ImageFiles(rules.images, threads)
    total = sum(file.path.stat().st_size for file in files) / MIB
    path = folder / SAMPLES_FILE
    try:
        with (
            _without_collection(),
            meter(max(1, round(total)), "reading samples (MiB)") as bar,
            atomic_path(path) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_file(file, SCHEMA) as sink,
        ):
            writer = _Writer(sink)
            tallies = [
                _add_source(writer, number, file, rules, images, bar.advance)
                for number, file in enumerate(files)
            ]
            writer.flush()
    finally:
        images.close()
    kept = writer.digest.hexdigest()
    identity = fingerprint(TABLE_VERSION, list(contents), rules.pairs, kept)
    write_json(folder / MANIFEST, _manifest(identity, files, contents, tallies, rules))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Rows hold no cycles, and the search for cycles takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _add_source(
    writer: _Writer,
    number: int,
    file: DataFile,
    rules: RowRules,
    images: ImageFiles,
    advance: Callable[[float], None],
) -> _Tally:
    tally = _Tally(start=writer.rows)
    rows = raw_rows(file.path, lambda count: advance(count / MIB))
    for row, draft, looked in _checked(rows, file, rules.pairs, images):
        if tally.kept == file.config.cap:
            break
        tally.read += 1
        defect = draft if isinstance(draft, Defect) else _image_defect(looked)
        if defect is not None:
            _handle(defect, row, rules.defects, tally)
            continue
        assert isinstance(draft, Draft)
        tally.kept += 1
        writer.add(_values(number, row, draft, looked, rules.pairs))
    if not tally.kept:
        counted = f" ({dict(tally.skipped)} skipped)" if tally.skipped else ""
        raise DataError(
            f"{file.path}: no usable sample{counted}. A source needs at least one row; correct the "
            "file or remove the source."
        )
    return tally


def _checked(
    rows: Iterator[RawRow], file: DataFile, pairs: Pairs, images: ImageFiles
) -> Iterator[tuple[RawRow, Draft | Defect, list[Looked]]]:
    """Rows with their drafts and the verdicts on their images, chunk by chunk."""
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        drafts = [_draft(row, pairs) for row in chunk]
        names = [name for draft in drafts if isinstance(draft, Draft) for name in draft.images]
        verdicts = images.look(file.root, names)
        for row, draft in zip(chunk, drafts, strict=True):
            shown = draft.images if isinstance(draft, Draft) else ()
            yield row, draft, [verdicts[name] for name in shown]


def _draft(row: RawRow, pairs: Pairs) -> Draft | Defect:
    if row.error is not None:
        return Defect("malformed JSON", f"{row.error}. Correct the line.")
    try:
        return parse_row(row.number, row.value, pairs)
    except Defect as defect:
        return defect


def _image_defect(looked: Sequence[Looked]) -> Defect | None:
    bad = next((found for found in looked if found.reason), None)
    return None if bad is None else Defect(bad.reason, bad.message)


def _handle(defect: Defect, row: RawRow, policy: OnDefect, tally: _Tally) -> None:
    named = f" (id {row.value.get('id')!r})" if isinstance(row.value, Mapping) else ""
    message = f"{row.place}{named}: {defect}"
    if policy is OnDefect.fail:
        raise DataError(f"{message} Or set defects=skip to leave out and count such rows.")
    tally.skipped[defect.reason] += 1
    if len(tally.examples) < EXAMPLES:
        tally.examples.append(message)


def _values(
    source: int, row: RawRow, draft: Draft, looked: Sequence[Looked], pairs: Pairs
) -> dict[str, Any]:
    joined = len(draft.images) == PAIR and pairs is Pairs.concatenate
    return {
        "id": draft.id,
        "source": source,
        "row": row.number,
        "texts": draft.texts,
        "images": draft.images,
        "sizes": [side for found in looked for side in found.size],
        "pictures": 1 if joined else len(draft.images),
        "turns": len(draft.texts) // 2,
        "words": draft.words,
        "text_bytes": draft.text_bytes,
        "opening_bytes": draft.opening_bytes,
    }


def _manifest(
    identity: str,
    files: Sequence[DataFile],
    contents: Sequence[str],
    tallies: Sequence[_Tally],
    rules: RowRules,
) -> dict[str, Any]:
    notices: list[str] = []
    for file, tally in zip(files, tallies, strict=True):
        notices += file.notices
        if file.declared_rows not in (None, tally.read) and file.config.cap is None:
            notices.append(f"{file.name}: {tally.read} rows, its meta says {file.declared_rows}")
        if tally.skipped:
            reasons = ", ".join(f"{reason} {n}" for reason, n in tally.skipped.most_common())
            notices.append(f"{file.name}: {sum(tally.skipped.values())} rows left out ({reasons})")
            notices += [f"  {example}" for example in tally.examples]
    return {
        "identity": identity,
        "pairs": rules.pairs.value,
        "has_sizes": rules.images is not ImageCheck.exists,
        "notices": notices,
        "sources": [
            {
                "name": file.name, "file": str(file.path), "root": str(file.root),
                "sha256": content, "start": tally.start, "rows": tally.kept,
                "skipped": dict(tally.skipped),
            }
            for file, content, tally in zip(files, contents, tallies, strict=True)
        ],
    }  # fmt: skip

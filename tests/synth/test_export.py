"""Rows of JSON values become Parquet, exactly and without pandas."""

import math
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imgdiff.core.errors import DataError
from imgdiff.synth import export
from imgdiff.synth.export import (
    PAIR_SCHEMA,
    REGION_SCHEMA,
    SAMPLE_SCHEMA,
    dataset_schema,
    parquet_stream,
    table_of,
    with_image_bytes,
)

REPO = Path(__file__).resolve().parents[2]


def row_of(schema, **values):
    return {**dict.fromkeys(schema.names), **values}


@pytest.mark.parametrize(
    "text",
    ["", "two\nlines\r\n", "\u2028 \u2029", "nul \x00 byte", '"quoted" \\ {"a": 1}', "2020-01-01",
     "\U0001f600 \u0633\u0644\u0627\u0645", "null", "x" * 3_000_000],
    ids=["empty", "lines", "separators", "nul", "json", "date", "scripts", "null", "3 MB"],
)  # fmt: skip
def test_texts_come_back_as_they_were(text):
    row = row_of(PAIR_SCHEMA, id="a", caption_0=text, nouns_0=[text, text], nouns_1=[])
    rows = [row, row_of(PAIR_SCHEMA)]
    assert table_of(rows, PAIR_SCHEMA).to_pylist() == rows


def test_numbers_come_back_to_the_last_bit():
    scores = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1, 123456789.123456789, None]
    rows = [row_of(REGION_SCHEMA, side=k % 2, left=v, kept=k > 1) for k, v in enumerate(scores)]
    assert table_of(rows, REGION_SCHEMA).to_pylist() == rows
    seeds = [row_of(PAIR_SCHEMA, seed=seed, width=7) for seed in (0, 2**63 - 1)]
    assert table_of(seeds, PAIR_SCHEMA).to_pylist() == seeds
    odd = [row_of(REGION_SCHEMA, match_0=v) for v in (math.nan, math.inf, -math.inf)]
    first, *rest = table_of(odd, REGION_SCHEMA).column("match_0").to_pylist()
    assert math.isnan(first)
    assert rest == [math.inf, -math.inf]


def test_tables_are_those_of_the_constructor_from_lists():
    rows = [row_of(PAIR_SCHEMA, id=str(k), nouns_0=["a"] * k, seed=k) for k in range(50)]
    table = table_of(rows, PAIR_SCHEMA)
    assert table.equals(pa.Table.from_pylist(rows, schema=PAIR_SCHEMA))
    assert {column.num_chunks for column in table.columns} == {1}
    assert table_of([], PAIR_SCHEMA).equals(PAIR_SCHEMA.empty_table())


def test_a_key_beyond_the_schema_is_refused():
    with pytest.raises(pa.ArrowInvalid, match="unexpected field"):
        table_of([row_of(PAIR_SCHEMA, surprise=1)], PAIR_SCHEMA)


def samples_in(folder):
    """Three samples with image files that are any bytes at all."""
    contents = [b"\x00\xff one", b"", b"three"]
    rows = []
    for number, content in enumerate(contents):
        (folder / f"{number}.png").write_bytes(content)
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
        values = {"id": str(number), "image": f"{number}.png", "conversations": turns}
        rows.append(row_of(SAMPLE_SCHEMA, **values))
    return rows, contents


def test_images_are_embedded_as_their_bytes_and_path(tmp_path):
    rows, contents = samples_in(tmp_path)
    schema = dataset_schema(embed_images=True)
    with parquet_stream(tmp_path / "x.parquet", schema) as append:
        append(with_image_bytes(table_of(rows, SAMPLE_SCHEMA), tmp_path))
        append(with_image_bytes(table_of([], SAMPLE_SCHEMA), tmp_path))
    held = pq.read_table(tmp_path / "x.parquet")
    assert held.schema.equals(schema)
    assert b"huggingface" in held.schema.metadata
    images = [{"bytes": c, "path": row["image"]} for c, row in zip(contents, rows, strict=True)]
    assert held.to_pylist() == [{**r, "image": i} for r, i in zip(rows, images, strict=True)]


def test_more_images_than_a_column_holds_are_refused(tmp_path, monkeypatch):
    rows, _ = samples_in(tmp_path)
    monkeypatch.setattr(export, "MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"hold 11 bytes.*parquet_images=false, or a smaller shard"):
        with_image_bytes(table_of(rows, SAMPLE_SCHEMA), tmp_path)


CODE = """
import sys
from pathlib import Path
from imgdiff.synth.export import PAIR_SCHEMA, parquet_stream, table_of
with parquet_stream(Path(sys.argv[1]), PAIR_SCHEMA) as append:
    append(table_of([dict.fromkeys(PAIR_SCHEMA.names)], PAIR_SCHEMA))
sys.exit("pandas" in sys.modules)
"""


def test_writing_imports_no_pandas(tmp_path):
    command = [sys.executable, "-c", CODE, str(tmp_path / "x.parquet")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")

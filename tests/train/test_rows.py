"""Raw rows of every format, and files that are broken in every way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imgdiff.core.errors import DataError
from imgdiff.train import rows
from imgdiff.train.rows import raw_rows


def _values(path: Path) -> list[Any]:
    return [row.value for row in raw_rows(path, lambda _: None)]


@pytest.fixture(params=[3, 7, 64, 1 << 22])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(rows, "CHUNK_BYTES", request.param)
    return int(request.param)


VALUES = [{"id": 1, "t": 'ü"\\ ] }, {\n'}, [1, [2]], 12345, -1.5e3, "x,y", None, True, {"n": {}}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_list_is_read_the_same_in_any_chunks(
    tmp_path: Path, chunk: int, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path / "a.json"
    text = " \n" + json.dumps(VALUES, indent=indent, ensure_ascii=ascii_only) + "\n"
    path.write_text(text, encoding="utf-8")
    assert _values(path) == VALUES
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert _values(path) == VALUES
    path.write_text("[ ]")
    assert _values(path) == []


def test_rows_know_their_lines(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"a": 1},\n\n{"b":\n 2}, {"c": 3}\n]')
    assert [row.place for row in raw_rows(path, lambda _: None)] == [
        f"{path}:2: sample 0", f"{path}:4: sample 1", f"{path}:5: sample 2"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with ''"),
        ("  \n", "begins with ''"),
        ("null", "begins with 'n'"),
        ('"x"', "begins with"),
        ("[", r"a\.json:1:2: malformed JSON .Expecting value"),
        ('[{"a": 1},\n {"b"', r"a\.json:2:6: malformed"),
        ('[{"a": 1},\n {"b": 2}', r"a\.json:2:10: malformed JSON .the list does not end after sam"),
        ('[{"a": 1}\n {"b": 2}]', r"a\.json:2:2: .*expecting ',' or '\]' after sample 0"),
        ('[{"a": 1},]', r"a\.json:1:11: malformed"),
        ('[{"a": 1}] x', r"a\.json:1:12: .*text after the end of the list"),
        ('[{"a": "x]', "Unterminated string|malformed"),
        ("[{'a': 1}]", r"a\.json:1:3: malformed"),
        ('[{"a": 1}, tru]', r"a\.json:1:12: malformed"),
        ("[" * 200_000, "malformed|cannot be read"),
        ("[" + "1" * 5000 + "]", "a value cannot be read"),
    ],
)
def test_a_broken_list_is_refused_with_its_place(
    tmp_path: Path, chunk: int, text: str, message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    if len(text) > 1000 and chunk < 100:
        pytest.skip("a huge value in tiny chunks")
    with pytest.raises(DataError, match=message):
        _values(path)


def test_what_is_not_utf8_is_refused(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": "\xff\xfe"}]')
    with pytest.raises(DataError, match=r"a\.json: not UTF-8 text at about byte 8"):
        _values(path)
    path.write_bytes('[{"a": "ü'.encode()[:-1])
    with pytest.raises(DataError, match=r"not UTF-8|malformed"):
        _values(path)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_lines_are_rows_and_a_bad_line_is_one_bad_row(
    tmp_path: Path, chunk: int, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b'{"a": 1}\r\n\n{"b": \n{"c": "\xc3\xbc"}')
    found = list(raw_rows(path, lambda _: None))
    assert [row.value for row in found] == [{"a": 1}, None, {"c": "ü"}]
    assert found[1].place == f"{path}:3: sample 1"
    assert "malformed JSON (column" in str(found[1].error)
    assert [row.error for row in found[::2]] == [None, None]


TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (pa.string(), ["a.png", None], ["a.png", None]),
        (pa.list_(pa.string()), [["a.png", "b.png"], []], [["a.png", "b.png"], []]),
        (
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            [{"bytes": b"1", "path": "a.png"}, None],
            ["a.png", None],
        ),
        (pa.struct([("bytes", pa.binary()), ("path", pa.string())]), [{"bytes": b"1"}], [""]),
        (
            pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            [[{"bytes": b"1", "path": "a.png"}, {"bytes": b"2", "path": "b.png"}]],
            [["a.png", "b.png"]],
        ),
    ],
)
def test_parquet_gives_paths(tmp_path: Path, kind: pa.DataType, given: Any, read: Any) -> None:
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    table = pa.table(
        {
            "id": [str(k) for k in range(len(given))],
            "image": pa.array(given, type=kind),
            "conversations": pa.array([TURNS] * len(given), type=pa.list_(turn)),
            "other": [0] * len(given),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    found = _values(tmp_path / "a.parquet")
    assert [row["image"] for row in found] == read
    assert found[0]["conversations"] == TURNS
    assert set(found[0]) == {"id", "image", "conversations"}


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet"):
        _values(tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: columns \['id'\] have no 'conversations'"):
        _values(tmp_path / "b.parquet")


def test_progress_counts_every_byte(tmp_path: Path, chunk: int) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUES))
    taken: list[float] = []
    assert len(list(raw_rows(path, taken.append))) == len(VALUES)
    # The first chunk is looked at once more, to tell the format.
    assert sum(taken) == path.stat().st_size

"""Writing atomically and reading with errors that name the place."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from imgdiff.core.errors import DataError, StoreError
from imgdiff.core.files import (
    atomic_path,
    inside,
    read_json,
    remove_unfinished,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, {"z": 1, "a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "z": 1,\n  "a": "é"\n}\n'
    assert read_json(path) == {"z": 1, "a": "é"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_exception_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def stopped_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        stopped_half_way()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_full_disk_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, {"write": "write_text", "replace": "replace"}[where], full)
    with pytest.raises(StoreError, match=r"a\.txt: .*No space left.*Free space.*same command"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/a\.txt: could not be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b" 2}', r"a\.json:2:6: malformed JSON \(Expecting ':' delimiter\)"),
        (b"", r"a\.json:1:1: malformed JSON"),
        (b'[1, 2]\n{"more": 1}', r"a\.json:2:1: malformed JSON \(Extra data\)"),
        (b'{"a": "\xff"}', r"a\.json: not UTF-8 text at byte 7"),
        (b"[" * 200_000, r"a\.json: JSON nested too deeply|a\.json:1:\d+: malformed JSON"),
    ],
)
def test_malformed_json_names_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_json(path)


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_a_number_of_thousands_of_digits_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text("[" + "9" * 5000 + "]")
    with pytest.raises(DataError, match=r"long\.json: a value cannot be read"):
        read_json(path)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "images" / "a.png"
    write_text(kept, "whole")
    with atomic_path(kept) as temporary:
        left = temporary.with_name(temporary.name.replace(".tmp", "x.tmp"))
        left.write_text("half")
    remove_unfinished(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]


def test_missing_file_and_folder_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "deep/a.png", "./a.png", "deep/../a.png", "..a/b"])
def test_names_inside_the_root(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name).is_relative_to(tmp_path.resolve())


@pytest.mark.parametrize("name", ["../a.png", "deep/../../a.png", "/etc/passwd", ".."])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="leaves the data root"):
        inside(tmp_path / "root", name)


def test_a_neighbour_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    (tmp_path / "root-secret").mkdir()
    with pytest.raises(DataError, match="leaves the data root"):
        inside(tmp_path / "root", "../root-secret/a")


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "way").symlink_to(tmp_path)
    with pytest.raises(DataError, match="leaves the data root"):
        inside(root, "way/a.png")


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="zero byte"):
        inside(tmp_path, "a\0.png")

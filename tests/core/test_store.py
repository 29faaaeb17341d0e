"""The score store: computed once, kept by content, whole files only."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from imgdiff.core.errors import StoreError
from imgdiff.core.store import Entries, Store, packed, unpacked
from imgdiff.core.tables import ArrayCells, JsonCells


def _never(items):
    raise AssertionError(f"computed again: {items}")


def test_values_are_computed_once_and_read_back(tmp_path):
    asked = []

    def double(items):
        asked.extend(items)
        return [item * 2 for item in items]

    store = Store(tmp_path, "source")
    keyed = [("a", 1), ("b", 2), ("a", 1)]
    assert store.values("kind", "fp", 0, keyed, double) == [2, 4, 2]
    assert asked == [1, 2]
    assert Store(tmp_path, "source").values("kind", "fp", 0, keyed, _never) == [2, 4, 2]


def test_only_absent_cells_are_computed(tmp_path):
    store = Store(tmp_path, "source")
    store.values("kind", "fp", 0, [("a", 1)], lambda items: [0.5])
    asked = []

    def record(items):
        asked.extend(items)
        return [0.25]

    assert store.values("kind", "fp", 0, [("a", 1), ("b", 2)], record) == [0.5, 0.25]
    assert asked == [2]


def test_fingerprint_and_shard_separate_cells(tmp_path):
    store = Store(tmp_path, "source")
    store.values("kind", "one", 0, [("a", 1)], lambda items: ["x"])
    assert store.values("kind", "two", 0, [("a", 1)], lambda items: ["y"]) == ["y"]
    assert store.values("kind", "one", 1, [("a", 1)], lambda items: ["z"]) == ["z"]


def test_equal_cells_give_equal_bytes_whatever_the_order(tmp_path):
    for root, order in ((tmp_path / "one", ["a", "b"]), (tmp_path / "two", ["b", "a"])):
        store = Store(root, "source")
        for key in order:
            store.values("kind", "fp", 0, [(key, key)], lambda items: list(items))
    files = sorted(tmp_path.rglob("*.parquet"))
    assert len(files) == 2
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("harm", [lambda b: b[:40], lambda b: b"", lambda b: b[:-1],
                                  lambda b: b[:60] + bytes([b[60] ^ 1]) + b[61:]])  # fmt: skip
def test_a_damaged_file_is_named_set_aside_and_computed_anew(tmp_path, harm, capsys):
    store = Store(tmp_path, "source")
    store.values("kind", "fp", 0, [("a", 1)], lambda items: [1.0])
    store.values("kind", "fp", 1, [("a", 1)], lambda items: [3.0])
    path = next(tmp_path.rglob("000000-*.parquet"))
    path.write_bytes(harm(path.read_bytes()))
    again = Store(tmp_path, "source")
    assert again.values("kind", "fp", 0, [("a", 1)], lambda items: [2.0]) == [2.0]
    assert again.values("kind", "fp", 1, [("a", 1)], _never) == [3.0]
    assert str(path) in capsys.readouterr().out.replace("\n", "")
    assert path.with_name(path.name + ".damaged").exists()
    assert Store(tmp_path, "source").values("kind", "fp", 0, [("a", 1)], _never) == [2.0]


def test_two_writers_lose_nothing(tmp_path):
    first, second = Store(tmp_path, "source"), Store(tmp_path, "source")
    first.values("kind", "fp", 0, [("a", 1)], lambda items: [1])
    second.values("kind", "fp", 0, [("b", 1)], lambda items: [2])  # knew nothing of the first
    first.values("kind", "fp", 0, [("c", 1)], lambda items: [3])
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    third = Store(tmp_path, "source")
    keyed = [("a", 0), ("b", 0), ("c", 0), ("d", 0)]
    assert third.values("kind", "fp", 0, keyed, lambda items: [4]) == [1, 2, 3, 4]
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert Store(tmp_path, "source").values("kind", "fp", 0, keyed, _never) == [1, 2, 3, 4]


def test_of_two_values_of_one_key_every_reader_takes_the_same(tmp_path):
    stores = [Store(tmp_path, "source") for _ in range(2)]
    for number, store in enumerate(stores):
        store.values("kind", "fp", 0, [("a", 1)], lambda items, n=number: [n])
    seen = {
        Store(tmp_path, "source").values("kind", "fp", 0, [("a", 1)], _never)[0] for _ in range(3)
    }
    assert len(seen) == 1


def test_null_is_a_value(tmp_path):
    store = Store(tmp_path, "source")
    store.values("kind", "fp", 0, [("a", 1)], lambda items: [None])
    assert Store(tmp_path, "source").values("kind", "fp", 0, [("a", 1)], _never) == [None]


def boxes(store, key, compute):
    return store.arrays("segment", "fp", 0, [(key, key)], compute, width=4, digits=4)[0]


def test_arrays_of_any_length_come_back_exactly(tmp_path):
    made = {"many": np.round(np.random.default_rng(0).random((50, 4)) * 1024, 4), "none": []}
    store = Store(tmp_path, "source")
    for key, rows in made.items():
        boxes(store, key, lambda items, r=rows: [r])
    again = Store(tmp_path, "source")
    assert (boxes(again, "many", _never) == made["many"]).all()
    assert boxes(again, "none", _never).shape == (0, 4)


def test_six_decimals_are_kept_to_the_last_bit():
    scores = np.round(np.random.default_rng(1).uniform(-1, 1, 20_000), 6).reshape(-1, 1)
    assert (unpacked(packed(scores, 6), 1, 6) == scores).all()
    both = unpacked(packed(np.array([[0.3, np.nan], [0.85, -1.0]]), 6), 2, 6)
    assert both[0, 0] == 0.3
    assert np.isnan(both[0, 1])
    assert both[1].tolist() == [0.85, -1.0]


@pytest.mark.parametrize("score", [np.inf, -np.inf, 3e3])
def test_a_score_that_cannot_be_kept_is_an_error(score):
    with pytest.raises(StoreError, match="beyond 2147"):
        packed(np.array([[score]]), 6)


def entries(store, asked, compute):
    wanted = [Entries(key=k, length=n, indices=list(i), item=k) for k, n, i in asked]
    return store.entries("crop", "fp", 0, wanted, compute, width=1, digits=6)


def test_only_absent_entries_of_an_array_are_computed(tmp_path):
    asked = []

    def score(items):
        asked.extend(items)
        return [[index / 10] for _, index in items]

    store = Store(tmp_path, "source")
    (row,) = entries(store, [("p", 4, [0, 2])], score)
    assert asked == [("p", 0), ("p", 2)]
    assert row[[0, 2], 0].tolist() == [0.0, 0.2]
    assert np.isnan(row[[1, 3], 0]).all()
    again = Store(tmp_path, "source")
    rows = entries(again, [("p", 4, [2, 3, 3]), ("q", 2, [1]), ("p", 4, [1])], score)
    assert asked[2:] == [("p", 3), ("q", 1), ("p", 1)]
    assert rows[0][:, 0].tolist() == rows[2][:, 0].tolist() == [0.0, 0.1, 0.2, 0.3]
    assert entries(Store(tmp_path, "source"), [("p", 4, range(4))], _never)[0].shape == (4, 1)


def test_no_number_is_not_the_same_as_not_computed(tmp_path):
    store = Store(tmp_path, "source")
    entries(store, [("p", 2, [0])], lambda items: [[np.nan]])
    asked = []

    def record(items):
        asked.extend(items)
        return [[0.5]]

    (row,) = entries(Store(tmp_path, "source"), [("p", 2, [0, 1])], record)
    assert asked == [("p", 1)]
    assert np.isnan(row[0, 0])
    assert row[1, 0] == 0.5


def test_an_array_without_boxes_needs_no_computing(tmp_path):
    assert entries(Store(tmp_path, "source"), [("p", 0, [])], _never)[0].shape == (0, 1)


def test_entries_of_two_writers_come_together(tmp_path):
    first, second = Store(tmp_path, "source"), Store(tmp_path, "source")
    entries(first, [("p", 3, [0])], lambda items: [[0.1]])
    entries(second, [("p", 3, [2])], lambda items: [[0.3]])
    (row,) = entries(Store(tmp_path, "source"), [("p", 3, [0, 1, 2])], lambda items: [[0.2]])
    assert row[:, 0].tolist() == [0.1, 0.2, 0.3]


def test_a_store_of_another_format_is_refused(tmp_path):
    (tmp_path / "segment" / "fp").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"holds scores in format 1.*another store_dir"):
        Store(tmp_path, "source")
    (tmp_path / "store.json").write_text('{"schema": 3}')
    with pytest.raises(StoreError, match="format 3, and this imgdiff reads format 2"):
        Store(tmp_path, "source")
    assert Store(tmp_path / "new", "source").root.is_dir()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    store = Store(tmp_path, "source")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(StoreError, match=r"No space left on device.*Free space"):
        store.values("kind", "fp", 0, [("a", 1)], lambda items: [1])
    assert not list(tmp_path.rglob("*.tmp"))


WRITER = """
import random, sys
from imgdiff.core.store import Entries, Store
root, seed = sys.argv[1:]
store, dice = Store(__import__("pathlib").Path(root), "source"), random.Random(int(seed))
while True:
    key, shard = f"pair{dice.randrange(40)}", dice.randrange(3)
    picked = sorted(dice.sample(range(30), 5))
    asked = [Entries(key=key, length=30, indices=picked, item=int(key[4:]))]
    compute = lambda items: [[item + index / 100] for item, index in items]
    store.entries("crop", "fp", shard, asked, compute, width=1, digits=6)
    store.values("text", "fp", shard, [(key, key)], lambda items: [item * 3 for item in items])
    print(".", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system that takes no files")
def test_a_disk_that_takes_no_files_is_named():
    with pytest.raises(StoreError, match=r"/proc/imgdiff.*could not be written"):
        Store(Path("/proc/imgdiff"), "source")


def test_killed_writers_leave_nothing_wrong(tmp_path):
    dice = random.Random(0)
    for round_number in range(10):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path), str(10 * round_number + n)],
                stdout=subprocess.PIPE, cwd=Path(__file__).parents[2],
            )
            for n in range(2)
        ]  # fmt: skip
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        time.sleep(dice.uniform(0.0, 0.3))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
    store, known = Store(tmp_path, "source"), 0
    for shard in range(3):
        for key, units in store.table("crop", "fp", shard, ArrayCells()).cells.items():
            rows = unpacked(units, 1, 6)[:, 0]
            there = ~np.isnan(rows)
            known += int(there.sum())
            wanted = int(key[4:]) + np.arange(30) / 100
            np.testing.assert_array_equal(rows[there], np.round(wanted, 6)[there])
        for key, value in store.table("text", "fp", shard, JsonCells()).cells.items():
            assert value == key * 3
    assert known > 100
    assert not list(tmp_path.rglob("*.damaged"))


def test_memory_of_tables_is_bounded(tmp_path):
    store = Store(tmp_path, "source")
    for shard in range(100):
        store.values("kind", "fp", shard, [("a", 1)], lambda items: [1])
    assert len(store._tables) == 64

"""The score store: computed once, kept by content, whole files only."""

import pytest

from imgdiff.core.errors import StoreError
from imgdiff.core.store import Store


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


def test_a_damaged_table_is_named_with_the_remedy(tmp_path):
    store = Store(tmp_path, "source")
    store.values("kind", "fp", 0, [("a", 1)], lambda items: [1.0])
    path = next(tmp_path.rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"000000\.parquet.*Delete that file"):
        Store(tmp_path, "source").values("kind", "fp", 0, [("a", 1)], _never)


def test_memory_of_tables_is_bounded(tmp_path):
    store = Store(tmp_path, "source")
    for shard in range(100):
        store.values("kind", "fp", shard, [("a", 1)], lambda items: [1])
    assert len(store._tables) == 64

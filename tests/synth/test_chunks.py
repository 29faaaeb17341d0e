"""Chunks of items, opened in another thread."""

from __future__ import annotations

import threading

import pytest

from imgdiff.synth import chunks
from imgdiff.synth.chunks import CHUNK, chunks_ahead, opened, opened_ahead


def test_every_chunk_comes_with_what_was_opened_for_it() -> None:
    found = list(chunks_ahead(range(2 * CHUNK + 3), lambda part: sum(part)))
    assert [list(part) for part, _ in found] == [
        list(range(CHUNK)), list(range(CHUNK, 2 * CHUNK)), [2 * CHUNK, 2 * CHUNK + 1, 2 * CHUNK + 2]
    ]  # fmt: skip
    assert [total for _, total in found] == [sum(part) for part, _ in found]
    assert list(chunks_ahead([], sum)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_items_keep_their_order_in_any_number_of_threads(monkeypatch, threads: int) -> None:
    monkeypatch.setattr(chunks, "threads_beside_model", lambda: threads)
    used = set()

    def square(item: int) -> int:
        used.add(threading.current_thread().name.partition("_")[0])
        return item * item

    found = list(opened_ahead(range(10), square, size=4))
    assert found == [
        (range(4), [0, 1, 4, 9]), (range(4, 8), [16, 25, 36, 49]), (range(8, 10), [64, 81])
    ]  # fmt: skip
    assert opened([5, 6], square) == [25, 36]
    assert used == ({"ahead", "MainThread"} if threads == 1 else {"beside"})

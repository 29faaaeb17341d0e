"""The items of a stage in chunks: while a model works on one, the images of the next are opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from imgdiff.backends.runtime import threads_beside_model
from imgdiff.core.ahead import ahead, in_threads

CHUNK = 64  # items whose images are in memory at once, beside those of the next chunk
T = TypeVar("T")
R = TypeVar("R")


def chunks_ahead(
    items: Sequence[T], open_chunk: Callable[[Sequence[T]], R], size: int = CHUNK
) -> Iterator[tuple[Sequence[T], R]]:
    """Each chunk of the items, in order, with what `open_chunk` makes of it in another thread.

    Have the model loaded before: loading filters warnings, which are of the whole process, and so
    does opening an image.
    """
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    return ahead(chunks, lambda chunk: (chunk, open_chunk(chunk)))


def opened_ahead(
    items: Sequence[T], open_item: Callable[[T], R], size: int = CHUNK
) -> Iterator[tuple[Sequence[T], list[R]]]:
    """As `chunks_ahead`, with what `open_item` makes of each item."""
    return chunks_ahead(items, lambda chunk: opened(chunk, open_item), size)


def opened(items: Sequence[T], open_item: Callable[[T], R]) -> list[R]:
    """What `open_item` makes of each item, in order; beside a GPU in several threads."""
    return in_threads(items, open_item, threads_beside_model())

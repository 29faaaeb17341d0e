"""Work in threads beside a consumer: the next part while it is busy with the last one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(parts: Sequence[T], make: Callable[[T], R]) -> Generator[R, None, None]:
    """`make(part)` of each part, in order; one thread makes the next while the last is in use.

    At most two results are in memory. An error of `make` is raised where its result would have
    come. The thread ends with the iterator: after the last part, after an error, and when the
    consumer lets the iterator go (leaves the loop, fails, is interrupted); what is being made
    then is waited for.
    """
    coming = iter(parts)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead") as thread:
        waiting = [thread.submit(make, part) for part in islice(coming, 1)]
        while waiting:
            made = waiting.pop().result()
            waiting += [thread.submit(make, part) for part in islice(coming, 1)]
            yield made


def in_threads(items: Sequence[T], make: Callable[[T], R], threads: int) -> list[R]:
    """`make(item)` of each item, in order, in up to `threads` threads; in this one if that is 1.

    `make` gains where it lets other threads run: while Pillow decodes, crops and resizes, while
    NumPy copies. Raises the error of the first item that has one, when all threads have ended.
    """
    count = min(threads, len(items))
    if count <= 1:
        return [make(item) for item in items]
    with ThreadPoolExecutor(count, thread_name_prefix="beside") as pool:
        return list(pool.map(make, items))

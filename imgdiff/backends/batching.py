"""Batches of one shape, as large as asked for or as the memory of the GPU allows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from imgdiff.core.console import say
from imgdiff.core.errors import BackendError

T = TypeVar("T")
R = TypeVar("R")


class NoRoomError(BackendError):
    """Not even one item fits beside what else the GPU's memory holds."""


class BatchSize:
    """Items a pass: what a setting asks for, halved each time that the GPU's memory runs out."""

    def __init__(self, key: str, most: int) -> None:
        self.key = key  # the setting, for messages
        self.now = most

    def halve(self) -> None:
        """Half of it from now on; NoRoomError where it is one already."""
        if self.now == 1:
            raise NoRoomError(
                f"{self.key}=1: not even one item fits into the GPU's memory beside the weights. "
                "Free the memory that other programs hold, choose a narrower dtype or a smaller "
                "model, or a GPU with more memory."
            )
        self.now = max(1, self.now // 2)
        say(f"{self.key}: the GPU's memory ran out; {self.now} a pass from now on.")


def in_batches(
    items: Sequence[T], size: BatchSize, forward: Callable[[list[T]], Iterable[R]]
) -> Iterator[R]:
    """`forward` of all items, one result each, in order.

    `forward` gets exactly `size.now` items, the last batch padded by its last item: matrix kernels
    may round differently for different batch shapes, and with one shape the result of an item does
    not depend on its neighbours. A pass that runs out of GPU memory is done again by halves.
    """
    start = 0
    while start < len(items):
        part = list(items[start : start + size.now])
        results = _attempt(forward, part + [part[-1]] * (size.now - len(part)))
        if results is None:
            size.halve()
            continue
        for result, _ in zip(results, part, strict=False):
            yield result
        start += len(part)


def _attempt(forward: Callable[[list[T]], Iterable[R]], batch: list[T]) -> Iterable[R] | None:
    """The results, or None where the GPU's memory ran out (and has been freed)."""
    import torch

    try:
        return forward(batch)
    except (torch.OutOfMemoryError, NoRoomError):  # the latter: of batches within this one
        pass  # its traceback holds the tensors until here
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None

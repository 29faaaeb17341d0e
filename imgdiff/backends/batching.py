"""Batches of one shape: how large they are, and preparing the next one beside the GPU."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

from imgdiff.backends.gpu_memory import GpuMemory, gpu_memory
from imgdiff.backends.runtime import on_gpu
from imgdiff.core.ahead import ahead
from imgdiff.core.console import say
from imgdiff.core.errors import BackendError

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")

MOST = 128  # items a pass, of a size that is found: the images that a stage opens at once
TRIAL_ITEMS = 4
FILLED = 0.8  # of the room; the rest is for results, and for gaps that the allocator leaves
_say_once = functools.cache(say)  # a model is opened again and again, and finds the same size


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
            raise self._no_room()
        self.now = max(1, self.now // 2)
        say(f"{self.key}: the GPU's memory ran out; {self.now} a pass from now on.")

    def settle(self, fits: Callable[[int], bool]) -> None:
        """Called before a pass; `fits(count)` would try one of `count` items."""

    def _no_room(self) -> NoRoomError:
        return NoRoomError(
            f"{self.key}=1: not even one item fits into the GPU's memory beside the weights. "
            "Free the memory that other programs or workers hold, raise memory_limit where it is "
            "set, choose a narrower dtype or a smaller model, or a GPU with more memory."
        )


class FoundBatchSize(BatchSize):
    """As many items as the GPU's memory holds, a power of two up to `most`; `usual` on a CPU.

    Found before the first pass, by a trial: a few items, as often as `FILLED` of the room holds
    what they take.
    """

    def __init__(
        self,
        key: str,
        usual: int,
        most: int = MOST,
        memory: Callable[[], GpuMemory | None] = gpu_memory,
    ) -> None:
        super().__init__(key, usual)
        self._most = most
        self._memory = memory
        self._found = False

    def settle(self, fits: Callable[[int], bool]) -> None:
        """Find the size, once. NoRoomError where not even one item fits."""
        memory = None if self._found else self._memory()
        self._found = True
        if memory is None:
            return
        count = min(TRIAL_ITEMS, self._most)
        while not fits(count):  # not measured: the first pass also sets libraries up
            if count == 1:
                raise self._no_room()
            count //= 2
        each = memory.taken(lambda: fits(count)) / count
        room = int(FILLED * memory.room() / max(each, 1))
        self.now = _power_of_two(min(room, self._most))
        _say_once(f"{self.key}: found to be {self.now}, by the GPU's memory.")


def batch_size(key: str, asked: int | None, usual: int, most: int = MOST) -> BatchSize:
    """The size that a setting asks for; null has it found."""
    return FoundBatchSize(key, usual, most) if asked is None else BatchSize(key, asked)


def _power_of_two(count: int) -> int:
    """The largest one up to `count`, at least 1."""
    return int(2 ** (max(count, 1).bit_length() - 1))


def in_batches(
    items: Sequence[T], size: BatchSize, forward: Callable[[list[T]], Iterable[R]]
) -> Iterator[R]:
    """`forward` of all items, one result each, in order.

    `forward` gets exactly `size.now` items, the last batch padded by its last item: matrix kernels
    may round differently for different batch shapes, and with one shape the result of an item does
    not depend on its neighbours. A pass that runs out of GPU memory is done again by halves.
    """
    return _passes(items, size, list, forward, beside=False)


def in_prepared_batches(
    items: Sequence[T],
    size: BatchSize,
    prepare: Callable[[list[T]], P],
    forward: Callable[[P], Iterable[R]],
) -> Iterator[R]:
    """As `in_batches`; `forward` gets what `prepare`, which uses no GPU, makes of a batch.

    While a GPU is busy with a batch, the next one is prepared in a background thread. On a CPU
    they take turns: the model would lose what the thread gains.
    """
    return _passes(items, size, prepare, forward, beside=on_gpu())


def _passes(
    items: Sequence[T],
    size: BatchSize,
    prepare: Callable[[list[T]], P],
    forward: Callable[[P], Iterable[R]],
    *,
    beside: bool,
) -> Iterator[R]:
    if items:
        size.settle(lambda n: _attempt(forward, prepare(_padded(items[:n], n))) is not None)
    start = 0
    while start < len(items):
        now = size.now
        batches = [_padded(items[at : at + now], now) for at in range(start, len(items), now)]
        made = ahead(batches, prepare) if beside else (prepare(batch) for batch in batches)
        with closing(made):
            for batch in made:
                results = _attempt(forward, batch)
                if results is None:
                    size.halve()
                    break  # the next one is as large, and prepared anew
                for result, _ in zip(results, items[start : start + now], strict=False):
                    yield result
                start += now


def _padded(part: Sequence[T], count: int) -> list[T]:
    """`count` items, the last one of `part` repeated."""
    return [*part, *[part[-1]] * (count - len(part))]


def _attempt(forward: Callable[[P], Iterable[R]], batch: P) -> Iterable[R] | None:
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

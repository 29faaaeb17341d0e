"""Gradients of a batch in parts, each in a thread of its own with its kernels on its own cores.

OpenMP lets all cores wait for the slowest after every kernel: beside other work a training on two
cores then runs several times slower than on one. Parts meet once a step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
R = TypeVar("R")
MAX_PARTS = 2  # more of them would wait for Python's lock


class Halves:
    """A model and replicas that share its weights but have gradients of their own.

    Results depend on the number of parts (sums are rounded in another order), not on timing.
    """

    def __init__(self, model: nn.Module, parts: int) -> None:
        self._threads = torch.get_num_threads()
        self._models = [model, *(sharing_replica(model) for _ in range(parts - 1))]
        self._pool = ThreadPoolExecutor(
            parts, initializer=torch.set_num_threads, initargs=(kernel_threads(parts),)
        )

    def __enter__(self) -> Halves:
        """Until the exit the kernels of this thread keep to as many cores as a part's."""
        torch.set_num_threads(kernel_threads(len(self)))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._threads)

    def __len__(self) -> int:
        return len(self._models)

    def gradients(
        self, losses_of: Callable[[nn.Module, int], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Leave in the model's `.grad` those of the mean over all parts; the mean losses.

        `losses_of(model, part)` gives the losses of one part; their sum is differentiated.
        """
        jobs = [
            self._pool.submit(self._one, losses_of, model, part)
            for part, model in enumerate(self._models)
        ]
        losses = [job.result() for job in jobs]
        for replica in self._models[1:]:
            pairs = zip(self._models[0].parameters(), replica.parameters(), strict=True)
            for own, other in pairs:
                if own.grad is not None and other.grad is not None:
                    own.grad.add_(other.grad)
        return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}

    def _one(
        self,
        losses_of: Callable[[nn.Module, int], dict[str, Tensor]],
        model: nn.Module,
        part: int,
    ) -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        losses = losses_of(model, part)
        (torch.stack(list(losses.values())).sum() / len(self._models)).backward()
        return {name: value.detach() for name, value in losses.items()}


def spread(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`function` of every item, in order, in as many threads as a batch would have parts."""
    parts = part_count()
    with ThreadPoolExecutor(
        parts, initializer=torch.set_num_threads, initargs=(kernel_threads(parts),)
    ) as pool:
        return list(pool.map(function, items))


def sharing_replica(model: nn.Module) -> nn.Module:
    """A copy whose parameters are the model's own memory."""
    replica = copy.deepcopy(model)
    for own, other in zip(model.parameters(), replica.parameters(), strict=True):
        other.data = own.data
    return replica


def part_count() -> int:
    """Parts for this machine: one on a GPU, else one for each of torch's threads up to two."""
    return 1 if torch.cuda.is_available() else min(MAX_PARTS, torch.get_num_threads())


def kernel_threads(parts: int) -> int:
    """Threads of each part's kernels."""
    return max(1, torch.get_num_threads() // parts)

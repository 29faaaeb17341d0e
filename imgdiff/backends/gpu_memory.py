"""The memory of a GPU that one process of a run may take, and what a pass takes of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from imgdiff.backends.runtime import visible_gpus

_SHARE_VARIABLE = "IMGDIFF_GPU_SHARE"  # of a worker; of a process that is none: the whole GPU


@runtime_checkable
class GpuMemory(Protocol):
    """What a batch size is found by."""

    def room(self) -> int:
        """Bytes that this process may still take for tensors."""

    def taken(self, act: Callable[[], object]) -> int:
        """Bytes that tensors take during `act`, at the most, beside those that were there."""


def gpu_variables(share: float) -> dict[str, str]:
    """The environment of a worker to which this share of its GPU's memory belongs."""
    return {_SHARE_VARIABLE: str(share)}


def device_variables(processes: int) -> list[dict[str, str]]:
    """The environment of each of these processes: one of the GPUs that this one sees, in turn.

    Those on one GPU share its memory in equal parts.
    """
    devices = visible_gpus()
    places = [rank % max(1, len(devices)) for rank in range(processes)]
    found = [gpu_variables(1 / places.count(place)) for place in places]
    for own, place in zip(found, places, strict=True):
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = devices[place]
    return found


def limit_gpu_memory(limit: float | None) -> None:
    """Hold torch to this share of the GPU's memory, in all workers on it together; None: no limit.

    What does not fit raises torch.OutOfMemoryError, as if the GPU were as small as that.
    """
    import torch

    if limit is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(limit * _share())


def gpu_memory() -> GpuMemory | None:
    """That of the GPU which models of this process are on; None on a CPU."""
    import torch

    return _Cuda() if torch.cuda.is_available() else None


class _Cuda:
    """torch's own figures of the current device."""

    def room(self) -> int:
        """See `GpuMemory`; what torch keeps for reuse counts as free."""
        import torch

        free, total = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved()
        share = min(_share(), torch.cuda.get_per_process_memory_fraction())
        unused = held - torch.cuda.memory_allocated()
        return max(0, min(free, int(total * share) - held) + unused)

    def taken(self, act: Callable[[], object]) -> int:
        """See `GpuMemory`. `runtime.peak_memory` begins anew with it."""
        import torch

        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        act()
        return torch.cuda.max_memory_allocated() - before


def _share() -> float:
    return float(os.environ.get(_SHARE_VARIABLE, "1"))

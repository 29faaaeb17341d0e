"""Time and memory of variants that do the same work, taken in turns. See prompt_to_prompt.py."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20
Variant = Callable[[], Any]


class LiveTensors(TorchDispatchMode):
    """Peak of the bytes of tensors that operations made and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._count(given.untyped_storage(), made=False)  # was there before
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), made=True)
        return out

    def _count(self, storage: torch.UntypedStorage, *, made: bool) -> None:
        key = storage._cdata
        if key in self._known or not storage.nbytes():
            return
        size = storage.nbytes() if made else 0
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


def synchronised(device: str) -> float:
    """CPU seconds of this process, or wall seconds once the GPU is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Figures:
    """What one variant took."""

    seconds: float
    peak_mib: float


def measure(variants: dict[str, Variant], rounds: int, device: str) -> dict[str, Figures]:
    """Best time of each variant over `rounds` turns, and its memory."""
    best = dict.fromkeys(variants, float("inf"))
    for number in range(rounds + 1):  # the first turn warms up
        for name, variant in variants.items():
            start = synchronised(device)
            variant()
            if number:
                best[name] = min(best[name], synchronised(device) - start)
    return {name: Figures(best[name], peak(variants[name], device)) for name in variants}


def peak(variant: Variant, device: str) -> float:
    """MiB beyond what is held before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        variant()
        return (torch.cuda.max_memory_allocated() - held) / MIB
    with LiveTensors() as live:
        variant()
    return live.peak / MIB


def report(title: str, figures: dict[str, Figures], base: str) -> None:
    """One table, ratios to `base`."""
    print(f"\n{title}")
    of_base = figures[base]
    for name, figure in figures.items():
        print(
            f"  {name:28} {figure.seconds:8.3f} s  x{figure.seconds / of_base.seconds:5.3f}"
            f"   {figure.peak_mib:9.1f} MiB  x{figure.peak_mib / of_base.peak_mib:6.3f}"
        )


def print_ratio(explicit: Figures, fused: Figures, name: str) -> None:
    """How much more the explicit variant takes."""
    times, sizes = explicit.seconds / fused.seconds, explicit.peak_mib / fused.peak_mib
    print(f"  {name} / fused: x{times:.2f} time, x{sizes:.2f} memory")

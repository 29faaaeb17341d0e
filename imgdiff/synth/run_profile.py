"""What each stage of a run took: `profile.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from imgdiff.backends.runtime import peak_memory, reset_peak_memory

MIB = 2**20
FAST = 10  # items a second that are told to a tenth; slower ones to three digits

TITLES = {  # short, so that the table fits a terminal
    "model_calls": "asked", "seconds": "s", "loading_seconds": "loading", "peak_mb": "MiB",
    "peak_gpu_mb": "GPU MiB",
}  # fmt: skip


@dataclass(kw_only=True, slots=True)
class StageCost:
    """One stage, summed over shards and processes; of memory the largest."""

    stage: str
    items: int = 0  # that reached the stage
    model_calls: int = 0  # inputs that a model was asked about; what the store holds is not asked
    seconds: float = 0.0  # of all processes together, loading of models included
    loading_seconds: float = 0.0  # of them, until the weights were there
    peak_mb: float = 0.0  # MiB of one process while the stage ran
    peak_gpu_mb: float = 0.0  # MiB of GPU memory while the stage ran; 0 on a CPU

    def add(self, other: StageCost) -> None:
        """Take in what the same stage took elsewhere."""
        self.items += other.items
        self.model_calls += other.model_calls
        self.seconds = round(self.seconds + other.seconds, 3)
        self.loading_seconds = round(self.loading_seconds + other.loading_seconds, 3)
        self.peak_mb = max(self.peak_mb, other.peak_mb)
        self.peak_gpu_mb = max(self.peak_gpu_mb, other.peak_gpu_mb)


class RunProfile:
    """The costs of the stages in the order in which they first ran."""

    def __init__(self) -> None:
        self._costs: dict[str, StageCost] = {}
        self._running: StageCost | None = None

    @contextmanager
    def stage(self, name: str, items: int) -> Iterator[None]:
        """Measure what runs inside as part of a stage that `items` items reached."""
        reset_peak_memory()
        clock = time.monotonic()
        self._running = StageCost(stage=name, items=items)
        try:
            yield
        finally:
            self._running.seconds = round(time.monotonic() - clock, 3)
            peaks = peak_memory()
            self._running.peak_mb = round(peaks["CPU"] / MIB, 1)
            self._running.peak_gpu_mb = round(peaks.get("GPU", 0) / MIB, 1)
            self._add(self._running)
            self._running = None

    def asked(self, count: int) -> None:
        """A model is asked about so many inputs by the stage that runs."""
        if self._running is not None:
            self._running.model_calls += count

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Measure what runs inside as the loading of a model that the running stage waits for."""
        clock = time.monotonic()
        yield
        if self._running is not None:
            seconds = self._running.loading_seconds + time.monotonic() - clock
            self._running.loading_seconds = round(seconds, 3)

    def _add(self, cost: StageCost) -> None:
        self._costs.setdefault(cost.stage, StageCost(stage=cost.stage)).add(cost)

    def add(self, other: Sequence[dict[str, Any]]) -> None:
        """Add the JSON form of another profile."""
        for row in other:
            self._add(StageCost(**row))

    def to_json(self) -> list[dict[str, Any]]:
        """One object for each stage."""
        return [asdict(cost) for cost in self._costs.values()]


def profile_table(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and lines for people; the column of GPU memory only where one was used.

    Items per second are those without loading.
    """
    rows = [asdict(StageCost(**row)) for row in rows]
    names = [field.name for field in fields(StageCost)]
    if not any(row["peak_gpu_mb"] for row in rows):
        names.remove("peak_gpu_mb")
    shown = {"seconds": ".1f", "loading_seconds": ".1f", "peak_mb": ",.0f", "peak_gpu_mb": ",.0f"}
    lines = []
    for row in rows:
        seconds = row["seconds"] - row["loading_seconds"]
        rate = row["items"] / seconds if seconds > 0 else 0.0
        cells = [format(row[name], shown.get(name, ",")) for name in names[1:]]
        lines.append([row["stage"], *cells, format(rate, ",.1f" if rate >= FAST else ".3g")])
    return [*(TITLES.get(name, name) for name in names), "items/s"], lines

"""Where the work of a run is done: processes of this machine, or a Ray cluster. Light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from imgdiff.backends.gpu_memory import device_variables
from imgdiff.backends.workers import in_processes
from imgdiff.core.errors import ConfigError

Report = Callable[[float, str], None]  # items finished since the last call, and by which stage
Work = Callable[[Sequence[int], Report], Any]  # some shards -> their result; travels by pickle
REMEDY = (
    "Run the same command again, with a smaller `workers` if memory ran out: finished shards are "
    "kept."
)


class Executor(Protocol):
    """Shares shards out."""

    def spread(self, work: Work, shards: Sequence[int], report: Report, workers: int) -> list[Any]:
        """`work` on all shards, in parts; the results of the parts, in any order."""


@dataclass(kw_only=True, slots=True)
class LocalConfig:
    """As many processes of this machine as the setting `workers` says."""

    def spread(self, work: Work, shards: Sequence[int], report: Report, workers: int) -> list[Any]:
        """See `Executor`; in this very process where one is enough."""
        processes = min(workers, len(shards))
        if processes <= 1:
            return [work(shards, report)]
        parts = [list(shards[rank::processes]) for rank in range(processes)]
        return in_processes(work, parts, report, REMEDY, device_variables(processes))


@dataclass(kw_only=True, slots=True)
class RayConfig:
    """Actors of a Ray cluster. Output, store and source must lie on a disk that all nodes see."""

    address: str | None = None  # of a running cluster ("auto": this machine's); null starts one
    actors: int | None = None  # null: one for each device that is there at the start
    cpus: float = 1.0  # of each actor
    gpus: float | None = None  # of each actor; null: 1 where the cluster has any
    shards: int = 20  # handed out at a time: what the loss of a node costs at the most
    attempts: int = 3  # at the same shards, where actors are lost

    def __post_init__(self) -> None:
        for key in ("actors", "shards", "attempts"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"executor.{key}={value}: must be >= 1")
        for key in ("cpus", "gpus"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"executor.{key}={value}: must be a number >= 0")
        if self.cpus == 0 and self.gpus == 0:
            raise ConfigError("executor.cpus=0 executor.gpus=0: an actor needs one of them")

    def spread(self, work: Work, shards: Sequence[int], report: Report, workers: int) -> list[Any]:
        """See `Executor`; `workers` is of one machine and not read."""
        del workers
        from imgdiff.backends.ray_executor import spread_on_ray

        return spread_on_ray(self, work, shards, report)

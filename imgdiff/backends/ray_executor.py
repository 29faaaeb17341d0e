"""Work on a Ray cluster: actors take shards as they come free; what a lost one had goes on.

The only module that imports ray (an extra: `pip install imgdiff[ray]`).
"""

from __future__ import annotations

import math
import os
import platform
import socket
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imgdiff
from imgdiff.backends.executors import RayConfig, Report, Work
from imgdiff.backends.gpu_memory import gpu_variables
from imgdiff.backends.runtime import core_variables, one_thread_variables
from imgdiff.core.console import say
from imgdiff.core.errors import BackendError, ImgdiffError

_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 10.0
_PATIENCE_POLLS = 120  # without a single actor, before the person is told


@dataclass(slots=True)
class _Unit:
    """Some shards, given out together."""

    number: int
    shards: list[int]
    attempt: int = 0


def spread_on_ray(
    config: RayConfig, work: Work, shards: Sequence[int], report: Report
) -> list[Any]:
    """See `Executor.spread`. Raises the first ImgdiffError of a worker.

    BackendError without ray, without such a cluster, where a node has another imgdiff or does not
    see the working folder, or where actors are lost at the same shards again and again.
    """
    with _cluster(config) as ray:
        actors = _number_of_actors(config, ray, len(shards))
        size = min(config.shards, math.ceil(len(shards) / actors))
        units = [list(shards[at : at + size]) for at in range(0, len(shards), size)]
        return _Pool(config, ray, work, report).run(units, min(actors, len(units)))


@contextmanager
def _cluster(config: RayConfig) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise BackendError(
            "executor=ray: the package ray is not installed. Run pip install 'imgdiff[ray]', or "
            "use executor=local."
        ) from None
    # The code of this process, where nodes see it; one thread, so that scores keep their last bit.
    code = str(Path(imgdiff.__file__).resolve().parents[1])
    paths = [code, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = _share(config) | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    own = {"include_dashboard": False} if config.address is None else {}
    try:
        _check_address(config.address)
        ray.init(
            address=config.address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level="ERROR",
            **own,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BackendError(
            f"executor.address={config.address}: no Ray cluster answers ({error}). Start one with "
            "`ray start --head`, or give executor.address=null to start one here."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _share(config: RayConfig) -> dict[str, str]:
    """What an actor may use of its node, as variables."""
    gpu = config.gpus if config.gpus else 1.0  # of a whole one; without one it is not read
    cpus = core_variables(int(config.cpus))
    return one_thread_variables() | cpus | gpu_variables(min(1.0, gpu))


def _check_address(address: str | None) -> None:
    """OSError where nobody listens: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


def _number_of_actors(config: RayConfig, ray: Any, shards: int) -> int:
    """As many as asked for, or one for each device; at the most one for each shard."""
    if config.actors is not None:
        return min(config.actors, shards)
    total = ray.cluster_resources()
    gpus = config.gpus if config.gpus is not None else float("GPU" in total)
    fits = [total.get("GPU", 0) / gpus] if gpus else []
    fits += [total.get("CPU", 0) / config.cpus] if config.cpus else []
    return max(1, min(int(min(fits)), shards))


class _Worker:
    """What an actor does."""

    def __init__(self, folder: str, reports: Any) -> None:
        self._folder = folder
        self._reports = reports

    def ready(self) -> tuple[str, str, str]:
        """Goes to the run's working folder; (node, version of imgdiff, "" or what is wrong)."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            return platform.node(), imgdiff.__version__, str(error.strerror or error)
        return platform.node(), imgdiff.__version__, ""

    def work(self, work: Work, number: int, attempt: int, shards: list[int]) -> Any:
        """`work` on some shards; returns when its reports have arrived."""
        import ray

        last: list[Any] = []

        def report(amount: float, label: str) -> None:
            last[:] = [self._reports.add.remote(number, attempt, amount, label)]

        result = work(shards, report)
        ray.get(last)  # calls of one actor to another keep their order
        return result


class _Reports:
    """Keeps what actors report until the driver asks for it."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, int, float, str]] = []

    def add(self, number: int, attempt: int, amount: float, label: str) -> None:
        self._kept.append((number, attempt, amount, label))

    def drain(self) -> list[tuple[int, int, float, str]]:
        kept, self._kept = self._kept, []
        return kept


@dataclass
class _Pool:
    """Actors, and what each is doing."""

    config: RayConfig
    ray: Any
    work: Work
    report: Report
    coming: dict[Any, Any] = field(default_factory=dict)  # promise of readiness -> actor
    running: dict[Any, tuple[Any, _Unit]] = field(default_factory=dict)  # promise -> who and what
    idle: list[Any] = field(default_factory=list)
    waiting: deque[_Unit] = field(default_factory=deque)
    reported: Counter[tuple[int, int]] = field(default_factory=Counter)  # by unit and attempt

    def run(self, units: Sequence[list[int]], actors: int) -> list[Any]:
        """All units; their results in order."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self.ray.get_runtime_context().get_node_id()
        beside = NodeAffinitySchedulingStrategy(node_id=here, soft=False)
        keeper = self.ray.remote(num_cpus=0, scheduling_strategy=beside)(_Reports)
        self.reports = keeper.remote()
        self.waiting.extend(_Unit(number, shards) for number, shards in enumerate(units))
        for _ in range(actors):
            self._hire()
        results: dict[int, Any] = {}
        polls = 0
        while len(results) < len(units):
            self._hand_out()
            promises = [*self.coming, *self.running]
            done, _ = self.ray.wait(promises, timeout=_POLL_SECONDS)
            self._pass_on()
            for promise in done:
                self._welcome(promise) if promise in self.coming else self._take(promise, results)
            polls = 0 if self.running or self.idle else polls + 1
            if polls == _PATIENCE_POLLS:
                say("Ray has no free device for an actor yet; waiting. `ray status` says who has.")
        self._pass_on()
        return [results[number] for number in range(len(units))]

    def _hire(self) -> None:
        total = self.ray.cluster_resources()
        gpus = self.config.gpus if self.config.gpus is not None else float("GPU" in total)
        kind = self.ray.remote(num_cpus=self.config.cpus, num_gpus=gpus)(_Worker)
        actor = kind.remote(str(Path.cwd()), self.reports)
        self.coming[actor.ready.remote()] = actor

    def _welcome(self, promise: Any) -> None:
        actor = self.coming.pop(promise)
        try:
            node, version, fault = self.ray.get(promise)
        except self.ray.exceptions.RayActorError:
            self._hire()
            return
        if version != imgdiff.__version__:
            raise BackendError(
                f"node {node} has imgdiff {version}, and this run is of {imgdiff.__version__}. "
                "Install the same version on every node."
            )
        if fault:
            raise BackendError(
                f"node {node} does not see {Path.cwd()} ({fault}). Run the command in a folder on "
                "a disk that all nodes share."
            )
        self.idle.append(actor)

    def _hand_out(self) -> None:
        while self.idle and self.waiting:
            actor, unit = self.idle.pop(), self.waiting.popleft()
            unit.attempt += 1
            promise = actor.work.remote(self.work, unit.number, unit.attempt, unit.shards)
            self.running[promise] = (actor, unit)

    def _take(self, promise: Any, results: dict[int, Any]) -> None:
        actor, unit = self.running.pop(promise)
        try:
            results[unit.number] = self.ray.get(promise)
        except self.ray.exceptions.RayActorError as error:
            self._lost(unit, error)
        except ImgdiffError as error:  # Ray's wrapper has a cause, which is ours
            raise getattr(error, "cause", error) from None
        else:
            self.idle.append(actor)

    def _lost(self, unit: _Unit, error: Exception) -> None:
        """The actor is gone (its node, or its memory): its shards go to another one."""
        first, last = unit.shards[0], unit.shards[-1]
        if unit.attempt >= self.config.attempts:
            raise BackendError(
                f"shards {first} to {last}: {unit.attempt} actors were lost at them, the last one "
                f"so: {str(error).splitlines()[0]} If memory ran out, give each actor more "
                "(executor.cpus, fewer actors); finished shards are kept."
            )
        say(f"Shards {first} to {last}: their actor was lost; they go to another one.")
        back = self.reported.pop((unit.number, unit.attempt), 0.0)
        self.report(-back, "synth")
        self.waiting.appendleft(unit)
        self._hire()

    def _pass_on(self) -> None:
        """Hand the actors' reports to the progress bar; those of a lost attempt count no more."""
        current = {(unit.number, unit.attempt) for _, unit in self.running.values()}
        for number, attempt, amount, label in self.ray.get(self.reports.drain.remote()):
            if (number, attempt) in current:
                self.reported[number, attempt] += amount
                self.report(amount, label)

"""Work shared out to processes of one machine, with one process that hears from all of them.

A worker that fails with an error of imgdiff fails the whole; one that is killed is noticed; none
outlives its parent, so that a run typed again never works beside its predecessor.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from imgdiff.backends.runtime import core_variables, cores, one_thread_environment
from imgdiff.core.errors import ImgdiffError

_POLL_SECONDS = 0.5

Report = Callable[..., None]  # hands any values to the parent, in order
Work = Callable[[Any, Report], Any]  # runs in a worker: (its part, report) -> its result


def in_processes(
    work: Work,
    parts: Sequence[Any],
    report: Report,
    remedy: str,
    environments: Sequence[Mapping[str, str]] = (),
) -> list[Any]:
    """`work(part, report)` for every part, each in a process of its own; the results in order.

    `work` and the parts travel by pickle. What a worker reports arrives here through `report`, in
    this process. Worker k sees the variables `environments[k]` before it imports anything; all see
    one thread for numeric libraries, and an equal share of the cores. Raises the first worker's
    ImgdiffError; `remedy` ends the message where a worker was killed.
    """
    context = multiprocessing.get_context("spawn")
    messages: Any = context.Queue()
    share = core_variables(cores() // max(1, len(parts)))
    workers = []
    try:
        for rank, part in enumerate(parts):
            extra = {**share, **(environments[rank] if environments else {})}
            arguments = (work, part, rank, os.getpid(), messages)
            worker = context.Process(target=_worker, args=arguments, daemon=True)
            with _environment_of_children(extra):
                worker.start()
            workers.append(worker)
        return _results(messages, workers, report, remedy)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _results(messages: Any, workers: Sequence[Any], report: Report, remedy: str) -> list[Any]:
    results: dict[int, Any] = {}
    while len(results) < len(workers):
        kind, rank, content = _next_message(messages, workers, remedy)
        if kind == "error":
            raise content
        if kind == "done":
            results[rank] = content
        else:
            report(*content)
    return [results[rank] for rank in range(len(workers))]


def _next_message(messages: Any, workers: Sequence[Any], remedy: str) -> Any:
    while True:
        try:
            return messages.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            dead = [worker for worker in workers if worker.exitcode not in (None, 0)]
            if dead:
                raise ImgdiffError(
                    f"a worker process ended with exit code {dead[0].exitcode} (see its message "
                    f"above; -9 means killed, often for memory). {remedy}"
                ) from None


@contextmanager
def _environment_of_children(extra: Mapping[str, str]) -> Iterator[None]:
    """Children inherit these settings; this process gets its environment back."""
    before = dict(os.environ)
    one_thread_environment()
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _worker(work: Work, part: Any, rank: int, parent: int, messages: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches us all; the parent ends us

    def report(*content: Any) -> None:
        if os.getppid() != parent:  # the run was killed
            os._exit(1)
        messages.put(("report", rank, content))

    try:
        messages.put(("done", rank, work(part, report)))
    except ImgdiffError as error:
        messages.put(("error", rank, error))

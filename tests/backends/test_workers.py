"""Work in processes: what a Ctrl-C at the terminal does to them, and what they share."""

from __future__ import annotations

import os
import signal

from imgdiff.backends.executors import LocalConfig
from imgdiff.backends.runtime import cores
from imgdiff.backends.workers import Report, in_processes


def _interrupted(part: int, report: Report) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    report(part)
    return 2 * part


def _shares(part: object, report: Report) -> tuple[int, str | None]:
    return cores(), os.environ.get("IMGDIFF_GPU_SHARE")


def test_workers_share_the_cores_and_those_of_a_run_one_gpu(monkeypatch) -> None:
    monkeypatch.setenv("IMGDIFF_CORES", "7")
    assert in_processes(_shares, [1, 2], print, "Try again.") == [(3, None)] * 2
    assert LocalConfig().spread(_shares, [1, 2, 3], print, 2) == [(3, "0.5")] * 2
    assert LocalConfig().spread(_shares, [1], print, 2) == [(7, None)]


def test_ctrl_c_is_for_the_parent_alone() -> None:
    heard: list[int] = []
    assert in_processes(_interrupted, [1, 2], heard.append, "Try again.") == [2, 4]
    assert sorted(heard) == [1, 2]

"""Work in processes: what a Ctrl-C at the terminal does to them."""

from __future__ import annotations

import os
import signal

from imgdiff.backends.workers import Report, in_processes


def _interrupted(part: int, report: Report) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    report(part)
    return 2 * part


def test_ctrl_c_is_for_the_parent_alone() -> None:
    heard: list[int] = []
    assert in_processes(_interrupted, [1, 2], heard.append, "Try again.") == [2, 4]
    assert sorted(heard) == [1, 2]

"""Parts made ahead of their consumer: order, memory, errors, and that no thread is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from imgdiff.core.ahead import ahead, in_threads


def left_behind() -> list[str]:
    """Threads of this module that still live."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("ahead", "beside"))]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert left_behind() == []


class Part:
    """Something that takes memory."""


def test_results_come_in_order_from_another_thread() -> None:
    threads = set()

    def make(part: int) -> int:
        threads.add(threading.current_thread().name)
        return 10 * part

    assert list(ahead(range(5), make)) == [0, 10, 20, 30, 40]
    assert list(ahead([], make)) == []
    assert list(ahead([7], make)) == [70]
    assert threads == {"ahead_0"}


def test_the_next_part_is_made_while_the_last_one_is_in_use() -> None:
    begun = [threading.Event() for _ in range(4)]

    def make(part: int) -> int:
        begun[part].set()
        return part

    for part in ahead(range(4), make):
        if part < 3:
            assert begun[part + 1].wait(timeout=10)
        assert not any(event.is_set() for event in begun[part + 2 :])


def test_two_results_are_in_memory_and_no_more() -> None:
    living: weakref.WeakSet[Part] = weakref.WeakSet()
    most = []

    def make(_: int) -> Part:
        part = Part()
        living.add(part)
        return part

    for _held in ahead(range(6), make):
        most.append(len(living))
    assert max(most) <= 2


def test_an_error_comes_in_its_place() -> None:
    def make(part: int) -> int:
        if part == 2:
            raise ValueError("part 2 is broken")
        return part

    seen: list[int] = []
    with pytest.raises(ValueError, match="part 2 is broken"):
        seen.extend(ahead(range(5), make))
    assert seen == [0, 1]
    assert left_behind() == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_thread_ends_with_a_consumer_that_fails(error: type[BaseException]) -> None:
    finished = []

    def make(part: int) -> int:
        finished.append(part)
        return part

    def consume() -> None:
        for part in ahead(range(100), make):
            if part == 3:
                raise error

    with pytest.raises(error):
        consume()
    assert left_behind() == []
    assert finished in ([0, 1, 2, 3], [0, 1, 2, 3, 4])


def test_the_thread_ends_with_a_consumer_that_stops_early() -> None:
    for part in ahead(range(100), int):
        if part == 1:
            break
    assert left_behind() == []
    assert next(ahead(range(100), int)) == 0
    assert left_behind() == []


WAITING = """
import time
from imgdiff.core.ahead import ahead

def make(part):
    if part:
        print("making", flush=True)
        time.sleep(0.5)
    return part

try:
    for part in ahead(range(1000), make):
        pass
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_a_consumer_that_waits() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background lets them, and it, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "making\n"
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out.splitlines()[-1], err, process.returncode) == ("interrupted", "", 0)


@pytest.mark.parametrize("threads", [0, 1, 3, 50])
def test_shared_out_items_keep_their_order(threads: int) -> None:
    assert in_threads(range(20), lambda item: item * item, threads) == [n * n for n in range(20)]
    assert in_threads([], int, threads) == []


def test_one_thread_is_this_one_and_several_work_at_once() -> None:
    assert in_threads([1, 2], lambda _: threading.current_thread().name, 1) == ["MainThread"] * 2
    meeting = threading.Barrier(3, timeout=10)  # breaks unless three are there at once
    assert sorted(in_threads(range(3), lambda _: meeting.wait(), 3)) == [0, 1, 2]


def test_the_first_error_of_shared_out_items_is_raised() -> None:
    def make(item: int) -> int:
        if item >= 4:
            raise ValueError(f"item {item} is broken")
        return item

    for threads in (1, 3):
        with pytest.raises(ValueError, match="item 4 is broken"):
            in_threads(range(9), make, threads)
    assert left_behind() == []

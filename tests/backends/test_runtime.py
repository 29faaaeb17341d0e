"""How many cores and threads a process takes beside a model."""

from __future__ import annotations

import os

import pytest

from imgdiff.backends import runtime


def test_a_process_has_the_cores_that_the_system_gives_it(monkeypatch) -> None:
    monkeypatch.delenv("IMGDIFF_CORES", raising=False)
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)


def test_a_worker_has_its_share(monkeypatch) -> None:
    for count, expected in ((6, 6), (1, 1), (0, 1)):
        for name, value in runtime.core_variables(count).items():
            monkeypatch.setenv(name, value)
        assert runtime.cores() == expected


@pytest.mark.parametrize(
    ("gpu", "cores", "threads"),
    [(False, 64, 1), (True, 1, 1), (True, 2, 1), (True, 6, 5), (True, 64, 8)],
)
def test_threads_beside_a_model(monkeypatch, gpu: bool, cores: int, threads: int) -> None:
    monkeypatch.setattr(runtime, "on_gpu", lambda: gpu)
    monkeypatch.setattr(runtime, "cores", lambda: cores)
    assert runtime.threads_beside_model() == threads


def test_a_process_without_a_model_is_on_no_gpu() -> None:
    assert runtime.on_gpu() is False

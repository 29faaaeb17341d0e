"""What tests of several backends share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from imgdiff.backends import batching, runtime


@pytest.fixture
def beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are prepared as beside a GPU, in three threads; the model stays on the CPU."""
    for module in (batching, runtime):
        monkeypatch.setattr(module, "on_gpu", lambda: True)
    monkeypatch.setattr(runtime, "cores", lambda: 4)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As in a run: with two, some CPUs round a number by its place in the batch."""
    usual = torch.get_num_threads()
    runtime.limit_torch_threads()
    yield
    torch.set_num_threads(usual)

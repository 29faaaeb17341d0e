"""What tests of several backends share."""

from __future__ import annotations

import pytest

from imgdiff.backends import batching, runtime


@pytest.fixture
def beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are prepared as beside a GPU, in three threads; the model stays on the CPU."""
    for module in (batching, runtime):
        monkeypatch.setattr(module, "on_gpu", lambda: True)
    monkeypatch.setattr(runtime, "cores", lambda: 4)

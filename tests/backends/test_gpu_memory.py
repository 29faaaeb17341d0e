"""What a process may take of a GPU, with torch's figures replaced by known ones."""

from __future__ import annotations

import pytest
import torch

from imgdiff.backends.gpu_memory import (
    device_variables,
    gpu_memory,
    gpu_variables,
    limit_gpu_memory,
)

GIB = 2**30


@pytest.fixture
def a_gpu_of_80(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Figures of torch.cuda in GiB: 70 of 80 are free, 6 are torch's, 2 of those in use."""
    figures = {"reserved": 6, "allocated": 2, "fraction": 1.0}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sizes = {"memory_reserved": "reserved", "memory_allocated": "allocated"}
    for function, name in sizes.items():
        monkeypatch.setattr(torch.cuda, function, lambda name=name: figures[name] * GIB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (70 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: figures["fraction"])
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda f: figures.update(fraction=f)
    )
    return figures


def room() -> float:
    memory = gpu_memory()
    assert memory is not None
    return memory.room() / GIB


def test_the_room_is_what_is_free_and_what_torch_keeps_for_reuse(a_gpu_of_80) -> None:
    assert room() == 70 + 4


@pytest.mark.parametrize(
    ("limit", "share", "expected"),
    [
        (0.5, 1.0, 40 - 6 + 4),  # 6 are taken, 4 of them unused
        (0.5, 0.25, 10 - 6 + 4),  # four workers on this GPU
        (None, 0.25, 20 - 6 + 4),
        (1.0, 1.0, 70 + 4),  # other programs hold the rest
        (0.01, 1.0, 0),  # the weights alone are beyond it
    ],
)
def test_a_limit_and_other_workers_leave_less(a_gpu_of_80, monkeypatch, limit, share, expected):
    for name, value in gpu_variables(share).items():
        monkeypatch.setenv(name, value)
    limit_gpu_memory(limit)
    assert room() == pytest.approx(expected)


def test_without_a_gpu_there_is_no_room_to_tell(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limit_gpu_memory(0.5)
    assert gpu_memory() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_tensors_take_of_a_real_gpu() -> None:
    memory = gpu_memory()
    assert memory is not None
    held = torch.empty(64 * 2**20, dtype=torch.uint8, device="cuda")

    def act() -> None:
        torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")

    assert memory.taken(act) == 256 * 2**20
    assert 0 < memory.room() <= torch.cuda.mem_get_info()[1] - held.nbytes
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(memory.room() + 2**30, dtype=torch.uint8, device="cuda")


def test_each_process_sees_one_gpu_and_knows_its_share(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    found = device_variables(3)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == ["2", "5", "2"]
    assert [one["IMGDIFF_GPU_SHARE"] for one in found] == ["0.5", "1.0", "0.5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_variables(2) == [{"IMGDIFF_GPU_SHARE": "0.5"}] * 2

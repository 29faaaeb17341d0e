"""Batches of one shape, their size, and what happens where a GPU's memory runs out."""

import threading

import pytest
import torch

from imgdiff.backends import batching
from imgdiff.backends.batching import (
    BatchSize,
    FoundBatchSize,
    NoRoomError,
    batch_size,
    in_batches,
    in_prepared_batches,
)
from imgdiff.backends.gpu_memory import gpu_memory
from imgdiff.core.errors import BackendError


def limited(room, seen):
    """A model with room for so many items; refuses as CUDA does."""

    def forward(batch):
        seen.append(list(batch))
        if len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [10 * item for item in batch]

    return forward


def test_batches_have_one_size_and_results_their_order() -> None:
    seen = []
    found = list(in_batches([1, 2, 3, 4, 5], BatchSize("m.batch_size", 2), limited(9, seen)))
    assert found == [10, 20, 30, 40, 50]
    assert seen == [[1, 2], [3, 4], [5, 5]]
    assert list(in_batches([], BatchSize("m.batch_size", 2), limited(9, seen))) == []


def test_a_batch_that_does_not_fit_is_done_by_halves_and_so_are_those_after_it(capsys) -> None:
    seen, size = [], BatchSize("matcher.batch_size", 8)
    forward = limited(3, seen)
    assert list(in_batches(list(range(11)), size, forward)) == [10 * n for n in range(11)]
    assert [len(batch) for batch in seen] == [8, 4, 2, 2, 2, 2, 2, 2]
    assert size.now == 2
    said = capsys.readouterr().out
    assert said.count("matcher.batch_size: the GPU's memory ran out") == 2
    seen.clear()
    assert list(in_batches([7, 8, 9], size, forward)) == [70, 80, 90]
    assert [len(batch) for batch in seen] == [2, 2]


def test_an_odd_size_comes_down_to_one() -> None:
    size = BatchSize("m.batch_size", 3)
    assert list(in_batches([1, 2], size, limited(1, []))) == [10, 20]
    assert size.now == 1


def test_where_not_even_one_fits_the_setting_and_the_remedies_are_named() -> None:
    with pytest.raises(BackendError, match=r"describer\.batch_size=1: not even one item fits") as e:
        list(in_batches([1], BatchSize("describer.batch_size", 4), limited(0, [])))
    assert e.value.__cause__ is None


def test_another_error_is_not_retried() -> None:
    def broken(batch):
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        list(in_batches([1], BatchSize("m.batch_size", 4), broken))


def test_batches_within_a_batch_shrink_first_and_then_the_outer_one() -> None:
    """As a VLM: memories of images within a pass of questions."""
    outer, inner = BatchSize("d.batch_size", 4), BatchSize("d.image_batch_size", 2)

    def questions_in(room):
        def questions(batch):
            def images(part):
                if len(batch) + len(part) > room:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return part

            return list(in_batches(batch, inner, images))

        return questions

    assert list(in_batches([1, 2, 3, 4], outer, questions_in(3))) == [1, 2, 3, 4]
    assert (outer.now, inner.now) == (2, 1)
    with pytest.raises(NoRoomError, match=r"d\.batch_size=1"):
        list(in_batches([1], outer, questions_in(1)))


class Prepared:
    """A `prepare` that notes what it got and in which thread."""

    def __init__(self):
        self.batches = []
        self.threads = set()

    def __call__(self, batch):
        self.batches.append(list(batch))
        self.threads.add(threading.current_thread().name)
        return [10 * item for item in batch]


def ahead_threads() -> list[str]:
    """Threads that prepare batches and still live."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("ahead")]


@pytest.mark.parametrize("gpu", [False, True])
def test_prepared_batches_are_the_same_with_and_without_a_gpu(monkeypatch, gpu) -> None:
    monkeypatch.setattr(batching, "on_gpu", lambda: gpu)
    seen, prepare = [], Prepared()
    size = BatchSize("m.batch_size", 2)
    made = in_prepared_batches([1, 2, 3, 4, 5], size, prepare, limited(9, seen))
    assert list(made) == [100, 200, 300, 400, 500]
    assert prepare.batches == [[1, 2], [3, 4], [5, 5]]
    assert seen == [[10, 20], [30, 40], [50, 50]]
    assert prepare.threads == {"ahead_0" if gpu else "MainThread"}
    assert list(in_prepared_batches([], size, prepare, limited(9, seen))) == []


@pytest.mark.parametrize("gpu", [False, True])
def test_what_was_prepared_for_a_size_that_does_not_fit_is_prepared_anew(monkeypatch, gpu) -> None:
    monkeypatch.setattr(batching, "on_gpu", lambda: gpu)
    seen, prepare = [], Prepared()
    items = list(range(11))
    size = BatchSize("m.batch_size", 8)
    found = list(in_prepared_batches(items, size, prepare, limited(3, seen)))
    assert found == [100 * item for item in items]
    assert [len(batch) for batch in seen] == [8, 4, 2, 2, 2, 2, 2, 2]
    of_two = [batch for batch in prepare.batches if len(batch) == 2]
    assert of_two == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 10]]
    assert ahead_threads() == []


def test_an_error_of_the_preparation_comes_after_the_results_before_it(monkeypatch) -> None:
    monkeypatch.setattr(batching, "on_gpu", lambda: True)

    def prepare(batch):
        if 4 in batch:
            raise BackendError("item 4 is broken")
        return batch

    found = []
    made = in_prepared_batches(range(9), BatchSize("m.batch_size", 2), prepare, list)
    with pytest.raises(BackendError, match="item 4 is broken"):
        found.extend(made)
    assert found == [0, 1, 2, 3]
    assert ahead_threads() == []


class SmallGpu:
    """A GPU of `room` bytes; an item of a pass takes `each`, the first pass 1000 more for good."""

    def __init__(self, room: int, each: int) -> None:
        self.left, self.each, self.setup = room, each, 1000
        self.passes: list[int] = []
        self.peak = 0

    def forward(self, batch: list[int]) -> list[int]:
        self.passes.append(len(batch))
        taken = self.each * len(batch) + self.setup
        if taken > self.left:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.peak = max(self.peak, taken)
        self.left -= self.setup
        self.setup = 0
        return [10 * item for item in batch]

    def room(self) -> int:
        return self.left

    def taken(self, act) -> int:
        self.peak = 0
        act()
        return self.peak


def found_on(gpu, key, most=128):
    return FoundBatchSize(key, 32, most, memory=lambda: gpu)


@pytest.mark.parametrize(
    ("room", "each", "size", "passes"),
    [
        (101_000, 1000, 64, [4, 4, 64]),  # 80 fit into four fifths of the room
        (81_000, 1000, 64, [4, 4, 64]),  # 64 do, and no more
        (80_999, 1000, 32, [4, 4, 32, 32]),
        (10**9, 1000, 128, [4, 4, 128]),  # no more than the stages ask about at once
        (3_500, 1000, 2, [4, 2, 2, *[2] * 20]),  # not even the trial's four fit
        (2_100, 1000, 1, [4, 2, 1, 1, *[1] * 40]),
        (10**9, 0, 128, [4, 4, 128]),
    ],
)
def test_a_size_that_no_one_chose_is_found_by_a_trial(room, each, size, passes, capsys) -> None:
    gpu = SmallGpu(room, each)
    found = found_on(gpu, f"m{room}-{each}.batch_size")
    assert list(in_batches(list(range(40)), found, gpu.forward)) == [10 * n for n in range(40)]
    assert (found.now, gpu.passes) == (size, passes)
    assert capsys.readouterr().out.count(f"batch_size: found to be {size}, by the GPU's") == 1
    gpu.passes.clear()
    list(in_batches([1], found, gpu.forward))
    assert gpu.passes == [size]  # there is one trial only


def test_the_same_size_is_told_once(capsys) -> None:
    for _ in range(3):  # as a model that is opened for every stage
        gpu = SmallGpu(101_000, 1000)
        list(in_batches([1], found_on(gpu, "told.batch_size"), gpu.forward))
    assert capsys.readouterr().out == "told.batch_size: found to be 64, by the GPU's memory.\n"


def test_a_found_size_still_halves_and_has_a_limit_of_its_own() -> None:
    gpu = SmallGpu(101_000, 1000)
    found = found_on(gpu, "halved.batch_size", most=16)
    assert list(in_batches([1, 2], found, gpu.forward)) == [10, 20]
    assert found.now == 16
    gpu.left = 9_000  # another program came
    assert list(in_batches([1, 2], found, gpu.forward)) == [10, 20]
    assert found.now == 8


def test_a_trial_of_nothing_is_none_and_one_that_cannot_fit_says_so() -> None:
    gpu = SmallGpu(1_500, 1000)
    found = found_on(gpu, "full.batch_size")
    assert list(in_batches([], found, gpu.forward)) == []
    assert gpu.passes == []
    with pytest.raises(NoRoomError, match=r"full\.batch_size=1: .*raise memory_limit"):
        list(in_batches([1], found, gpu.forward))


def test_on_a_cpu_an_unchosen_size_is_the_usual_one() -> None:
    seen = []
    found = FoundBatchSize("m.batch_size", 3, memory=lambda: None)
    assert list(in_batches([1, 2, 3, 4], found, limited(9, seen))) == [10, 20, 30, 40]
    assert [len(batch) for batch in seen] == [3, 3]


def test_a_setting_is_the_size_or_has_it_found() -> None:
    chosen = batch_size("m.batch_size", 7, usual=3)
    assert (type(chosen), chosen.now) == (BatchSize, 7)
    left_open = batch_size("m.batch_size", None, usual=3)
    assert (type(left_open), left_open.now) == (FoundBatchSize, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_size_found_on_a_real_gpu_fits_and_fills_it() -> None:
    memory = gpu_memory()
    assert memory is not None
    row = memory.room() // 50  # bytes of an item, and its copy takes as many again

    def forward(batch):
        filled = torch.empty((len(batch), row), dtype=torch.uint8, device="cuda").fill_(1)
        return (filled[:, 0] + filled.clone()[:, 1]).tolist()

    found = FoundBatchSize("gpu.batch_size", 1)
    assert list(in_batches(list(range(40)), found, forward)) == [2] * 40
    assert found.now == 16  # 20 fit into four fifths


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_real_gpu_that_runs_out_goes_on() -> None:
    free, _ = torch.cuda.mem_get_info()
    row = free // 12  # eight rows and their sum do not fit, four do

    def forward(batch):
        filled = torch.empty((len(batch), row), dtype=torch.uint8, device="cuda").fill_(1)
        return (filled[:, 0] + filled.clone()[:, 1]).tolist()

    size = BatchSize("m.batch_size", 8)
    assert list(in_batches(list(range(9)), size, forward)) == [2] * 9
    assert size.now == 4

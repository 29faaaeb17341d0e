"""Batches of one shape, and what happens where a GPU's memory runs out."""

import pytest
import torch

from imgdiff.backends.batching import BatchSize, NoRoomError, in_batches
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

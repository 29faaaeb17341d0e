"""Run lengths of masks: COCO's order, and back again."""

import json

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.core.masks import marked, mask_of, mask_text, runs_of


def drawn(rows):
    return np.array([[mark == "#" for mark in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "runs"),
    [
        (["..", ".."], [4]),
        (["##", "##"], [0, 4]),
        (["#.", ".."], [0, 1, 3]),
        (["..", "#."], [1, 1, 2]),  # down the columns
        ([".#", ".#"], [2, 2]),
    ],
)
def test_runs_go_down_the_columns_and_begin_with_zeros(rows, runs):
    mask = drawn(rows)
    assert runs_of(mask) == runs
    assert np.array_equal(mask_of(runs, 2, 2), mask)
    assert marked(runs) == mask.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools
def test_any_mask_comes_back_and_coco_reads_it():
    pycocotools = pytest.importorskip("pycocotools.mask")
    for seed in range(5):
        mask = np.random.default_rng(seed).random((7, 11)) < 0.4
        runs = runs_of(mask)
        assert np.array_equal(mask_of(runs, 11, 7), mask)
        coco = json.loads(mask_text(runs, 11, 7))
        packed = pycocotools.frPyObjects(coco, 7, 11)
        assert np.array_equal(pycocotools.decode(packed).astype(bool), mask)


@pytest.mark.parametrize("runs", [[], [3], [5], [2, -1, 3]])
def test_runs_of_another_size_are_refused(runs):
    with pytest.raises(DataError, match="not 2x2"):
        mask_of(runs, 2, 2)

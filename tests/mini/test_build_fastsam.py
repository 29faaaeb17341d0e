"""The recipe of FastSAM-mini: labels that fit the pixels, resuming, and a checkpoint that opens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imgdiff.backends.configs import FastSamConfig
from imgdiff.core.geometry import Box
from imgdiff.mini.build import fastsam as recipe
from imgdiff.mini.build.drawn import DrawnScenes, sampled
from imgdiff.mini.scene import SCENE_PX, Split


@pytest.fixture(scope="module")
def scenes() -> DrawnScenes:
    return sampled(Split.train, 6)


def square(left: int, top: int, side: int = 10) -> Box:
    return Box(left=left, top=top, right=left + side, bottom=top + side)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The work folder of a quick build, and its figures."""
    work = tmp_path_factory.mktemp("work")
    return work, recipe.build(work, quick=True)


def test_quick_build_writes_a_checkpoint_that_opens(built: tuple[Path, dict[str, float]]) -> None:
    work, metrics = built
    folder = work / "fastsam"
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert metrics["steps"] == recipe.QUICK.steps
    assert 0.0 <= metrics["recall_iou50"] <= 1.0
    text = (folder / "README.md").read_text()
    assert "AGPL-3.0" in text
    assert str(work) not in text
    assert (folder / recipe.FILE).stat().st_size < 6e6
    assert str(work).encode() not in (folder / recipe.FILE).read_bytes()
    with FastSamConfig(model=str(folder), confidence=0.0).build() as segmenter:
        assert len(segmenter.segment([Image.new("RGB", (128, 128))])[0]) > 0


def test_a_finished_build_gives_the_same_bytes_again(built: tuple[Path, dict[str, float]]) -> None:
    work, metrics = built
    written = (work / "fastsam" / recipe.FILE).read_bytes()
    assert recipe.build(work, quick=True) == metrics
    assert (work / "fastsam" / recipe.FILE).read_bytes() == written


def test_batches_depend_on_the_step_alone(scenes: DrawnScenes) -> None:
    first, again, other = (recipe.draw_batch(scenes, step, 4) for step in (5, 5, 6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["img"], other["img"])


def test_examples_number_the_objects_without_gaps(scenes: DrawnScenes) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        item = recipe.example(scenes, rng)
        assert item.pixels.shape == (SCENE_PX, SCENE_PX, 3)
        numbers = np.unique(item.labels)
        assert set(numbers) | {0} == set(range(int(numbers.max()) + 1))
        assert len(recipe.boxes_of(item.labels)) == numbers.max()


def test_a_batch_names_boxes_as_fractions_and_their_image() -> None:
    empty = np.zeros((128, 128), dtype=np.uint8)
    labels = empty.copy()
    labels[32:64, 0:64] = 1
    labels[96:128, 64:128] = 2
    pixels = np.full((128, 128, 3), 255, dtype=np.uint8)
    batch = recipe.collate([recipe.Example(pixels=pixels, labels=part) for part in (empty, labels)])
    assert batch["img"].shape == (2, 3, 128, 128)
    assert float(batch["img"].min()) == 1.0
    assert batch["batch_idx"].tolist() == [1.0, 1.0]
    assert batch["cls"].tolist() == [[0.0], [0.0]]
    assert batch["bboxes"].tolist() == [[0.25, 0.375, 0.5, 0.25], [0.75, 0.875, 0.5, 0.25]]
    assert batch["masks"].shape == (2, 32, 32)
    assert batch["masks"][1].unique(return_counts=True)[1].tolist() == [768, 128, 128]


def test_losses_are_finite_without_any_object() -> None:
    blank = recipe.Example(
        pixels=np.zeros((128, 128, 3), dtype=np.uint8), labels=np.zeros((128, 128), dtype=np.uint8)
    )
    parts = recipe.losses(recipe.new_model().train(), recipe.collate([blank, blank]))
    assert set(parts) == {"box", "mask", "object", "edge"}
    assert all(torch.isfinite(value) for value in parts.values())
    assert parts["box"].item() == 0.0


@pytest.mark.parametrize(
    ("found", "truth", "hits50", "hits75"),
    [
        ([square(0, 0)], [square(0, 0)], 1, 1),
        ([square(0, 3)], [square(0, 0)], 1, 0),  # IoU 0.54
        ([square(0, 5)], [square(0, 0)], 0, 0),
        ([square(0, 0), square(0, 1)], [square(0, 0)], 1, 1),  # one object is found once
        ([square(0, 0)], [square(0, 1), square(50, 50)], 1, 1),
        ([], [square(0, 0)], 0, 0),
        ([square(0, 0)], [], 0, 0),
        ([], [], 0, 0),
    ],
)
def test_agreement(found: list[Box], truth: list[Box], hits50: int, hits75: int) -> None:
    figures = recipe.agreement([found], [truth])
    assert figures == {
        "recall_iou50": hits50 / max(1, len(truth)),
        "recall_iou75": hits75 / max(1, len(truth)),
        "precision_iou50": hits50 / max(1, len(found)),
        "boxes_per_image": float(len(found)),
    }

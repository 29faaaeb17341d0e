"""Masks of segmented boxes: those of ultralytics, whatever else is in the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from imgdiff.backends import checkpoints
from imgdiff.backends.configs import FastSamConfig
from imgdiff.backends.fastsam import load_ultralytics, undisturbed
from imgdiff.backends.protocols import Masker
from imgdiff.core.errors import BackendError
from imgdiff.core.geometry import Box
from imgdiff.mini.scene import Split, draw_scene, sample_scene

pytestmark = pytest.mark.skipif(
    checkpoints.find("mini:fastsam") is None, reason="the checkpoint is not in this checkout"
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def drawings(count):
    rng = np.random.default_rng(11)
    return [draw_scene(sample_scene(rng, Split.validation)) for _ in range(count)]


def shared(one, two):
    return (one & two).sum() / (one | two).sum()


def test_masks_fit_what_was_drawn():
    drawn = drawings(6)
    images = [drawing.image for drawing in drawn]
    with FastSamConfig().build() as segmenter:
        assert isinstance(segmenter, Masker)
        boxes = segmenter.segment(images)
        masks = segmenter.masks(images, boxes)
    fits = [
        max((shared(mask, true) for mask in found), default=0.0)
        for drawing, found in zip(drawn, masks, strict=True)
        for true in drawing.masks
    ]
    assert np.mean(fits) > 0.85
    assert all(mask.shape == (128, 128) for found in masks for mask in found)


def test_a_mask_does_not_depend_on_what_else_is_asked():
    images = [drawing.image for drawing in drawings(4)]
    images[1] = images[1].resize((200, 90))
    with FastSamConfig(batch_size=3, confidence=0.05).build() as segmenter:
        boxes = [[box.rounded(4) for box in found] for found in segmenter.segment(images)]
        together = segmenter.masks(images, boxes)
        for image, wanted, masks in zip(images, boxes, together, strict=True):
            assert len(wanted) == len(masks) > 0
            last = segmenter.masks([image], [wanted[-1:]])[0]
            assert np.array_equal(last[0], masks[-1])
        assert segmenter.masks(images, [[], boxes[1], [], []])[0] == []


@pytest.mark.parametrize("size", [(128, 128), (200, 90), (61, 140)])
def test_same_masks_as_ultralytics(size):
    image = drawings(1)[0].image.resize(size)
    config = FastSamConfig(confidence=0.1)
    load_ultralytics()
    from ultralytics import FastSAM

    with undisturbed():
        (result,) = FastSAM(str(config.weights_file())).predict(
            np.asarray(image)[..., ::-1], imgsz=128, conf=config.confidence, iou=config.box_iou,
            max_det=config.max_detections, device="cpu", verbose=False, retina_masks=True,
        )  # fmt: skip
    with config.build() as segmenter:
        (boxes,) = segmenter.segment([image])
        (masks,) = segmenter.masks([image], [boxes])
    theirs = result.masks.data.numpy().astype(bool)
    assert len(masks) == len(theirs) > 0
    for ours, other in zip(masks, theirs, strict=True):
        assert shared(ours, other) > 0.999


def test_a_box_that_was_not_found_has_no_mask():
    with FastSamConfig().build() as segmenter, pytest.raises(BackendError, match="is none that"):
        segmenter.masks([Image.new("RGB", (128, 128))], [[Box(left=1, top=2, right=30, bottom=40)]])

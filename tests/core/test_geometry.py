"""Boxes: known answers at the borders, where off-by-one errors live."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.core.geometry import (
    Box,
    box_from,
    crop,
    has_pixels,
    normalised_text,
    pairwise_iou,
    suppress,
)


def box(left: float, top: float, right: float, bottom: float) -> Box:
    return Box(left=left, top=top, right=right, bottom=bottom)


def test_sizes_and_area() -> None:
    tall = box(1.5, 2, 4, 10)
    assert (tall.width, tall.height, tall.area) == (2.5, 8.0, 20.0)
    assert tall.as_tuple() == (1.5, 2, 4, 10)


def test_a_box_turned_inside_out_is_empty() -> None:
    assert (box(5, 5, 2, 9).width, box(5, 5, 2, 9).area) == (0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_coordinates_must_be_finite(value: float) -> None:
    with pytest.raises(DataError, match="not finite"):
        box(0, value, 1, 1)


@pytest.mark.parametrize("values", [[], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_box_from_needs_four_numbers(values: list[float]) -> None:
    with pytest.raises(ValueError, match="unpack"):
        box_from(values)


def test_clip_grow_union_and_round() -> None:
    assert box(-3, 2, 50, 9).clipped_to(40, 8) == box(0, 2, 40, 8)
    assert box(50, 50, 60, 60).clipped_to(40, 40).area == 0.0
    assert box(5, 5, 6, 6).grown(2) == box(3, 3, 8, 8)
    assert box(0, 4, 2, 6).union(box(1, 1, 9, 5)) == box(0, 1, 9, 6)
    assert box(0.04, 0.06, 1.26, 2.349).rounded() == box(0.0, 0.1, 1.3, 2.3)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (box(0, 0, 2, 2), box(0, 0, 2, 2), 1.0),
        (box(0, 0, 2, 2), box(1, 0, 3, 2), 1 / 3),
        (box(0, 0, 2, 2), box(2, 0, 4, 2), 0.0),  # touching borders share no pixel
        (box(0, 0, 2, 2), box(9, 9, 11, 11), 0.0),  # apart in both axes: not a product of minuses
        (box(1, 1, 1, 1), box(1, 1, 1, 1), 0.0),  # two empty boxes
        (box(0, 0, 4, 4), box(1, 1, 3, 3), 0.25),
    ],
)
def test_iou(left: Box, right: Box, expected: float) -> None:
    assert left.iou(right) == pytest.approx(expected)
    assert right.iou(left) == pytest.approx(expected)


def test_pairwise_iou_agrees_with_iou() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (12, 2))
    boxes_N4 = np.concatenate([corners, corners + rng.uniform(0, 30, (12, 2))], axis=1)
    expected = [[box_from(a).iou(box_from(b)) for b in boxes_N4] for a in boxes_N4]
    np.testing.assert_allclose(pairwise_iou(boxes_N4), expected)
    assert pairwise_iou(np.zeros((0, 4))).shape == (0, 0)


def test_pairwise_iou_with_inclusive_pixels() -> None:
    # (0..9) and (5..14) inclusive: 5 shared columns of 10, so 50 / 150.
    boxes_N4 = np.array([[0.0, 0.0, 9.0, 9.0], [5.0, 0.0, 14.0, 9.0]])
    assert pairwise_iou(boxes_N4, plus_one=True)[0, 1] == pytest.approx(1 / 3)
    assert pairwise_iou(boxes_N4)[0, 1] == pytest.approx(4 * 9 / (2 * 81 - 36))


def test_suppress_keeps_a_box_at_exactly_the_limit() -> None:
    # (0,0,2,1) lies in (0,0,2,2) with IoU exactly 0.5: the limit itself is allowed.
    iou_NN = pairwise_iou(np.array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.0]]))
    assert iou_NN[0, 1] == 0.5
    assert suppress(iou_NN, [0, 1], 0.5) == [0, 1]
    assert suppress(iou_NN, [0, 1], 0.49) == [0]


def test_suppress_follows_the_order_and_looks_at_kept_boxes_only() -> None:
    # A chain: 1 overlaps 0 and 2, which do not overlap each other.
    iou_NN = np.array([[1.0, 0.6, 0.1], [0.6, 1.0, 0.6], [0.1, 0.6, 1.0]])
    assert suppress(iou_NN, [0, 1, 2], 0.5) == [0, 2]
    assert suppress(iou_NN, [1, 0, 2], 0.5) == [1]
    assert suppress(iou_NN, [2, 1, 0], 0.5) == [2, 0]
    assert suppress(iou_NN, [], 0.5) == []


def test_crop_truncates_and_clips() -> None:
    image = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5))
    assert np.asarray(crop(image, box(1.9, 0.9, 3.9, 2.9))).tolist() == [[1, 2], [6, 7]]
    assert np.asarray(crop(image, box(3, 3, 99, 99))).tolist() == [[18, 19]]


@pytest.mark.parametrize(
    "empty", [box(2.1, 0, 2.9, 4), box(5, 0, 9, 4), box(-9, 0, 0, 4), box(3, 3, 1, 1)]
)
def test_a_crop_without_pixels_is_refused(empty: Box) -> None:
    assert not has_pixels(empty, 5, 4)
    with pytest.raises(DataError, match=r"no pixel inside an image of 5x4"):
        crop(Image.new("RGB", (5, 4)), empty)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0.00"),
        (0.07, "0.07"),
        (0.5, "0.50"),
        (0.995, "0.99"),  # 0.995 is a little less than it looks in binary
        (0.999, "1.00"),
        (1.0, "1.00"),
    ],
)
def test_normalised_text_has_two_decimals_of_one_length(fraction: float, text: str) -> None:
    assert normalised_text(box(0, 0, fraction, 1), 1, 1) == f"[0.00, 0.00, {text}, 1.00]"


def test_normalised_text_divides_x_by_width_and_y_by_height() -> None:
    assert normalised_text(box(40, 7, 64, 18), 100, 100) == "[0.40, 0.07, 0.64, 0.18]"
    assert normalised_text(box(100, 100, 200, 100), 400, 200) == "[0.25, 0.50, 0.50, 0.50]"


def test_shapes_are_checked_under_pytest() -> None:
    with pytest.raises(Exception, match="pairwise_iou"):
        pairwise_iou(np.zeros((3, 5)))

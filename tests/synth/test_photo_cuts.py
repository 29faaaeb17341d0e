"""Crops and thresholds of the benchmark of removal on photos, on cases made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_photos import Folder, ring

from benchmarks import photo_crops
from benchmarks.photo_cuts import Cuts, Scored, auc, choose, figures_of
from imgdiff.core.geometry import Box
from imgdiff.mini.build.clip_data import FALSE, TRUE, UNSURE


def scored(shown: float, moved: float, absent: float) -> Scored:
    return Scored(
        shown=(shown,), moved=(moved,), ground=(absent,), other=(absent,), misnamed=(absent,)
    )


def test_the_upper_threshold_lets_a_tenth_of_the_empty_crops_through() -> None:
    cuts = choose([scored(0.9, 0.8, n / 100) for n in range(101)])
    assert cuts == Cuts(at_least=0.9, at_most=0.8)


def test_the_lower_threshold_is_never_above_the_upper_one() -> None:
    cuts = choose([scored(0.9, 0.95, 0.2) for _ in range(5)])
    assert cuts == Cuts(at_least=0.2, at_most=0.2)


def test_shares_are_counted_on_both_sides_of_both_thresholds() -> None:
    rows = [scored(0.9, 0.9, 0.1), scored(0.9, 0.2, 0.5), scored(0.3, 0.3, 0.1)]
    found = figures_of(rows, Cuts(at_least=0.5, at_most=0.2))
    assert found["recognised"] == pytest.approx(2 / 3)
    assert found["recognised_background"] == pytest.approx(1 / 3)
    assert found["low_objects"] == 0.0
    assert found["low_other"] == pytest.approx(2 / 3)
    assert found["gone_unpainted"] == 0.5  # of the two that are recognised


@pytest.mark.parametrize(
    ("high", "low", "value"),
    [((2.0, 3.0), (0.0, 1.0), 1.0), ((0.0,), (1.0,), 0.0), ((1.0,), (1.0,), 0.5)],
)
def test_area_under_the_curve(high: tuple[float], low: tuple[float], value: float) -> None:
    assert auc(high, low) == value


@pytest.fixture
def photo(tmp_path) -> photo_crops.Shown:
    """A dog of 60 x 60 px in the left half, a cup of 40 x 40 px in the right half."""
    folder = Folder(tmp_path)
    folder.photo((2, ring(60, 90, 30, 30), {}), (3, ring(180, 90, 20, 20), {}))
    (shown,) = photo_crops.photos_of(folder.write(), "val2017")
    return shown


@pytest.mark.parametrize(
    ("box", "dog", "cup", "anything"),
    [
        ((30, 60, 90, 120), TRUE, FALSE, TRUE),
        ((160, 70, 200, 110), FALSE, TRUE, TRUE),
        ((60, 60, 120, 120), UNSURE, FALSE, UNSURE),  # half a dog
        ((0, 0, 240, 180), UNSURE, UNSURE, UNSURE),  # both inside, but small in the crop
        ((0, 0, 50, 50), FALSE, FALSE, FALSE),
    ],
)
def test_what_is_true_of_a_crop(photo, box, dog, cup, anything) -> None:
    kinds = photo_crops.kinds_of([photo])
    assert list(kinds) == ["cup", "dog", "object"]
    where = Box(left=box[0], top=box[1], right=box[2], bottom=box[3])
    assert photo_crops.truth_of(photo, where, kinds).tolist() == [cup, dog, anything]


def test_boxes_over_the_background_keep_their_size_and_stay_inside(photo) -> None:
    rng, box = np.random.default_rng(0), Box(left=30, top=60, right=90, bottom=120)
    for _ in range(50):
        empty = photo_crops.background(photo, box, rng)
        assert empty is not None
        assert photo.shares(empty)[1].sum() <= photo_crops.EMPTY
        assert (empty.width, empty.height) == pytest.approx((60, 60))
        assert empty.clipped_to(240, 180).area == pytest.approx(3600)

"""The comparison of decisions: every cause of a difference, from outcomes made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.area_verdicts import Agreement, Cause, Scored, middle_rules

RULES = {"image_similarity": [0.0, 0.9], "crop_similarity": [-2.0, 0.85], "match": [0.4, 2.0]}


def outcome(**changes: Any) -> dict[str, Any]:
    """Two boxes in the left image and one in the right; all of them pass."""
    return {
        "image_similarity": 0.5,
        "boxes": [[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0], [0.0, 0.0, 21.0, 20.0]],
        "from_left": 2,
        "crop_similarity": [0.2, 0.3, 0.4],
        "match": [[0.9, 0.8], [0.7, 0.6], [0.9, 0.5]],
        "kept": [0, 1],
    } | changes


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> Agreement:
    found = Agreement()
    found.add(ours, theirs, Scored(ours, theirs), RULES)
    return found


def test_equal_outcomes_agree_in_everything() -> None:
    found = agreement(outcome(), outcome())
    assert (found.boxes, found.both, found.differing, found.thin) == (3, 2, 0, 0)
    assert not found.causes
    assert set(found.largest.values()) == {0.0}


@pytest.mark.parametrize(
    ("theirs", "cause"),
    [
        ({"crop_similarity": [0.2, 0.86, 0.4]}, Cause.crops),
        ({"match": [[0.9, 0.8], [0.7, 0.39], [0.9, 0.5]]}, Cause.match),
        ({"match": [[0.9, 0.8], [None, 0.6], [0.9, 0.5]]}, Cause.match),
        ({}, Cause.unexplained),
    ],
)
def test_a_box_that_one_side_drops_has_a_cause(theirs: dict[str, Any], cause: Cause) -> None:
    found = agreement(outcome(), outcome(kept=[0], **theirs))
    assert (found.both, found.ours, found.theirs) == (1, 1, 0)
    assert found.causes == {cause: 1}


def test_bounds_are_inside_on_either_side() -> None:
    on_the_edge = outcome(crop_similarity=[0.85] * 3, match=[[0.4, 0.4]] * 3)
    assert agreement(on_the_edge, outcome()).differing == 0


def test_a_suppressed_box_follows_from_the_one_that_suppresses_it() -> None:
    theirs = outcome(crop_similarity=[0.9, 0.3, 0.4], kept=[1, 2])
    found = agreement(outcome(), theirs)
    assert (found.both, found.ours, found.theirs) == (1, 1, 1)
    assert found.causes == {Cause.crops: 1, Cause.follows: 1}


def test_a_pair_that_one_side_drops() -> None:
    found = agreement(outcome(), outcome(image_similarity=0.91, kept=[]))
    assert found.causes == {Cause.pair: 2}
    assert found.largest["image_similarity"] == pytest.approx(0.41)


def test_a_crop_that_is_cut_a_pixel_apart() -> None:
    boxes = outcome()["boxes"]
    shifted = [boxes[0], [39.9999, 40.0, 60.0, 60.0], boxes[2]]
    found = agreement(outcome(), outcome(boxes=shifted, crop_similarity=[0.2, 0.9, 0.4], kept=[0]))
    assert found.causes == {Cause.pixel: 1}
    assert found.largest["box_px"] == pytest.approx(1e-4)


@pytest.mark.parametrize(("height", "thin"), [(1, True), (2, False), (3, True), (4, False)])
def test_scores_of_thin_crops_do_not_count_as_differences(height: int, thin: bool) -> None:
    boxes = [[0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 40.0 + height], [0.0, 0.0, 21.0, 20.0]]
    theirs = outcome(boxes=boxes, crop_similarity=[0.2, 0.9, 0.4], kept=[0])
    found = agreement(outcome(boxes=boxes), theirs)
    assert found.thin == int(thin)
    assert found.causes == {Cause.thin if thin else Cause.crops: 1}
    assert found.largest["crop_similarity"] == pytest.approx(0.0 if thin else 0.6)


@pytest.mark.parametrize(
    "boxes",
    [
        [[0.0, 0.0, 20.0, 20.0]],
        [[0.0, 0.0, 20.0, 20.0], [1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 9.0, 9.0]],
    ],
)
def test_other_boxes_cannot_be_compared(boxes: list[list[float]]) -> None:
    found = agreement(outcome(), outcome(boxes=boxes, kept=[0]))
    assert (found.boxes, found.both) == (3, 0)
    assert found.causes == {Cause.boxes: 3}
    assert found.largest["crop_similarity"] == 0.0


def test_the_sums_of_several_pairs_as_json() -> None:
    found = Agreement()
    for theirs in (outcome(), outcome(crop_similarity=[0.2, 0.86, 0.4], kept=[0])):
        found.add(outcome(), theirs, Scored(outcome(), theirs), RULES)
    told = found.to_json()
    assert told["boxes"] == 6
    assert told["kept_by_both"] == 3
    assert told["kept_by_ours_only"] == 1
    assert told["causes"] == {"crop similarity across a threshold": 1}
    assert told["largest_difference"]["crop_similarity"] == pytest.approx(0.56)


def test_thresholds_between_meaningless_scores() -> None:
    one = outcome(crop_similarity=[0.1, 0.2, 0.3], match=[[0.5, 0.9], [0.6, 0.7], [0.9, 0.9]])
    two = outcome(crop_similarity=[0.4, 0.5, 0.6], match=[[0.5, 0.5]] * 3)
    rules = middle_rules([one, two], different=1 / 3, matching=0.5)
    assert rules["crop_similarity"] == pytest.approx([-2.0, 0.25])
    assert rules["match"] == pytest.approx([0.55, 2.0])

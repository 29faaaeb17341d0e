"""Intervals and region rules: strictness, order and limits as the facts state them."""

import pytest

from imgdiff.core.errors import ConfigError
from imgdiff.core.geometry import Box
from imgdiff.synth.selection import Combine, Interval, Order, Rules, area_verdict, passes, separate


@pytest.mark.parametrize(
    ("interval", "score", "accepted"),
    [
        (Interval(above=0.9, below=0.98), 0.9, False),
        (Interval(above=0.9, below=0.98), 0.901, True),
        (Interval(above=0.9, below=0.98), 0.98, False),
        (Interval(at_least=0.9, at_most=0.99), 0.9, True),
        (Interval(at_least=0.9, at_most=0.99), 0.99, True),
        (Interval(), -1e9, True),
        (Interval(at_least=0.5, at_most=0.5), 0.5, True),
    ],
)
def test_interval_strictness(interval, score, accepted):
    assert interval.accepts(score) is accepted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"above": 0.9, "below": 0.5}, "accepts no score"),
        ({"above": 0.5, "below": 0.5}, "accepts no score"),
        ({"at_least": 0.6, "at_most": 0.5}, "accepts no score"),
        ({"above": 0.1, "at_least": 0.2}, "both above and at_least"),
        ({"below": 0.1, "at_most": 0.2}, "both below and at_most"),
    ],
)
def test_empty_and_double_intervals_are_refused_by_key(settings, message):
    with pytest.raises(ConfigError, match=rf"rules\.content_match .*{message}"):
        Rules(content_match=Interval(**settings))


@pytest.mark.parametrize(
    ("combine", "left", "right", "passed"),
    [
        (Combine.either, 0.5, 0.1, True),
        (Combine.either, None, 0.5, True),
        (Combine.either, None, 0.1, False),
        (Combine.both, 0.5, 0.5, True),
        (Combine.both, 0.5, None, False),
        (Combine.both, 0.35, 0.5, False),
    ],
)
def test_sides_combine(combine, left, right, passed):
    assert passes(Interval(above=0.35), combine, left, right) is passed


def _box(left, right):
    return Box(left=left, top=0, right=right, bottom=10)


def test_suppression_keeps_the_most_different():
    boxes = [_box(0, 10), _box(1, 11), _box(30, 40)]
    assert separate(boxes, [0.8, 0.2, 0.5], Rules()) == [1, 2]
    assert separate(boxes, [0.8, 0.2, 0.5], Rules(order=Order.detector)) == [0, 2]


def test_iou_of_exactly_one_half_is_kept():
    boxes = [_box(0, 10), _box(0, 20)]
    assert separate(boxes, [0.1, 0.2], Rules(plus_one=False)) == [0, 1]
    assert separate(boxes, [0.1, 0.2], Rules(plus_one=True)) == [0]  # 121 / 231


def test_ties_keep_the_earlier_box():
    assert separate([_box(0, 10), _box(0, 10)], [0.3, 0.3], Rules()) == [0]


def test_area_bounds_are_strict_below():
    rules = Rules(min_area=0.0025, max_area=0.1)
    exactly = Box(left=0, top=0, right=5, bottom=5)
    assert area_verdict(exactly, 100, 100, rules) is None
    assert area_verdict(_box(0, 2), 100, 100, rules) == "region too small"
    assert (
        area_verdict(Box(left=0, top=0, right=50, bottom=50), 100, 100, rules) == "region too large"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"max_iou": 1.5},
        {"min_area": 0.5, "max_area": 0.1},
        {"max_regions": 0},
        {"max_candidates": 0},
    ],
)
def test_rules_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match="rules"):
        Rules(**settings)

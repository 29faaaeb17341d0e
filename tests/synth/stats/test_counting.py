"""Histograms, tallies and score decisions against slow and plain ways to the same numbers."""

import math
from collections import Counter

import numpy as np
import pytest

from imgdiff.core.identity import fingerprint
from imgdiff.synth.decide import accepts
from imgdiff.synth.selection import Combine, Interval, passes
from imgdiff.synth.stats import tally
from imgdiff.synth.stats.charts import percent_of, ratio, short, threshold_places
from imgdiff.synth.stats.histogram import AREAS, ASPECTS, SCORES, WORDS, Grid, Histogram, bars_of
from imgdiff.synth.stats.scores import decided
from imgdiff.synth.stats.tally import Tally

NAN = math.nan


def filled(axis, *numbers):
    histogram = Histogram(axis)
    histogram.add(np.array(numbers, dtype=np.float64))
    return histogram


def test_scores_fall_into_bins_of_a_thousandth_and_nan_into_none():
    held = filled(SCORES, -1.0, 0.85, 0.8509, 0.851, 1.0, NAN, 1.2, -1.5, math.inf)
    assert held.counts[0] == 1
    assert (held.counts[1850], held.counts[1851]) == (2, 1)
    assert held.counts[-1] == 1  # the last bin holds its end
    assert (held.below, held.above, held.total) == (1, 2, 8)


def test_areas_are_counted_by_their_logarithm():
    held = filled(AREAS, 1.0, 0.1, 0.01, 1e-5, 0.0, 1e-6)
    assert (held.counts[49], held.counts[40], held.counts[30], held.counts[0]) == (1, 1, 1, 1)
    assert held.below == 2  # no area, and less than 0.001 %


def test_a_square_lies_on_the_edge_of_the_middle():
    held = filled(ASPECTS, 1.0, 2.0, 0.5, 32.0)
    assert (held.counts[16], held.counts[20], held.counts[12], held.above) == (1, 1, 1, 1)


@pytest.mark.parametrize("axis", [SCORES, AREAS, ASPECTS, WORDS])
@pytest.mark.parametrize("seed", range(3))
def test_bars_hold_what_the_bins_hold(axis, seed):
    numbers = np.random.default_rng(seed)
    held = filled(axis, *np.abs(numbers.normal(0.2, 0.2, 500)), *numbers.integers(0, 40, 20))
    (bars,) = bars_of([held], most=20, also=[axis.low, axis.high])
    assert sum(bars.counts) == held.counts.sum()
    assert len(bars.edges) == len(bars.counts) + 1
    assert list(bars.edges) == sorted(bars.edges)
    assert len(bars.counts) <= 32
    assert bars.total == 520


def test_bars_reach_as_far_as_the_threshold():
    (bars,) = bars_of([filled(SCORES, 0.1, 0.11)], also=[0.9])
    assert bars.edges[0] <= 0.1
    assert bars.edges[-1] >= 0.9


def test_nothing_gives_no_bars():
    assert bars_of([Histogram(SCORES), Histogram(SCORES)]) == []
    assert bars_of([filled(SCORES, NAN, 5.0)]) == []


def test_cells_of_a_grid():
    grid = Grid(cells=4)
    grid.add(np.array([0.0, 0.99, 1.0, 0.5, NAN, -3.0]), np.array([0.0, 0.99, 1.0, 0.25, 0.5, 9.0]))
    assert grid.counts.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 2]]


@pytest.mark.parametrize("waiting", [1, 7, 10_000])
def test_a_tally_counts_as_a_counter_does(waiting, monkeypatch):
    monkeypatch.setattr(tally, "_WAITING", waiting)
    numbers = np.random.default_rng(0)
    texts = [f"text {n}" for n in numbers.zipf(1.5, 3000) % 400] + ["", "\ud800", "כלב"]
    held, plain = Tally(), Counter(texts)
    for start in range(0, len(texts), 50):
        held.add(texts[start : start + 50])
    figures = held.repeated()
    assert (figures.total, figures.distinct) == (len(texts), len(plain))
    assert figures.repeated == sum(n > 1 for n in plain.values())
    assert figures.most == max(plain.values())
    assert figures.spare == len(texts) - len(plain)
    assert list(held.top(5).values()) == sorted(plain.values(), reverse=True)[:5]
    assert set(held.top(10**6, least=2).values()) == {n for n in plain.values() if n > 1}


def test_an_empty_tally():
    assert Tally().top(5) == {}
    assert Tally().repeated() == tally.Repeated(total=0, distinct=0, repeated=0, most=0)


INTERVALS = [
    Interval(), Interval(above=0.35), Interval(at_least=0.35), Interval(below=0.85),
    Interval(at_most=0.2), Interval(above=0.9, below=0.98), Interval(at_least=0.35, at_most=0.85),
]  # fmt: skip
SIDES = [None, -1.0, 0.2, 0.35, 0.36, 0.85, 0.9, 0.95, 0.98, 1.0]


@pytest.mark.parametrize("interval", INTERVALS, ids=Interval.describe)
def test_each_score_is_accepted_as_alone(interval):
    scores = np.array([NAN if side is None else side for side in SIDES])
    expected = [side is not None and interval.accepts(side) for side in SIDES]
    assert accepts(interval, scores).tolist() == expected


@pytest.mark.parametrize("combine", Combine)
@pytest.mark.parametrize("interval", INTERVALS, ids=Interval.describe)
def test_two_sides_decide_as_the_pipeline_does(interval, combine):
    pairs = [(left, right) for left in SIDES for right in SIDES]
    columns = np.array(pairs, dtype=np.float64).T
    deciding, accepted = decided(interval, combine, columns[0], columns[1])
    assert accepted.tolist() == [passes(interval, combine, *both) for both in pairs]
    known = ~np.isnan(deciding)
    one_ended = (interval.above is None and interval.at_least is None) or (
        interval.below is None and interval.at_most is None
    )
    if one_ended:  # then what is drawn is on the side of the threshold that the verdict says
        assert (accepts(interval, deciding) == accepted)[known].all()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (1200, "1.2k"), (30_000, "30k"), (4e6, "4M")]
)
def test_short_numbers(number, text):
    assert short(number) == text


@pytest.mark.parametrize(
    ("place", "text"), [(0, "1:1"), (1, "2:1"), (-1, "1:2"), (2, "4:1"), (-1.5, "1:2.8")]
)
def test_ratios(place, text):
    assert ratio(place) == text


def test_thresholds_lie_where_their_numbers_do():
    assert percent_of(0.0025) == "0.25 %"
    assert threshold_places(Interval(above=0.9, below=0.98), SCORES) == [0.9, 0.98]
    assert threshold_places(Interval(at_least=0.01), AREAS) == pytest.approx([-2.0])
    assert threshold_places(Interval(at_least=0.0), AREAS) == [AREAS.low]
    assert threshold_places(Interval(at_most=math.inf), SCORES) == []
    assert threshold_places(None, SCORES) == []


def test_ids_are_not_needed_for_the_hash_of_a_text():
    assert tally.hashes(["a"]).tolist() == tally.hashes(["b", "a"]).tolist()[1:]
    assert len(set(tally.hashes([fingerprint(n) for n in range(1000)]).tolist())) == 1000

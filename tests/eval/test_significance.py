"""Published tables, symmetry, and the tables at the edges."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.eval.significance import (
    McNemar,
    PairedTable,
    compare,
    mcnemar,
    newcombe_interval,
    paired_table,
    table_of,
)


def table(both: int, only_second: int, only_first: int, neither: int) -> PairedTable:
    """In the order of published tables, whose difference is the first row's share less the first
    column's: our second run less our first."""
    return PairedTable(both=both, only_first=only_first, only_second=only_second, neither=neither)


@pytest.mark.parametrize(
    ("counts", "difference", "low", "high"),
    [
        # Newcombe 1998: 50 patients.
        ((36, 12, 2, 0), 0.2, 0.0569, 0.3404),
        # Bentur et al. 2009 and Cavo et al. 2012, as in Fagerland, Lydersen and Laake.
        ((1, 1, 7, 12), -0.2857, -0.5069, -0.0256),
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
        # Altman et al. 2000, Statistics with Confidence, table 6.2.
        ((14, 5, 0, 22), 0.1220, 0.0115, 0.2265),
    ],
)
def test_published_intervals(
    counts: tuple[int, int, int, int], difference: float, low: float, high: float
) -> None:
    found = compare(table(*counts))
    assert [round(x, 4) for x in (found.difference, found.low, found.high)] == [
        difference, low, high,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "exact", "mid_p"),
    [
        (1, 7, 18 / 256, 10 / 256),  # Fagerland, Lydersen and Laake 2013: 0.070 and 0.039
        (6, 16, 0.05248, 0.03469),  # the same authors' second table: 0.0525 and 0.0347
        (0, 5, 2 / 32, 1 / 32),
        (0, 6, 2 / 64, 1 / 64),
        (0, 1, 1.0, 0.5),
        (1, 1, 1.0, 0.75),
        (5, 5, 1.0, 1 - 252 / 2048),
        (0, 0, 1.0, 1.0),
        (10, 20, 0.098737, 0.070756),
    ],
)
def test_mcnemar(first: int, second: int, exact: float, mid_p: float) -> None:
    expected = pytest.approx([exact, mid_p], abs=6e-6)
    found, swapped = mcnemar(first, second), mcnemar(second, first)
    assert [found.exact, found.mid_p] == expected
    assert found == swapped


def test_mcnemar_is_the_sum_of_the_binomial_tails() -> None:
    for differing in range(1, 30):
        chances = [Fraction(math.comb(differing, k), 2**differing) for k in range(differing + 1)]
        for first in range(differing + 1):
            as_far = [k for k in range(differing + 1) if chances[k] <= chances[first]]
            exact = sum(chances[k] for k in as_far)
            same = sum(chance for chance in chances if chance == chances[first])
            found = mcnemar(first, differing - first)
            assert found.exact == float(exact)
            assert found.mid_p == float(exact - same / 2)


def test_mcnemar_of_large_tables_neither_overflows_nor_vanishes() -> None:
    even, lopsided = mcnemar(5000, 5000), mcnemar(4800, 5200)
    assert even.exact == 1.0
    z = (400 - 1) / math.sqrt(10_000)  # with the continuity correction
    assert lopsided.exact == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert 0 < mcnemar(0, 1000).exact < 1e-300


def test_swapping_the_runs_turns_the_interval_round() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        counts = PairedTable(
            **{
                name: int(rng.integers(0, 40))
                for name in ("both", "only_first", "only_second", "neither")
            }
        )
        if counts.n == 0:
            continue
        there, back = compare(counts), compare(counts.swapped())
        assert back.difference == -there.difference
        assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-12)
        assert back.mcnemar == there.mcnemar
        assert back.within_noise == there.within_noise
        assert -1 <= there.low <= there.difference <= there.high <= 1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    chances = [0.25, 0.06, 0.10, 0.59]  # both, only first, only second, neither: 150 pairs
    covered = 0
    for row in rng.multinomial(150, chances, size=2000):
        both, only_first, only_second, neither = (int(count) for count in row)
        low, high = newcombe_interval(table(both, only_second, only_first, neither))
        covered += low <= 0.04 <= high
    assert 0.94 <= covered / 2000 <= 0.97


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [  # at (n, 0, 0, 0) and the like both Wilson intervals end at the edge
        ((150, 0, 0, 0), -0.0250, 0.0250),
        ((0, 0, 0, 150), -0.0250, 0.0250),
        ((0, 150, 0, 0), 0.9647, 1.0),
        ((0, 0, 150, 0), -1.0, -0.9647),
        ((0, 1, 0, 0), -0.1221, 1.0),
        ((1, 0, 0, 0), -0.7935, 0.7935),
    ],
)
def test_tables_at_the_edges(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    found = compare(table(*counts))
    assert [round(found.low, 4), round(found.high, 4)] == [low, high]


def test_runs_that_agree_everywhere_do_not_differ() -> None:
    found = compare(PairedTable(both=40, only_first=0, only_second=0, neither=110))
    assert found.difference == 0.0
    assert found.mcnemar == McNemar(exact=1.0, mid_p=1.0)
    assert found.low == pytest.approx(-found.high)
    assert found.within_noise


def test_five_pairs_of_150_are_noise_and_twenty_five_are_not() -> None:
    """LLaVA-1.5-7B 24.0 -> 27.3 and MGM-7B 40.0 -> 50.7, with 8 pairs lost on the way."""
    assert compare(PairedTable(both=28, only_first=8, only_second=13, neither=101)).within_noise
    gained = compare(PairedTable(both=52, only_first=8, only_second=24, neither=66))
    assert round(gained.difference, 4) == 0.1067
    assert not gained.within_noise


def test_a_difference_must_pass_the_test_and_the_interval() -> None:
    bentur = compare(table(1, 1, 7, 12))
    assert bentur.high < 0
    assert bentur.mcnemar.exact > 0.05 > bentur.mcnemar.mid_p
    assert bentur.within_noise


def test_tables_are_counted_by_item() -> None:
    first = {"1": True, "2": True, "3": False, "4": False, "5": False}
    second = {"5": True, "4": False, "3": True, "2": False, "1": True}
    counted = paired_table(first, second)
    assert counted == PairedTable(both=1, only_first=1, only_second=2, neither=1)
    assert (counted.first.hits, counted.second.hits, counted.n) == (2, 3, 5)
    assert table_of([True, False], [False, False]) == table(0, 0, 1, 1)


def test_what_cannot_be_compared_says_why() -> None:
    with pytest.raises(DataError, match="no items to compare"):
        paired_table({}, {})
    with pytest.raises(DataError, match="no items to compare"):
        compare(table(0, 0, 0, 0))
    with pytest.raises(DataError, match="below 0"):
        compare(table(3, -1, 0, 0))
    with pytest.raises(DataError, match="-1"):
        mcnemar(-1, 4)
    with pytest.raises(DataError, match=r"5 items are in one run only \(1, 2, 3, \.\.\.\)"):
        paired_table({"1": True, "2": True, "3": True}, {"4": True, "5": False})
    with pytest.raises(DataError, match="2 and 1 outcomes"):
        table_of([True, False], [True])

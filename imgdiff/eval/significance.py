"""Whether two runs over the same items differ by more than chance: McNemar and an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imgdiff.core.errors import DataError
from imgdiff.eval.scores import Share

SIGNIFICANT = 0.05  # two-sided
_NAMED = 3  # ids that a message names


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTable:
    """How many items both runs have right, only the first, only the second, and neither."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def n(self) -> int:
        """All items."""
        return self.both + self.only_first + self.only_second + self.neither

    @property
    def first(self) -> Share:
        """What the first run has right."""
        return Share(hits=self.both + self.only_first, total=self.n)

    @property
    def second(self) -> Share:
        """What the second run has right."""
        return Share(hits=self.both + self.only_second, total=self.n)

    def swapped(self) -> PairedTable:
        """The table with the two runs exchanged."""
        return PairedTable(
            both=self.both,
            only_first=self.only_second,
            only_second=self.only_first,
            neither=self.neither,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """Two-sided p-values of "each item on which the runs differ fell either way by chance".

    `exact` is the conditional binomial test, `mid_p` the same with half the weight of what was
    observed, which is less conservative (Fagerland, Lydersen and Laake 2013). Both are 1 where the
    runs differ nowhere.
    """

    exact: float
    mid_p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """The second run's share minus the first's, in [-1, 1], with its 95 % interval and test."""

    table: PairedTable
    difference: float
    low: float
    high: float
    mcnemar: McNemar

    @property
    def within_noise(self) -> bool:
        """True unless the exact test rejects at 5 % and the interval leaves zero out as well.

        The two are made differently and may disagree by a hair; a difference has to pass both.
        """
        return self.mcnemar.exact >= SIGNIFICANT or self.low <= 0.0 <= self.high


def paired_table(first: Mapping[str, bool], second: Mapping[str, bool]) -> PairedTable:
    """The table of two runs, each "right or wrong" by item id.

    DataError where the runs do not hold the same items, or none.
    """
    apart = sorted(first.keys() ^ second.keys())
    if apart:
        raise DataError(
            f"{len(apart)} items are in one run only ({', '.join(apart[:_NAMED])}"
            f"{', ...' if len(apart) > _NAMED else ''}). A paired comparison needs two runs on the "
            "same items; evaluate both on the same benchmark and split."
        )
    return table_of([first[key] for key in first], [second[key] for key in first])


def table_of(first: Sequence[bool], second: Sequence[bool]) -> PairedTable:
    """The table of two runs whose outcomes stand in the same order. DataError as `paired_table`."""
    if len(first) != len(second):
        raise DataError(
            f"the runs have {len(first)} and {len(second)} outcomes; a paired comparison needs one "
            "of each for every item"
        )
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    table = PairedTable(
        both=pairs.count((True, True)),
        only_first=pairs.count((True, False)),
        only_second=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )
    _check(table)
    return table


def compare(table: PairedTable) -> PairedDifference:
    """Difference, interval and test of a table. DataError where it is empty or holds a negative."""
    _check(table)
    low, high = newcombe_interval(table)
    return PairedDifference(
        table=table,
        difference=(table.only_second - table.only_first) / table.n,
        low=low,
        high=high,
        mcnemar=mcnemar(table.only_first, table.only_second),
    )


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """The test of McNemar (1947) on the items that one run alone has right, without approximation.

    Integers throughout, so that no table overflows; exact to the last digit of a float.
    """
    differing, smaller = only_first + only_second, min(only_first, only_second)
    if only_first < 0 or only_second < 0:
        raise DataError(f"counts are {only_first} and {only_second}; neither may be below 0")
    ways, at_most = 1, 1  # C(differing, k) for k = 0, and their sum up to k
    for k in range(smaller):
        ways = ways * (differing - k) // (k + 1)
        at_most += ways
    total = 1 << differing
    # Where both counts are equal the two tails share the observed table; it counts once.
    tails = total if 2 * smaller == differing else 2 * at_most
    observed = ways if 2 * smaller == differing else 2 * ways
    return McNemar(
        exact=tails / total,
        mid_p=(2 * tails - observed) / (2 * total) if differing else 1.0,
    )


def newcombe_interval(table: PairedTable) -> tuple[float, float]:
    """95 % interval of the second share minus the first: method 10 of Newcombe (1998, paired).

    The Wilson intervals of both shares, squared and added with their correlation, which is drawn
    towards zero by a continuity correction where it is positive. Statistics in Medicine 17,
    2635-2650.
    """
    _check(table)
    p1, p2 = table.second.value, table.first.value
    (low1, high1), (low2, high2) = table.second.interval(), table.first.interval()
    phi = _correlation(table)
    difference = (table.only_second - table.only_first) / table.n
    return (
        max(-1.0, difference - _combined(p1 - low1, high2 - p2, phi)),
        min(1.0, difference + _combined(high1 - p1, p2 - low2, phi)),
    )


def _combined(one: float, other: float, phi: float) -> float:
    """Rounding may take the square below zero where phi is 1."""
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def _correlation(table: PairedTable) -> float:
    """Newcombe's phi; 0 where a run has all or nothing right."""
    hits1, hits2, n = table.first.hits, table.second.hits, table.n
    margins = hits1 * (n - hits1) * hits2 * (n - hits2)
    if margins == 0:
        return 0.0
    agreement = table.both * table.neither - table.only_first * table.only_second
    corrected = max(agreement - n / 2, 0.0) if agreement > 0 else float(agreement)
    return corrected / math.sqrt(margins)


def _check(table: PairedTable) -> None:
    counts = (table.both, table.only_first, table.only_second, table.neither)
    if min(counts) < 0:
        raise DataError(f"{table}: no count may be below 0")
    if table.n == 0:
        raise DataError("no items to compare: both runs are empty. Evaluate at least one item.")

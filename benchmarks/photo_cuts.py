"""Two thresholds from scores of unpainted crops, and what they do. See removal_photos.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FALSE_ALARMS = 0.1  # share of crops without the object that may reach the upper threshold
LOST = 0.1  # share of recognised objects that may fall to the lower one when their box moves
KINDS = ("shown", "moved", "ground", "other", "misnamed")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Scores of an object's own name, but for `misnamed`. Nothing found is an empty tuple.

    `shown`: its box. `moved`: its box with moved edges. `ground`: as large a box over background.
    `other`: as large a box over anything but its category. `misnamed`: its box with the names of
    categories that the photo does not show.
    """

    shown: tuple[float, ...]
    moved: tuple[float, ...]
    ground: tuple[float, ...]
    other: tuple[float, ...]
    misnamed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """An object is recognised from `at_least` on, and gone at or below `at_most`."""

    at_least: float
    at_most: float


def choose(scored: Sequence[Scored], false_alarms: float = FALSE_ALARMS) -> Cuts:
    """The two thresholds from scores of unpainted crops.

    `at_least`: `false_alarms` of the crops without the object reach it. `at_most`: LOST of the
    recognised objects fall to it when their box moves; never above the other.
    """
    absent = [score for one in scored for score in (*one.ground, *one.other)]
    at_least = float(np.quantile(absent, 1.0 - false_alarms))
    moved = [score for one in scored if one.shown[0] >= at_least for score in one.moved]
    at_most = min(at_least, float(np.quantile(moved, LOST)))
    return Cuts(at_least=round(at_least, 4), at_most=round(at_most, 4))


def auc(high: Sequence[float], low: Sequence[float]) -> float:
    """How often a score of the first kind exceeds one of the second; a tie counts half."""
    high_N1, low_M = np.asarray(high)[:, None], np.asarray(low)
    return float((high_N1 > low_M).mean() + (high_N1 == low_M).mean() / 2)


def figures_of(scored: Sequence[Scored], cuts: Cuts) -> dict[str, float]:
    """What the thresholds do to unpainted crops: shares, and areas under the curve."""
    pooled = {kind: [s for one in scored for s in getattr(one, kind)] for kind in KINDS}
    shown = pooled["shown"]
    moved = [s for one in scored if one.shown[0] >= cuts.at_least for s in one.moved]
    return {
        "objects": float(len(scored)),
        "auc_background": auc(shown, pooled["ground"]),
        "auc_other": auc(shown, pooled["other"]),
        "auc_wrong_name": auc(shown, pooled["misnamed"]),
        "recognised": _share(shown, cuts.at_least, above=True),
        "recognised_background": _share(pooled["ground"], cuts.at_least, above=True),
        "recognised_other": _share(pooled["other"], cuts.at_least, above=True),
        "recognised_by_wrong_name": _share(pooled["misnamed"], cuts.at_least, above=True),
        "low_objects": _share(shown, cuts.at_most, above=False),
        "low_background": _share(pooled["ground"], cuts.at_most, above=False),
        "low_other": _share(pooled["other"], cuts.at_most, above=False),
        "gone_unpainted": _share(moved, cuts.at_most, above=False),
    }


def _share(scores: Sequence[float], cut_at: float, *, above: bool) -> float:
    values = np.asarray(scores)
    return float((values >= cut_at if above else values <= cut_at).mean())

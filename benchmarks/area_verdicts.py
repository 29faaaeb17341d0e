"""Whether two systems decided the same over the boxes of image pairs, and where not, why.

An outcome is what either side of `area.py` tells of a pair: `boxes` (xyxy pixels, those of the left
image first, whose number is `from_left`), `image_similarity`, `crop_similarity` and `match` (left
and right) of each box, None where it was not asked for, and `kept`, the numbers of the boxes that
stand.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Outcome = Mapping[str, Any]
Intervals = Mapping[str, Sequence[float]]
SAME_PX = 1e-3  # between corners of one box
MOVED = 1.25  # times as many boxes that a looser threshold accepts, or one that rejects fewer
# Heights that transformers 4 takes for a number of channels, and the crop for channels first.
CHANNELS = (1, 3)


class Cause(str, enum.Enum):
    """Why a box stands on one side only; the first that holds."""

    boxes = "the segmenter found other boxes"
    pair = "image similarity across a threshold"
    pixel = "the crop is a pixel apart"
    thin = "the crop is 1 or 3 px high: the peer's library reads it as channels first"
    crops = "crop similarity across a threshold"
    match = "match across a threshold"
    follows = "follows from another box that overlaps it"
    unexplained = "no reason found"


@dataclass
class Agreement:
    """Boxes by who keeps them, why they differ, and the largest differences of scores.

    Scores of thin crops (see `Cause.thin`) are counted in `thin` and in no difference.
    """

    boxes: int = 0
    thin: int = 0
    both: int = 0
    ours: int = 0
    theirs: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(
        default_factory=lambda: {"box_px": 0.0, "image_similarity": 0.0, "crop_similarity": 0.0,
                                 "match": 0.0}
    )  # fmt: skip

    @property
    def differing(self) -> int:
        """Boxes that stand on one side only."""
        return self.ours + self.theirs

    def add(self, ours: Outcome, theirs: Outcome, scored: Scored, rules: Intervals) -> None:
        """One pair: what was decided, and all scores by which (see `Scored`)."""
        kept = set(ours["kept"]), set(theirs["kept"])
        same = _same_boxes(scored.ours, scored.theirs)
        self._note_scores(scored, same=same)
        if not same:
            self.boxes += max(len(scored.ours["boxes"]), len(scored.theirs["boxes"]))
            self.ours, self.theirs = self.ours + len(kept[0]), self.theirs + len(kept[1])
            self.causes[Cause.boxes] += len(kept[0]) + len(kept[1])
            return
        self.boxes += len(scored.ours["boxes"])
        self.thin += sum(map(scored.thin, range(len(scored.ours["boxes"]))))
        self.both += len(kept[0] & kept[1])
        self.ours += len(kept[0] - kept[1])
        self.theirs += len(kept[1] - kept[0])
        own = {number: scored.cause(number, rules) for number in range(len(scored.ours["boxes"]))}
        for number in sorted(kept[0] ^ kept[1]):
            self.causes[own[number] or _overlap_cause(own)] += 1

    def _note_scores(self, scored: Scored, *, same: bool) -> None:
        for name, apart in scored.differences(same=same):
            self.largest[name] = max(self.largest[name], apart)

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return {
            "boxes": self.boxes, "thin": self.thin, "kept_by_both": self.both,
            "kept_by_ours_only": self.ours, "kept_by_theirs_only": self.theirs,
            "causes": {Cause(cause).value: count for cause, count in self.causes.items()},
            "largest_difference": self.largest,
        }  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """Both outcomes of a pair under thresholds that nothing misses: all scores are there."""

    ours: Outcome
    theirs: Outcome

    def cause(self, number: int, rules: Intervals) -> Cause | None:
        """Why the two sides judge one box of equal boxes differently before suppression, if so."""
        a, b = self.ours, self.theirs
        if _inside(a["image_similarity"], rules["image_similarity"]) != _inside(
            b["image_similarity"], rules["image_similarity"]
        ):
            return Cause.pair
        verdicts = [
            (
                _inside(one["crop_similarity"][number], rules["crop_similarity"]),
                all(_inside(score, rules["match"]) for score in one["match"][number]),
            )
            for one in (a, b)
        ]
        if all(verdicts[0]) == all(verdicts[1]):
            return None
        if _cut(a["boxes"][number]) != _cut(b["boxes"][number]):
            return Cause.pixel
        if self.thin(number):
            return Cause.thin
        return Cause.crops if verdicts[0][0] != verdicts[1][0] else Cause.match

    def thin(self, number: int) -> bool:
        """Whether a box's crop has a height that can pass for a number of channels."""
        _, top, _, bottom = _cut(self.ours["boxes"][number])
        return bottom - top in CHANNELS

    def differences(self, *, same: bool) -> Iterator[tuple[str, float]]:
        """Each score's name with how far the two sides are apart; of boxes where they are the same.

        Not of thin crops.
        """
        a, b = self.ours, self.theirs
        yield from _apart("image_similarity", a["image_similarity"], b["image_similarity"])
        if not same:
            return
        for number, (one, other) in enumerate(zip(a["boxes"], b["boxes"], strict=True)):
            for x, y in zip(one, other, strict=True):
                yield from _apart("box_px", x, y)
            if self.thin(number):
                continue
            yield from _apart(
                "crop_similarity", a["crop_similarity"][number], b["crop_similarity"][number]
            )
            for x, y in zip(a["match"][number], b["match"][number], strict=True):
                yield from _apart("match", x, y)


def _overlap_cause(own: Mapping[int, Cause | None]) -> Cause:
    """Of a box that both sides judge alike: another one may have suppressed it on one side."""
    return Cause.follows if any(own.values()) else Cause.unexplained


def _apart(name: str, one: float | None, other: float | None) -> Iterator[tuple[str, float]]:
    if one is not None and other is not None:
        yield name, abs(one - other)


def _same_boxes(ours: Outcome, theirs: Outcome) -> bool:
    """Whether both have the same boxes in the same order."""
    if len(ours["boxes"]) != len(theirs["boxes"]) or ours["from_left"] != theirs["from_left"]:
        return False
    pairs = zip(ours["boxes"], theirs["boxes"], strict=True)
    return all(abs(x - y) <= SAME_PX for a, b in pairs for x, y in zip(a, b, strict=True))


def _inside(score: float | None, interval: Sequence[float]) -> bool:
    """Closed; a score that is not there is outside."""
    return score is not None and interval[0] <= score <= interval[1]


def _cut(corners: Sequence[float]) -> tuple[int, ...]:
    """The whole pixels that a crop takes."""
    return tuple(int(value) for value in corners)


def middle_rules(outcomes: Sequence[Outcome], different: float, matching: float) -> dict[str, Any]:
    """Thresholds for models whose scores mean nothing, from all scores of all boxes.

    `different` of the boxes pass as different, and of those `matching` as holding an object. A
    threshold lies in the middle between the scores of the last box that passes and the next one.
    """
    crops = [score for one in outcomes for score in one["crop_similarity"]]
    upper = _between(sorted(crops), different)
    both = [
        min(match)
        for one in outcomes
        for score, match in zip(one["crop_similarity"], one["match"], strict=True)
        if score <= upper
    ]
    lower = _between(sorted(both), 1 - matching)
    return {
        "image_similarity": [-2.0, 2.0], "crop_similarity": [-2.0, upper], "match": [lower, 2.0],
    }  # fmt: skip


def table14(rules: Intervals, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Four rows that differ from `rules`, the third, as those of the paper's Table 14 do.

    There the crops may be more alike in the first two, the match lower in the first, and the images
    more different in the fourth. `outcomes` have all scores: thresholds move by a share of the
    boxes, since scores of random weights lie close together.
    """
    crops = sorted(score for one in outcomes for score in one["crop_similarity"])
    matches = sorted(min(match) for one in outcomes for match in one["match"])
    lowest, upper = rules["crop_similarity"]
    different = sum(score <= upper for score in crops) / len(crops)
    missing = sum(score < rules["match"][0] for score in matches) / len(matches)
    alike = {"crop_similarity": [lowest, max(upper, _between(crops, MOVED * different))]}
    lower = {
        "match": [min(rules["match"][0], _between(matches, missing / MOVED)), rules["match"][1]]
    }
    images = {"image_similarity": [-2.0, rules["image_similarity"][1]]}
    third = {name: list(interval) for name, interval in rules.items()}
    return [third | alike | lower, third | alike, third, third | images]


def _between(ordered: Sequence[float], share: float) -> float:
    """A number with `share` of the numbers below it: at least one, and not all."""
    place = min(max(round(share * len(ordered)), 1), len(ordered) - 1)
    return (ordered[place - 1] + ordered[place]) / 2

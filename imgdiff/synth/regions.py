"""Stages 4 to 6: candidate boxes, the difference detector, object matching and the selection."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.core.geometry import Box, box_from, has_pixels
from imgdiff.core.identity import fingerprint
from imgdiff.core.records import ImagePair, Region, Side
from imgdiff.synth.chunks import opened_ahead
from imgdiff.synth.nouns import ChangedNouns, changed_nouns, nouns_identity, words_to_match
from imgdiff.synth.scores import (
    BoxAsk,
    box_scores,
    cosines,
    crops_of,
    matches,
    missed_end,
)
from imgdiff.synth.selection import RegionsFrom, area_verdict, passes, separate
from imgdiff.synth.states import (
    BOX_DIGITS,
    ItemState,
    Proposals,
    RegionState,
    open_items,
    open_regions,
    proposals_of,
)
from imgdiff.synth.tools import Tools


def propose_regions(states: list[ItemState], tools: Tools) -> None:
    """Candidate boxes: segments of both images, or the generator's own truth."""
    if tools.config.rules.regions_from is RegionsFrom.truth:
        _propose_truth(states)
        return
    find_nouns(open_items(states), tools)
    for state in open_items(states):
        if state.nouns is not None and not state.nouns:
            assert state.images is not None
            state.reject("regions", NO_NOUN, state.images.right_caption)
    _propose_segments(states, tools)


NO_NOUN, NO_SEGMENT = "no changed noun", "no segment found"
NO_REGION = "no region left"


def find_nouns(states: Sequence[ItemState], tools: Tools) -> None:
    """Fill in the changed nouns of items with images; no model is asked."""

    def compute(captions: Sequence[tuple[str, str]]) -> list[list[tuple[str, ...]]]:
        found = [changed_nouns(left, right) for left, right in captions]
        return [[nouns.left, nouns.right] for nouns in found]

    waiting = [(s, s.images) for s in states if s.images is not None]
    captions = [(images.left_caption, images.right_caption) for _, images in waiting]
    keyed = [(fingerprint(*both), both) for both in captions]
    rows = tools.values("nouns", None, keyed, compute, nouns_identity())
    for (state, _), (left, right) in zip(waiting, rows, strict=True):
        state.nouns = ChangedNouns(left=tuple(left), right=tuple(right))


def _propose_segments(states: list[ItemState], tools: Tools) -> None:
    for state, proposals in segments_of(open_items(states), tools, "segmenter"):
        state.proposals = proposals
        for number, box in enumerate(proposals.boxes):
            _add_region(state, proposals.side(number), box)
        if not state.regions:
            state.reject("regions", NO_SEGMENT)


def segments_of(
    states: Sequence[ItemState], tools: Tools, role: str
) -> list[tuple[ItemState, Proposals]]:
    """Each item that has images, with the boxes of its left and its right image."""

    def compute(items: Sequence[tuple[ImagePair, Side]]) -> list[list[list[float]]]:
        found: list[list[list[float]]] = []
        segmenter = tools.backends.segments(role)
        for _, images in opened_ahead(items, tools.open_side):
            for boxes in segmenter.segment(images):
                found.append([list(box.as_tuple()) for box in boxes])
        return found

    waiting = [(state, state.images) for state in states if state.images is not None]
    keyed = []
    for _, images in waiting:
        keyed.append((images.left_id, (images, Side.LEFT)))
        keyed.append((images.right_id, (images, Side.RIGHT)))
    rows = tools.arrays("segment", role, keyed, compute, width=4, digits=BOX_DIGITS)
    boxes = [[box_from(corners) for corners in row] for row in rows]
    return [
        (state, proposals_of(images, boxes[2 * n], boxes[2 * n + 1]))
        for n, (state, images) in enumerate(waiting)
    ]


def _add_region(state: ItemState, side: Side, box: Box) -> None:
    assert state.images is not None
    number = len(state.regions)
    region = Region(id=f"{state.id}-r{number}", pair_id=state.id, side=side, box=box)
    state.regions.append(RegionState(region=region, number=number))
    if not has_pixels(box, state.images.width, state.images.height):
        state.regions[-1].reject("regions", "box without a pixel", str(box.as_tuple()))


def _propose_truth(states: list[ItemState]) -> None:
    for state in open_items(states):
        assert state.images is not None
        truth = state.images.truth
        for change in truth.changes if truth is not None else ():
            sides = [box for box in (change.left_box, change.right_box) if box is not None]
            if sides:
                both = sides[0].union(sides[-1])
                box = both.clipped_to(state.images.width, state.images.height)
                _add_region(state, Side.LEFT, box)
        if not state.regions:
            state.reject("regions", "no true change")


def compare_crops(states: list[ItemState], tools: Tools) -> None:
    """Difference detector: CLIP cosine of the two crops of a box must be low (paper §3.3)."""
    if tools.config.rules.regions_from is RegionsFrom.truth:
        return

    waiting = list(open_regions(states))
    interval = tools.config.rules.crop_similarity
    asked = [(s.images, s.proposals, r.number) for s, r in waiting if s.images and s.proposals]
    scores = crop_similarities(asked, tools)
    for (_, region), score in zip(waiting, scores, strict=True):
        region.crop_similarity = score
        if not interval.accepts(score):
            region.reject("difference", missed_end(interval, score, "crops"))


def crop_similarities(
    asked: Sequence[tuple[ImagePair, Proposals, int]], tools: Tools
) -> list[float]:
    """CLIP cosine of the two crops of each proposed box (pair, its proposals, number)."""

    def compute(items: Sequence[tuple[tuple[ImagePair, Proposals], int]]) -> list[float]:
        boxes = [(images, proposals.boxes[n]) for (images, proposals), n in items]
        return cosines(boxes, lambda part: crops_of(part, tools), tools)

    boxes = [
        BoxAsk(key=proposals.key, number=n, of=len(proposals.boxes), item=(images, proposals))
        for images, proposals, n in asked
    ]
    rows = box_scores(tools, "crop_similarity", "embedder", boxes, compute, width=1)
    return [float(row[0]) for row in rows]


def match_objects(states: list[ItemState], tools: Tools) -> None:
    """Image-text matching of a box with the changed nouns (paper §3.3, BITM), then suppression."""
    if tools.config.rules.regions_from is RegionsFrom.segmenter:
        _match_nouns(states, tools)
    for state in open_items(states):
        _select_regions(state, tools)


def _match_nouns(states: list[ItemState], tools: Tools) -> None:
    rules = tools.config.rules
    waiting = list(open_regions(states))

    def compute(items: Sequence[tuple[MatchItem, int]]) -> list[list[float]]:
        asked = [
            (one.images, one.proposals.boxes[n], *one.texts[one.proposals.side(n)])
            for one, n in items
        ]
        return [[_best(left), _best(right)] for left, right in matches(tools, 0.0)(asked)]

    asked = []
    for state, region in waiting:
        assert state.images is not None and state.nouns is not None  # noqa: PT018
        assert state.proposals is not None
        nouns, of = state.nouns, len(state.proposals.boxes)
        texts = tuple(words_to_match(nouns, rules.noun_side, side) for side in Side)
        item = MatchItem(images=state.images, proposals=state.proposals, texts=texts)
        key = match_key(state.proposals.key, texts)
        asked.append(BoxAsk(key=key, number=region.number, of=of, item=item))
    rows = box_scores(tools, "match", "matcher", asked, compute, width=2)
    for (_, region), row in zip(waiting, rows, strict=True):
        left, right = (None if np.isnan(score) else float(score) for score in row)
        region.match = (left, right)
        if not passes(rules.match, rules.match_combine, *region.match):
            region.reject("match", "no changed object in the box")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchItem:
    """A pair with the texts that boxes found in its left and in its right image are matched with.

    Of each: the texts for the left crop, and those for the right one.
    """

    images: ImagePair
    proposals: Proposals
    texts: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


def match_key(proposals_key: str, texts: Sequence[tuple[tuple[str, ...], tuple[str, ...]]]) -> str:
    """Of the best matches of a pair's boxes."""
    return fingerprint(proposals_key, list(texts))


def _best(scores: dict[str, float]) -> float:
    """The best text's score; NaN where there is no text."""
    return max(scores.values(), default=math.nan)


def _select_regions(state: ItemState, tools: Tools) -> None:
    """IoU suppression, top N, area and the number of regions a pair may give."""
    rules = tools.config.rules
    assert state.images is not None
    standing = [r for r in state.regions if r.rejected is None]
    similarity = [r.crop_similarity or 0.0 for r in standing]
    kept = separate([r.region.box for r in standing], similarity, rules)
    for index in set(range(len(standing))) - set(kept):
        standing[index].reject("suppression", "overlaps a more different box")
    accepted = 0
    for rank, index in enumerate(kept):
        region = standing[index]
        verdict = area_verdict(region.region.box, state.images.width, state.images.height, rules)
        if rules.max_candidates is not None and rank >= rules.max_candidates:
            region.reject("top_n", "beyond the most different candidates")
        elif verdict is not None:
            region.reject("top_n", verdict)
        elif rules.max_regions is not None and accepted >= rules.max_regions:
            region.reject("top_n", "beyond the regions of a pair")
        else:
            accepted += 1
    if accepted == 0:
        state.reject("regions", NO_REGION)

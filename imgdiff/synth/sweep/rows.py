"""The funnel of every row of a sweep from stored scores alone, or that something is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, Int64

from imgdiff.core.geometry import box_from
from imgdiff.core.identity import fingerprint
from imgdiff.synth.candidates import judged, similarity_key
from imgdiff.synth.decide import REASONS, Fate, fates
from imgdiff.synth.differences import Fall, alike, describe_keys, region_prompt, unfit, wordless
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.regions import NO_NOUN, NO_REGION, NO_SEGMENT, find_nouns
from imgdiff.synth.scores import missed_end
from imgdiff.synth.selection import Rules
from imgdiff.synth.states import ItemState
from imgdiff.synth.sweep.columns import Known, known_boxes
from imgdiff.synth.tools import Tools

Shards = Sequence[tuple[list[ItemState], Tools]]
NOT_ASKED = -1
STANDS = ("", "")


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a region's two contents; None where it was never asked."""

    contents: tuple[str, str] | None = None
    similarity: float | None = None
    fit: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The items whose images pass, and why the others fall."""

    ids: frozenset[str]
    reasons: tuple[str, ...]


def look_up(rows: Sequence[Rules], shards: Shards) -> list[Funnel | None]:
    """Each row's funnel over shards whose image pairs are there; None where a score is missing.

    Rows share all that is no threshold; `tools.config` of the shards has it. Items have one
    candidate each and regions from the segmenter, described by a model.
    """
    drawn = [([s for s in states if s.rejected is None], tools) for states, tools in shards]
    similar = _similarities(drawn)
    alive = [_alive(rules, similar) for rules in rows]
    wanted = frozenset[str]().union(*(one.ids for one in alive if one is not None))
    named = _with_nouns(drawn, wanted)
    known = known_boxes(named)
    found = [
        None if one is None else _fates(rules, one, known)
        for rules, one in zip(rows, alive, strict=True)
    ]
    described = _described(known, [fate_B for fate_B in found if fate_B is not None], named)
    with_nouns = frozenset(state.id for state in known.states)
    funnels: list[Funnel | None] = []
    for rules, one, fate_B in zip(rows, alive, found, strict=True):
        if one is None or fate_B is None:
            funnels.append(None)
            continue
        funnel = Funnel()
        funnel.count([state for states, _ in shards for state in states])
        for reason in one.reasons:
            funnel.fallen["items", "image_similarity", reason] += 1
        funnel.fallen["items", "regions", NO_NOUN] += len(one.ids - with_nouns)
        complete = _count(funnel, one, known, fate_B, rules, described)
        funnel.fallen = +funnel.fallen  # reasons that nothing fell for are none
        funnels.append(funnel if complete else None)
    return funnels


def _similarities(shards: Shards) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for states, tools in shards:
        keys = [similarity_key(state.images) for state in states if state.images is not None]
        scores = tools.known("image_similarity", "embedder", keys)
        found |= {state.id: score for state, score in zip(states, scores, strict=True)}
    return found


def _alive(rules: Rules, similar: dict[str, float | None]) -> Alive | None:
    ids, reasons = [], []
    for name, score in similar.items():
        if score is None:
            return None
        read = judged(score, rules)
        if rules.image_similarity.accepts(read):
            ids.append(name)
        else:
            reasons.append(missed_end(rules.image_similarity, read, "images"))
    return Alive(frozenset(ids), tuple(reasons))


def _with_nouns(shards: Shards, wanted: frozenset[str]) -> Shards:
    named = []
    for states, tools in shards:
        picked = [state for state in states if state.id in wanted]
        find_nouns(picked, tools)
        named.append(([state for state in picked if state.nouns], tools))
    return named


def _fates(rules: Rules, alive: Alive, known: Known) -> Int8[np.ndarray, " B"] | None:
    """The fate of every box, NOT_ASKED of pairs that fell; None where a score is missing."""
    alive_P = np.array([state.id in alive.ids for state in known.states], dtype=bool)
    if not known.whole_P[alive_P].all():
        return None
    alive_B = alive_P[known.columns.pair_B]
    asked = fates(known.columns.only(alive_B), rules)
    if (asked == Fate.UNKNOWN).any():
        return None
    fate_B = np.full(len(alive_B), NOT_ASKED, dtype=np.int8)
    fate_B[alive_B] = asked
    return fate_B


def _described(
    known: Known, found: Sequence[Int8[np.ndarray, " _"]], shards: Shards
) -> dict[int, Described]:
    """What is known of every box that stands in some row, by its place in the columns."""
    standing_B = np.zeros(len(known.columns.pair_B), dtype=bool)
    for fate_B in found:
        standing_B |= fate_B == Fate.STANDS
    described: dict[int, Described] = {}
    first = 0
    for states, tools in shards:
        last = first + len(states)
        places = np.arange(known.first_P[first], known.first_P[last])
        described |= _of_shard(known, places[standing_B[places]], tools)
        first = last
    return described


def _of_shard(
    known: Known, places_S: Int64[np.ndarray, " S"], tools: Tools
) -> dict[int, Described]:
    config, margin = tools.config.describe, tools.config.rules.content_margin_px
    pairs = known.columns.pair_B[places_S].tolist()
    boxes = [box_from(row) for row in known.columns.boxes_B4(places_S).tolist()]
    asked = [(known.states[pair], box) for pair, box in zip(pairs, boxes, strict=True)]
    keys = [
        key
        for state, box in asked
        if state.images is not None
        for key in describe_keys(
            state.images, region_prompt(state.images, box, config.region_prompt)
        )
    ]
    said = tools.known("describe", "describer", keys, config.region_tokens)
    both = [
        (left, right) if left is not None and right is not None else None
        for left, right in zip(said[0::2], said[1::2], strict=True)
    ]
    texts = [pair or ("", "") for pair in both]
    alike = tools.known("content_similarity", "embedder", [fingerprint(*t) for t in texts])
    fits = tools.known(
        "content_match",
        "matcher",
        [state.boxed(box, *pair) for (state, box), pair in zip(asked, texts, strict=True)],
        margin,
    )
    return {
        place: Described(contents, score, fit and (fit[0][contents[0]], fit[1][contents[1]]))
        if contents is not None
        else Described()
        for place, contents, score, fit in zip(places_S.tolist(), both, alike, fits, strict=True)
    }


def _count(
    funnel: Funnel,
    alive: Alive,
    known: Known,
    fate_B: Int8[np.ndarray, " B"],
    rules: Rules,
    described: dict[int, Described],
) -> bool:
    """Add what became of the boxes; False where something that is needed was never asked."""
    alive_P = np.array([state.id in alive.ids for state in known.states], dtype=bool)
    boxes_P = np.diff(known.first_P)
    standing_P = np.bincount(known.columns.pair_B[fate_B == Fate.STANDS], minlength=len(alive_P))
    funnel.totals["regions"] += int(boxes_P[alive_P].sum())
    funnel.fallen["items", "regions", NO_SEGMENT] += int((alive_P & (boxes_P == 0)).sum())
    none_left_P = alive_P & (boxes_P > 0) & (standing_P == 0)
    funnel.fallen["items", "regions", NO_REGION] += int(none_left_P.sum())
    for fate, (stage, reason) in REASONS.items():
        funnel.fallen["regions", stage, reason] += int((fate_B == fate).sum())
    kept: list[int] = []
    for place in np.flatnonzero(fate_B == Fate.STANDS).tolist():
        verdict = _judge(described[place], rules)
        if verdict is None:
            return False
        if verdict == STANDS:
            kept.append(int(known.columns.pair_B[place]))
        else:
            stage, reason = verdict
            funnel.fallen["regions", stage, reason] += 1
    funnel.totals["samples"] += len(kept)
    funnel.totals["pairs_with_samples"] += len(set(kept))
    return True


def _judge(region: Described, rules: Rules) -> Fall | None:
    """Stage and reason that a described region falls for, STANDS, or None where it is not known."""
    if region.contents is None:
        return None
    fall = wordless(region.contents)
    if fall is None:
        if region.similarity is None:
            return None
        fall = alike(region.similarity, rules)
    if fall is None:
        if region.fit is None:
            return None
        fall = unfit(region.fit, rules)
    return fall or STANDS

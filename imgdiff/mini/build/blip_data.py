"""Batches for the BLIP recipe: views, texts, and which text is true of which view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int8, UInt8

from imgdiff.core.geometry import Box
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.clip_data import FALSE, RECOLOURED, TRUE, UNSURE
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.phrases import Said, falsified, other, spoken, true_of, written
from imgdiff.mini.build.views import (
    ABSENT,
    PRESENT,
    Shot,
    View,
    ground_box,
    neighbour_box,
    object_box,
    recoloured,
    shot,
    squashed,
    whole,
)
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import NounPhrase
from imgdiff.mini.shapes import CATEGORIES


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many views of each kind a batch holds, and how many false phrases and any nouns."""

    objects: int = 24
    neighbours: int = 8
    grounds: int = 6
    scenes: int = 10
    false_phrases: int = 16
    nouns: int = 12


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`truth_BT` is TRUE, FALSE or UNSURE (an object half visible: not counted)."""

    pixels_BSS3: UInt8[np.ndarray, "B S S 3"]
    texts: list[str]
    truth_BT: Int8[np.ndarray, "B T"]


def draw_batch(bank: Scenes, step: int, plan: Plan, seed: int = 0) -> Batch:
    """The batch of a step; depends on (seed, step) and the scenes alone."""
    rng = np.random.default_rng(seed_for(seed, str(step), "blip"))
    shots = _shots(bank, rng)
    views = list(_views(shots, plan, rng))
    said = _said(views, plan, rng)
    texts = {written(phrase, rng): phrase for phrase in said}
    return Batch(
        pixels_BSS3=np.stack([view.pixels_SS3 for view in views]),
        texts=list(texts),
        truth_BT=truth_of(views, list(texts.values())),
    )


def _shots(bank: Scenes, rng: np.random.Generator) -> Iterator[Shot]:
    while True:
        yield shot(bank, int(rng.integers(len(bank))))


def _views(shots: Iterator[Shot], plan: Plan, rng: np.random.Generator) -> Iterator[View]:
    for make, count in (
        (object_box, plan.objects),
        (neighbour_box, plan.neighbours),
    ):
        for _ in range(count):
            source = next(shots)
            index = int(rng.integers(len(source.scene.objects)))
            view = squashed(source, make(source, index, rng))
            yield recoloured(view, rng) if rng.random() < RECOLOURED else view
    made = 0
    while made < plan.grounds:
        source = next(shots)
        box: Box | None = ground_box(source, rng)
        if box is not None:
            made += 1
            yield squashed(source, box)
    for _ in range(plan.scenes):
        yield whole(next(shots))


def _said(views: Sequence[View], plan: Plan, rng: np.random.Generator) -> list[Said]:
    """One true phrase per view where something is clear, then false ones, then any nouns."""
    said: list[Said] = []
    for view in views:
        clear = [k for k, share in enumerate(view.shares) if share >= PRESENT]
        if clear:
            item = view.objects[clear[int(rng.integers(len(clear)))]]
            noun = NounPhrase(category=item.category)
            said.append(noun if view.recoloured else spoken(item, rng))
        elif view.ground is not None and max(view.shares) <= ABSENT:
            said.append(view.ground)
    phrases = [phrase for phrase in said if isinstance(phrase, NounPhrase)]
    picks = rng.integers(len(phrases), size=plan.false_phrases)
    said += [falsified(phrases[int(pick)], rng) for pick in picks]
    said += [NounPhrase(category=other(rng, tuple(CATEGORIES))) for _ in range(plan.nouns)]
    said.append(other(rng, GROUNDS))
    return said


def truth_of(views: Sequence[View], said: Sequence[Said]) -> Int8[np.ndarray, "B T"]:
    """Which phrase is true of which view.

    Of an object: TRUE when it is mostly visible, UNSURE when partly, or when a colour is named and
    the view is recoloured. Of an empty ground: TRUE only where no object is to be seen; UNSURE
    where one is but the ground is the named one.
    """
    rows = [[_truth(view, phrase) for phrase in said] for view in views]
    return np.array(rows, dtype=np.int8)


def _truth(view: View, phrase: Said) -> int:
    if isinstance(phrase, str):
        if phrase != view.ground:
            return FALSE
        return TRUE if max(view.shares) <= ABSENT else UNSURE
    if view.recoloured and phrase.colour is not None:
        bare = NounPhrase(category=phrase.category)
        return FALSE if _truth(view, bare) == FALSE else UNSURE
    share = max(
        (
            s
            for item, s in zip(view.objects, view.shares, strict=True)
            if true_of(phrase, item, None)
        ),
        default=0.0,
    )
    if share >= PRESENT:
        return TRUE
    return FALSE if share <= ABSENT else UNSURE

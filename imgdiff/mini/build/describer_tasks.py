"""What the describer is asked: boxes of scenes, and two contents of a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgdiff.backends.chat_templates import Exchange
from imgdiff.core.geometry import Box, normalised_text
from imgdiff.mini.build.prompts import REGION_PROMPT, STAGE_TWO_PROMPT
from imgdiff.mini.build.views import Shot, ground_box
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import (
    NounPhrase,
    capitalised,
    difference_sentence,
    empty_description,
    region_description,
)
from imgdiff.mini.scene import SCENE_PX, SIZES
from imgdiff.mini.shapes import CATEGORIES, COLOURS

EMPTY_SHARE = 0.1
NOISE_PX = 2.0
FOREIGN_SHARE = 0.4  # of stage-two contents: not what the picture shows, so it must copy


@dataclass(frozen=True, kw_only=True)
class AskedRegion:
    """A box of a scene (scene pixels) and the question and answer about it."""

    box: Box
    dialogue: list[Exchange]


def asked_regions(source: Shot, count: int, rng: np.random.Generator) -> list[AskedRegion]:
    """`count` single questions about boxes of a scene; each object once before any comes twice."""
    order = [int(k) for _ in range(count) for k in rng.permutation(len(source.scene.objects))]
    asked = []
    for index in order[:count]:
        empty = ground_box(source, rng) if rng.random() < EMPTY_SHARE else None
        if empty is not None:
            box, answer = empty, empty_description(source.scene.ground)
        else:
            box = jittered(source.box(index), rng)
            answer = region_description(source.scene.objects[index], rng)
        turn = Exchange(f"<image>\n{region_question(box)}", answer)
        asked.append(AskedRegion(box=box, dialogue=[turn]))
    return asked


def region_question(box: Box) -> str:
    """The stage-one prompt for a box of a scene (scene pixels)."""
    return REGION_PROMPT.format(box=normalised_text(box, SCENE_PX, SCENE_PX))


def jittered(box: Box, rng: np.random.Generator) -> Box:
    """The box as a detector would find it: every side off by up to NOISE_PX."""
    left, top, right, bottom = box.as_tuple() + rng.uniform(-NOISE_PX, NOISE_PX, size=4)
    noisy = Box(left=float(left), top=float(top), right=float(right), bottom=float(bottom))
    return noisy.clipped_to(SCENE_PX, SCENE_PX)


@dataclass(frozen=True, kw_only=True)
class AskedPair:
    """Two contents and the question and answer about them."""

    left: str
    right: str
    dialogue: list[Exchange]


def asked_pair(left: Shot, right: Shot, rng: np.random.Generator) -> AskedPair:
    """A stage-two question about two contents; the answer says them in the canonical form."""
    first, second = content(left, rng), content(right, rng)
    question = STAGE_TWO_PROMPT.format(left=first, right=second)
    turn = Exchange(f"<image>\n{question}", difference_sentence(first, second))
    return AskedPair(left=first, right=second, dialogue=[turn])


def content(source: Shot, rng: np.random.Generator) -> str:
    """A description from the picture, or (FOREIGN_SHARE) of something else."""
    if rng.random() < EMPTY_SHARE:
        return empty_description(str(rng.choice(GROUNDS)))
    if rng.random() >= FOREIGN_SHARE:
        items = source.scene.objects
        return region_description(items[int(rng.integers(len(items)))], rng)
    phrase = NounPhrase(
        category=str(rng.choice(list(CATEGORIES))),
        colour=str(rng.choice(list(COLOURS))) if rng.random() < 0.8 else None,  # noqa: PLR2004
        size=str(rng.choice(SIZES)) if rng.random() < 0.8 else None,  # noqa: PLR2004
    )
    return capitalised(phrase.text()) + "."

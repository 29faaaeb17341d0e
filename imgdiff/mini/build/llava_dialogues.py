"""What the mini LLaVA is asked about a scene, and which objects a question is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.backends.chat_templates import Exchange
from imgdiff.mini.language import PLACES
from imgdiff.mini.red_boxes import RED_BOX, SIDES, ask
from imgdiff.mini.scene import Scene

SECOND_TURN_SHARE = 0.3


def dialogue(scene: Scene, boxed: Sequence[int], rng: np.random.Generator) -> list[Exchange]:
    """One question about the scene (half are about its red boxes), sometimes a second one."""
    first = ask(scene, boxed, rng)
    turns = [Exchange(f"<image>\n{first.question}", first.answer)]
    if rng.random() < SECOND_TURN_SHARE:
        second = ask(scene, boxed, rng)
        turns.append(Exchange(second.question, second.answer))
    return turns


@dataclass(frozen=True, kw_only=True)
class Named:
    """An object of a scene, and the words by which a question names it."""

    index: int
    words: str


def asked_about(turns: Sequence[Exchange], scene: Scene, boxed: Sequence[int] = ()) -> list[Named]:
    """The objects that a single question names (by noun, place or red box), in order of naming.

    None for two questions in a row.
    """
    if len(turns) > 1:
        return []
    words = turns[0].question.split(" (a)")[0]
    if RED_BOX in words:
        if len(boxed) == 1:
            return [Named(index=boxed[0], words=RED_BOX)]
        sides = zip(boxed, SIDES, strict=True)
        return [Named(index=index, words=side) for index, side in sides if f" {side} " in words]
    found = [
        (match.start(), Named(index=index, words=match.group()))
        for index, item in enumerate(scene.objects)
        if (match := re.search(rf"\b({item.category}|{PLACES[item.cell]})\b", words))
    ]
    return [named for _, named in sorted(found, key=lambda pair: pair[0])]

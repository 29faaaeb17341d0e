"""Held-out figures of a single-image chat model, by skill."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image

from imgdiff.backends.configs import VlmConfig
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.describer_exam import says
from imgdiff.mini.build.drawn import Scenes, sampled
from imgdiff.mini.build.views import shot
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.instructions import FAMILIAR, SKILLS, Turn
from imgdiff.mini.language import NUMBERS
from imgdiff.mini.red_boxes import boxed_turn, sample_boxed, with_red_boxes
from imgdiff.mini.scene import SIZES, Scene, Split
from imgdiff.mini.shapes import CATEGORIES, COLOURS

NEW_TOKENS = 48
BATCH = 16  # questions differ in length, so larger batches would be mostly padding
_WORDS = {
    "colour": tuple(COLOURS),
    "count": NUMBERS,
    "ground": GROUNDS,
    "size": SIZES,
    "existence": ("yes", "no"),
    "relation": ("yes", "no"),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about a scene."""

    image: Image.Image
    scene: Scene
    turn: Turn


def questions(scenes: Scenes, purpose: str) -> list[Asked]:
    """One question of every skill about each scene (skills that a scene lacks are left out).

    One more is about red boxes, around things that the model was told the names of.
    """
    asked = []
    for index, scene in enumerate(scenes.scenes):
        rng = np.random.default_rng(seed_for(0, str(index), purpose))
        image = Image.fromarray(scenes.image(index))
        for skill, (ask, _) in SKILLS.items():
            turn = ask(scene, rng)
            if turn.skill == skill:
                asked.append(Asked(image=image, scene=scene, turn=turn))
        boxed = sample_boxed(scene, rng)
        if boxed:
            source = shot(scenes, index)
            marked = with_red_boxes(image, [source.box(k) for k in boxed], rng)
            asked.append(Asked(image=marked, scene=scene, turn=boxed_turn(scene, boxed, rng)))
    return asked


def evaluate(model: str, count: int, split: Split = Split.validation) -> dict[str, float]:
    """Share of right answers by skill on `count` scenes of `split`."""
    asked = questions(sampled(split, count), "llava-exam")
    with VlmConfig(
        model=model, max_new_tokens=NEW_TOKENS, batch_size=min(BATCH, count)
    ).build() as chat:
        answers = chat.chat([q.image for q in asked], [q.turn.question for q in asked])
    scores: dict[str, list[float]] = {}
    for question, answer in zip(asked, answers, strict=True):
        for name, score in graded(question, answer).items():
            scores.setdefault(name, []).append(score)
    return {name: round(float(np.mean(values)), 4) for name, values in sorted(scores.items())}


def graded(asked: Asked, answer: str) -> dict[str, float]:
    """Scores in [0, 1] of one answer. Naming is graded for the noun and for the colour."""
    turn = asked.turn
    if turn.skill in ("choice", "box_choice"):
        return {turn.skill: float(answer.strip(" ().").upper() == turn.answer)}
    if turn.skill == "caption":
        named = [says(answer, item.category) for item in asked.scene.objects]
        return {"caption_objects_named": float(np.mean(named))}
    right = float(_same(answer, turn.answer, tuple(CATEGORIES)))
    if turn.skill in ("box", "boxes"):
        return {f"{turn.skill}_object": right}
    if turn.skill == "naming":
        told = any(says(turn.answer, name) for name in FAMILIAR)
        return {
            "naming_object" if told else "naming_object_untold": right,
            "naming_colour": float(_same(answer, turn.answer, tuple(COLOURS))),
        }
    return {turn.skill: float(_same(answer, turn.answer, _WORDS[turn.skill]))}


def _same(answer: str, truth: str, words: tuple[str, ...]) -> bool:
    """Whether both say the same of `words`, in the same order."""
    one_of = re.compile(rf"\b({'|'.join(words)})\b", re.IGNORECASE)
    said, meant = (one_of.findall(text.lower()) for text in (answer, truth))
    return list(dict.fromkeys(said)) == list(dict.fromkeys(meant))

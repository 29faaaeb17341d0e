"""Red boxes in single images of the world: which objects carry one, and questions about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image

from imgdiff.core.geometry import Box
from imgdiff.core.images import with_red_box
from imgdiff.mini.instructions import FAMILIAR, LETTER_SUFFIX, Turn, familiar_turn, two_options
from imgdiff.mini.language import capitalised, full_phrase
from imgdiff.mini.scene import Scene
from imgdiff.mini.shapes import CATEGORIES

BOXED_SHARE = 0.4  # of the images of the instructions
MARGIN_PX = 5.0  # boxes are drawn up to so far outside
SIDES = ("left", "right")
RED_BOX = "red bounding box"
ASKED_SHARE = 0.5  # of the questions about an image with boxes are about those
CHOICE_SHARE = 0.3  # of the questions about boxes
SECOND_SHARE = 0.6  # of the images with boxes, where there is a second thing to put one on


def sample_boxed(
    scene: Scene, rng: np.random.Generator, names: Collection[str] = FAMILIAR
) -> tuple[int, ...]:
    """One or two objects of the scene with one of `names`, in different columns, left one first.

    Empty where the scene shows none of them.
    """
    known = [k for k, item in enumerate(scene.objects) if item.category in names]
    if not known:
        return ()
    first = known[int(rng.integers(len(known)))]
    column = scene.objects[first].column
    beside = [k for k in known if scene.objects[k].column != column]
    if not beside or rng.random() >= SECOND_SHARE:
        return (first,)
    second = beside[int(rng.integers(len(beside)))]
    return (first, second) if column == 0 else (second, first)


def some_boxed(
    scene: Scene, rng: np.random.Generator, names: Collection[str] = FAMILIAR
) -> tuple[int, ...]:
    """`sample_boxed` for BOXED_SHARE of the images, none for the others."""
    return sample_boxed(scene, rng, names) if rng.random() < BOXED_SHARE else ()


def with_red_boxes(
    image: Image.Image, boxes: Sequence[Box], rng: np.random.Generator
) -> Image.Image:
    """A copy with a red frame around each box, up to MARGIN_PX outside of it."""
    for box in boxes:
        image = with_red_box(image, box, float(rng.uniform(0.0, MARGIN_PX)))
    return image


def ask(scene: Scene, boxed: Sequence[int], rng: np.random.Generator) -> Turn:
    """A question about an image whose objects `boxed` carry red boxes; names familiar things."""
    if boxed and rng.random() < ASKED_SHARE:
        return boxed_turn(scene, boxed, rng)
    return familiar_turn(scene, rng)


def boxed_turn(scene: Scene, boxed: Sequence[int], rng: np.random.Generator) -> Turn:
    """A question about what the red boxes around `boxed` (one, or left and right) hold."""
    phrases = [full_phrase(scene.objects[k]).text() for k in boxed]
    asked = int(rng.integers(len(boxed) + (len(boxed) > 1)))
    if asked == len(SIDES):
        return Turn(
            skill="boxes",
            question=f"What do the left and the right {RED_BOX} show?",
            answer=f"The left box shows {phrases[0]}, the right box {phrases[1]}.",
        )
    side = f"{SIDES[asked]} " if len(boxed) > 1 else ""
    question = f"What is in the {side}{RED_BOX}?"
    if rng.random() >= CHOICE_SHARE:
        return Turn(skill="box", question=question, answer=capitalised(phrases[asked]) + ".")
    right = scene.objects[boxed[asked]].category
    others = [name for name in CATEGORIES if name in FAMILIAR and name != right]
    wrong = others[int(rng.integers(len(others)))]
    text, letter = two_options(question, right, wrong, right_first=bool(rng.random() < 0.5))  # noqa: PLR2004
    return Turn(skill="box_choice", question=text + LETTER_SUFFIX, answer=letter.upper())

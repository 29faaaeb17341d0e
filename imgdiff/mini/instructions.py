"""Single-image instructions of the procedural world: questions with answers, by skill."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import (
    NUMBERS,
    OPPOSITE,
    PLACES,
    RELATIONS,
    _choose,
    article,
    capitalised,
    colour_phrase,
    describe,
    relation_of,
)
from imgdiff.mini.scene import SIZES, Scene, SceneObject
from imgdiff.mini.shapes import CATEGORIES, COLOURS

LETTER_SUFFIX = "\nAnswer with the option's letter from the given choices directly."


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One question and its answer; `skill` names what it asks for."""

    skill: str
    question: str
    answer: str


Ask = Callable[[Scene, np.random.Generator], Turn]


def _object(scene: Scene, rng: np.random.Generator) -> SceneObject:
    return scene.objects[int(rng.integers(len(scene.objects)))]


def _other(rng: np.random.Generator, options: tuple[str, ...], *not_these: str) -> str:
    return _choose(rng, [o for o in options if o not in not_these])


def _colour(scene: Scene, rng: np.random.Generator) -> Turn:
    item = _object(scene, rng)
    question = _choose(rng, ("What color is the {}?", "Which color does the {} have?"))
    answer = _choose(rng, (item.colour, f"the {item.category} is {item.colour}"))
    return Turn(
        skill="colour",
        question=question.format(item.category),
        answer=capitalised(answer) + ".",
    )


def _count(scene: Scene, rng: np.random.Generator) -> Turn:
    question = _choose(rng, ("How many objects are there?", "How many objects do you see?"))
    return Turn(
        skill="count", question=question, answer=NUMBERS[len(scene.objects)].capitalize() + "."
    )


def _existence(scene: Scene, rng: np.random.Generator) -> Turn:
    present = tuple(item.category for item in scene.objects)
    true = bool(rng.random() < 0.5)  # noqa: PLR2004
    category = _choose(rng, present) if true else _other(rng, tuple(CATEGORIES), *present)
    question = _choose(rng, ("Is there a {} in the picture?", "Do you see a {}?"))
    return Turn(
        skill="existence", question=question.format(category), answer="Yes." if true else "No."
    )


def _relation(scene: Scene, rng: np.random.Generator) -> Turn:
    if len(scene.objects) == 1:
        return _colour(scene, rng)
    first, second = (scene.objects[i] for i in rng.permutation(len(scene.objects))[:2])
    relation = _choose(rng, relation_of(first, second))
    true = bool(rng.random() < 0.5)  # noqa: PLR2004
    asked = relation if true else OPPOSITE[relation]
    return Turn(
        skill="relation",
        question=f"Is the {first.category} {asked} the {second.category}?",
        answer="Yes." if true else "No.",
    )


def _naming(scene: Scene, rng: np.random.Generator) -> Turn:
    item = _object(scene, rng)
    question = _choose(rng, ("What is at the {}?", "Which object is at the {} of the picture?"))
    return Turn(
        skill="naming",
        question=question.format(PLACES[item.cell]),
        answer=capitalised(colour_phrase(item).text()) + ".",
    )


def _caption(scene: Scene, rng: np.random.Generator) -> Turn:
    question = _choose(rng, ("Describe the picture.", "What does the picture show?"))
    return Turn(skill="caption", question=question, answer=describe(scene, rng))


def _ground(scene: Scene, rng: np.random.Generator) -> Turn:
    return Turn(
        skill="ground",
        question="What does the background look like?",
        answer=f"It is {scene.ground}.",
    )


def _size(scene: Scene, rng: np.random.Generator) -> Turn:
    item = _object(scene, rng)
    return Turn(
        skill="size",
        question=f"Is the {item.category} small or large?",
        answer=item.size.capitalize() + ".",
    )


def two_options(question: str, right: str, wrong: str, *, right_first: bool) -> tuple[str, str]:
    """(`question (a) x (b) y`, letter of the right one), MMVP's option format."""
    first, second = (right, wrong) if right_first else (wrong, right)
    return f"{question} (a) {first} (b) {second}", "a" if right_first else "b"


def _choice(scene: Scene, rng: np.random.Generator) -> Turn:
    ask = CHOICES[int(rng.integers(len(CHOICES)))]
    question, right, wrong = ask(scene, rng)
    text, letter = two_options(question, right, wrong, right_first=bool(rng.random() < 0.5))  # noqa: PLR2004
    return Turn(skill="choice", question=text + LETTER_SUFFIX, answer=letter.upper())


Options = tuple[str, str, str]  # question, right option, wrong option


def _choose_category(scene: Scene, rng: np.random.Generator) -> Options:
    item = _object(scene, rng)
    wrong = _other(rng, tuple(CATEGORIES), item.category)
    return f"What is at the {PLACES[item.cell]}?", item.category, wrong


def _choose_colour(scene: Scene, rng: np.random.Generator) -> Options:
    item = _object(scene, rng)
    wrong = _other(rng, tuple(COLOURS), item.colour)
    return f"What color is the {item.category}?", item.colour, wrong


def _choose_place(scene: Scene, rng: np.random.Generator) -> Options:
    item = _object(scene, rng)
    right = PLACES[item.cell]
    return f"Where is the {item.category}?", right, _other(rng, PLACES, right)


def _choose_size(scene: Scene, rng: np.random.Generator) -> Options:
    item = _object(scene, rng)
    return f"How large is the {item.category}?", item.size, _other(rng, SIZES, item.size)


def _choose_ground(scene: Scene, rng: np.random.Generator) -> Options:
    wrong = _other(rng, GROUNDS, scene.ground)
    return "What does the background look like?", scene.ground, wrong


def _choose_presence(scene: Scene, rng: np.random.Generator) -> Options:
    present = tuple(item.category for item in scene.objects)
    true = bool(rng.random() < 0.5)  # noqa: PLR2004
    category = _choose(rng, present) if true else _other(rng, tuple(CATEGORIES), *present)
    right, wrong = ("Yes", "No") if true else ("No", "Yes")
    return f"Is there {article(category)} {category} in the picture?", right, wrong


CHOICES: tuple[Callable[[Scene, np.random.Generator], Options], ...] = (
    _choose_category,
    _choose_colour,
    _choose_place,
    _choose_size,
    _choose_ground,
    _choose_presence,
)


SKILLS: dict[str, tuple[Ask, float]] = {
    "colour": (_colour, 0.12),
    "count": (_count, 0.05),
    "existence": (_existence, 0.15),
    "relation": (_relation, 0.10),
    "naming": (_naming, 0.13),
    "caption": (_caption, 0.05),
    "ground": (_ground, 0.05),
    "size": (_size, 0.05),
    "choice": (_choice, 0.30),
}


def sample_turn(scene: Scene, rng: np.random.Generator) -> Turn:
    """One question about the scene, its skill drawn by the weights of SKILLS."""
    names = tuple(SKILLS)
    weights = [SKILLS[name][1] for name in names]
    ask = SKILLS[names[int(rng.choice(len(names), p=weights))]][0]
    return ask(scene, rng)


# Instructions that people write name few of the things that photos show. Every second category of
# each group is familiar; the others are seen in pictures and counted, but never named.
FAMILIAR = frozenset(list(CATEGORIES)[::2])
_NAMED = re.compile(rf"\b({'|'.join(CATEGORIES)})\b", re.IGNORECASE)
PATIENCE = 30  # tries, before a question that names nothing


def is_familiar(scene: Scene) -> bool:
    """Whether there is anything in a photo that an instruction would name."""
    return any(item.category in FAMILIAR for item in scene.objects)


def familiar_turn(scene: Scene, rng: np.random.Generator) -> Turn:
    """As `sample_turn`, but only things that instructions usually name are named."""
    for _ in range(PATIENCE):
        turn = sample_turn(scene, rng)
        named = _NAMED.findall(f"{turn.question} {turn.answer}")
        if all(name.lower() in FAMILIAR for name in named):
            return turn
    return _ground(scene, rng)


__all__ = [
    "FAMILIAR",
    "LETTER_SUFFIX",
    "RELATIONS",
    "SKILLS",
    "Turn",
    "familiar_turn",
    "is_familiar",
    "sample_turn",
    "two_options",
]

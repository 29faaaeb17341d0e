"""Instructions about words alone: what a language model knows before it sees a picture."""

from __future__ import annotations

import numpy as np

from imgdiff.mini.instructions import LETTER_SUFFIX, Turn, two_options
from imgdiff.mini.language import article, describe
from imgdiff.mini.scene import Split, sample_scene
from imgdiff.mini.shapes import CATEGORIES

WORDS_SHARE = 0.1  # of the conversations of the instructions


def _one_of(rng: np.random.Generator, names: list[str]) -> str:
    return names[int(rng.integers(len(names)))]


def _like(rng: np.random.Generator, name: str) -> str:
    """Another thing of the same group."""
    return _one_of(rng, [n for n in CATEGORIES if CATEGORIES[n] == CATEGORIES[name] and n != name])


def _unlike(rng: np.random.Generator, name: str) -> str:
    """A thing of another group."""
    return _one_of(rng, [n for n in CATEGORIES if CATEGORIES[n] != CATEGORIES[name]])


def _named(rng: np.random.Generator) -> Turn:
    name = _one_of(rng, list(CATEGORIES))
    other = _like(rng, name)
    question = f"Name something like {article(name)} {name}."
    return Turn(skill="like", question=question, answer=f"{article(other).capitalize()} {other}.")


def _chosen(rng: np.random.Generator) -> Turn:
    name = _one_of(rng, list(CATEGORIES))
    if rng.random() < 0.5:  # noqa: PLR2004
        question, right = f"Which word is {name}?", name
        wrong = _one_of(rng, [n for n in CATEGORIES if n != name])
    else:
        question, right = f"Which is more like {article(name)} {name}?", _like(rng, name)
        wrong = _unlike(rng, name)
    text, letter = two_options(question, right, wrong, right_first=bool(rng.random() < 0.5))  # noqa: PLR2004
    return Turn(skill="word_choice", question=text + LETTER_SUFFIX, answer=letter.upper())


def _written(rng: np.random.Generator) -> Turn:
    caption = describe(sample_scene(rng, Split.train), rng)
    return Turn(skill="writing", question="Write the caption of a picture.", answer=caption)


def word_turn(rng: np.random.Generator) -> Turn:
    """A question that needs no picture; it may name anything of the world."""
    kinds = (_named, _chosen, _written)
    return kinds[int(rng.choice(len(kinds), p=(0.35, 0.4, 0.25)))](rng)

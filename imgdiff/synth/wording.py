"""Prompts, the question, and truthful template sentences. Prompts are the method's, verbatim."""

from __future__ import annotations

import numpy as np

REGION_PROMPT = "Please provide a clear description for this region: {box}."
SENTENCE_PROMPT = (
    "Analyse the the left image and the right image (separated by the black vertical bar). "
    "The detail within the red bounding box in the left image is: {left}, while the detail within "
    "the red bounding box in the right image is: {right}. What is their difference? "
    "Answer with a few concise sentences."
)
QUESTION = (
    "Analyse the left image and the right image (separated by the black vertical bar). "
    "What is the difference between the red bounding box area in each image? "
    "Answer the question in a few concise sentences."
)
REMOVAL_QUESTION = (
    "Analyse the left image and the right image (separated by the black vertical bar). "
    'Which image has the object related to "{caption}" within the red bounding box?\n'
    "A. the left image\nB. the right image\n"
    "Answer with the option's letter from the given choices directly."
)
LETTERS = ("A", "B")  # of the left and of the right image
_TEMPLATES = (
    "The left image shows {left}, while the right image shows {right}.",
    "In the left image there is {left}, whereas in the right image there is {right}.",
    "The box in the left image holds {left}; in the right image it holds {right} instead.",
    "The {left_bare} in the left image is replaced by {right} in the right image.",
)
_SOUNDS_LIKE_A = ("uni", "use", "eu", "one", "ukulele", "ute")
_SOUNDS_LIKE_AN = ("hour", "honest", "heir")


def indefinite(name: str) -> str:
    """`a dog`, `an apple`, `scissors` (plural nouns that come in pairs get no article)."""
    if name in {"scissors", "skis", "glasses", "trousers"}:
        return f"a pair of {name}"
    low = name.lower()
    vowel = low[:1] in "aeiou" and not low.startswith(_SOUNDS_LIKE_A)
    return f"{'an' if vowel or low.startswith(_SOUNDS_LIKE_AN) else 'a'} {name}"


def sentence_case(text: str) -> str:
    """First letter upper case."""
    return text[:1].upper() + text[1:]


def truthful_content(name: str) -> str:
    """What a region holds, from its true name, such as `A dog.` for dog."""
    return f"{sentence_case(indefinite(name))}."


def template_sentence(left: str, right: str, seed: int) -> str:
    """A difference sentence from two contents such as `A dog.`; the form is drawn from the seed."""
    first, second = (_inline(text) for text in (left, right))
    form = _TEMPLATES[int(np.random.default_rng(seed).integers(len(_TEMPLATES)))]
    bare = first.split(" ", 1)[1] if first.startswith(("a ", "an ")) else first
    return form.format(left=first, right=second, left_bare=bare)


def _inline(text: str) -> str:
    bare = text.strip().rstrip(".").strip()
    return bare[:1].lower() + bare[1:]

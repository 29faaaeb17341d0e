"""The language of the procedural world: captions and their parser, region and difference sentences.

`describe` writes captions, `parse_caption` reads every caption that `describe` writes and every
edit of one that swaps a category, so a caption can be drawn again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.scene import SIZES, Scene, SceneObject
from imgdiff.mini.shapes import CATEGORIES, COLOURS

RELATIONS = ("to the left of", "to the right of", "above", "below")
OPPOSITE = dict(
    zip(RELATIONS, (RELATIONS[1], RELATIONS[0], RELATIONS[3], RELATIONS[2]), strict=True)
)
PLACES = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True, kw_only=True, slots=True)
class NounPhrase:
    """What a caption says of one object; None where it is silent."""

    category: str
    colour: str | None = None
    size: str | None = None

    def text(self) -> str:
        """`a small red apple`, with the article that the next word needs."""
        words = " ".join(word for word in (self.size, self.colour, self.category) if word)
        return f"{article(words)} {words}"

    def definite(self) -> str:
        """`the small red apple`."""
        return "the " + " ".join(w for w in (self.size, self.colour, self.category) if w)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """What a caption fixes about a scene: its objects in order, their relation, the ground."""

    objects: tuple[NounPhrase, ...]
    relation: str | None = None  # of objects[0] to objects[1]
    ground: str | None = None


def article(words: str) -> str:
    """`an` before a vowel letter, else `a` (enough for the words of this world)."""
    return "an" if words[:1].lower() in "aeiou" else "a"


def capitalised(text: str) -> str:
    """First letter upper case, the rest untouched."""
    return text[:1].upper() + text[1:]


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def full_phrase(item: SceneObject) -> NounPhrase:
    """Everything there is to say about an object."""
    return NounPhrase(category=item.category, colour=item.colour, size=item.size)


def colour_phrase(item: SceneObject) -> NounPhrase:
    """Colour and category."""
    return NounPhrase(category=item.category, colour=item.colour)


def relation_of(first: SceneObject, second: SceneObject) -> tuple[str, ...]:
    """All true relations of `first` to `second`, by cell rows and columns."""
    true = []
    if first.column != second.column:
        true.append(RELATIONS[0] if first.column < second.column else RELATIONS[1])
    if first.row != second.row:
        true.append(RELATIONS[2] if first.row < second.row else RELATIONS[3])
    return tuple(true)


def _choose(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _spoken(rng: np.random.Generator, item: SceneObject) -> NounPhrase:
    """A noun phrase that names the colour mostly and the size sometimes."""
    return NounPhrase(
        category=item.category,
        colour=item.colour if rng.random() < 0.8 else None,  # noqa: PLR2004
        size=item.size if rng.random() < 0.25 else None,  # noqa: PLR2004
    )


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A caption of the whole scene; objects in random order, attributes partly omitted."""
    items = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    phrases = [_spoken(rng, item).text() for item in items]
    ground = f" on a {scene.ground} background" if rng.random() < 0.25 else ""  # noqa: PLR2004
    if len(items) == 2 and rng.random() < 0.7:  # noqa: PLR2004
        relation = _choose(rng, relation_of(items[0], items[1]))
        body = f"{phrases[0]} {relation} {phrases[1]}{ground}"
    else:
        body = listed(phrases) + ground
    opening = _choose(rng, ("", "", "A photo of ", "A picture of ", "There is "))
    return capitalised(f"{opening}{body}.")


_OPENING = re.compile(r"^(a photo of|a picture of|there is)\s+")
_GROUND = re.compile(rf"\s+on a ({'|'.join(GROUNDS)}) background$")
_RELATION = re.compile(rf"\s+({'|'.join(RELATIONS)})\s+")
_PHRASE = re.compile(
    rf"^an?(?:\s+(?P<size>{'|'.join(SIZES)}))?(?:\s+(?P<colour>{'|'.join(COLOURS)}))?"
    rf"\s+(?P<category>{'|'.join(CATEGORIES)})$"
)


def parse_caption(text: str) -> Sketch:
    """The Sketch a caption stands for; DataError if it is not a caption of this world."""
    body = _OPENING.sub("", " ".join(text.lower().split()).rstrip("."))
    ground = _GROUND.search(body)
    if ground:
        body = body[: ground.start()]
    relation = _RELATION.search(body)
    if relation:
        parts = [body[: relation.start()], body[relation.end() :]]
    else:
        parts = re.split(r",\s*|\s+and\s+", body)
    phrases = tuple(_parse_phrase(part, text) for part in parts)
    if len(phrases) > len(PLACES):
        raise DataError(f"caption {text!r}: {len(phrases)} objects; a scene holds {len(PLACES)}")
    return Sketch(
        objects=phrases,
        relation=relation.group(1) if relation else None,
        ground=ground.group(1) if ground else None,
    )


def _parse_phrase(part: str, caption: str) -> NounPhrase:
    found = _PHRASE.match(part.strip())
    if found is None:
        raise DataError(f"caption {caption!r}: {part!r} is not an object of the procedural world")
    return NounPhrase(category=found["category"], colour=found["colour"], size=found["size"])


def region_description(item: SceneObject, rng: np.random.Generator | None = None) -> str:
    """One sentence for the content of a box; the plain form without an rng."""
    forms = (
        f"{full_phrase(item).text()}.",
        f"{colour_phrase(item).text()}.",
        f"this is {full_phrase(item).text()}.",
    )
    weights = (0.9, 0.05, 0.05)  # mostly one form, so that greedy decoding is stable
    pick = 0 if rng is None else int(rng.choice(len(forms), p=weights))
    return capitalised(forms[pick])


def empty_description(ground: str) -> str:
    """What a region without an object shows."""
    return f"Part of the {ground} background."


def difference_sentence(left: str, right: str, rng: np.random.Generator | None = None) -> str:
    """One sentence for two contents, given as descriptions or noun phrases."""
    first, second = (_inline(text) for text in (left, right))
    forms = (
        f"The left image shows {first}, while the right image shows {second}.",
        f"In the left image there is {first}, whereas in the right image there is {second}.",
        f"The left image has {first} in the box. The right image has {second} instead.",
    )
    return forms[0 if rng is None else int(rng.integers(len(forms)))]


def _inline(text: str) -> str:
    """A sentence as part of another: no full stop, lower-case start."""
    bare = text.strip().rstrip(".").strip()
    return bare[:1].lower() + bare[1:]

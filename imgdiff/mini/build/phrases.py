"""What training texts say of objects and grounds, when it is true, and how to make it false."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import (
    NounPhrase,
    capitalised,
    describe,
    empty_description,
)
from imgdiff.mini.scene import SIZES, Scene, SceneObject, replace_object
from imgdiff.mini.shapes import CATEGORIES, COLOURS

Said = NounPhrase | str  # of an object, or the name of an empty ground


def other(rng: np.random.Generator, options: Sequence[str], *not_these: str) -> str:
    """One of `options` that is none of `not_these`."""
    left = [option for option in options if option not in not_these]
    return left[int(rng.integers(len(left)))]


def spoken(item: SceneObject, rng: np.random.Generator) -> NounPhrase:
    """The noun alone, with its colour, or with colour and size."""
    kind = rng.random()
    return NounPhrase(
        category=item.category,
        colour=item.colour if kind > 0.3 else None,  # noqa: PLR2004
        size=item.size if kind > 0.6 else None,  # noqa: PLR2004
    )


def written(said: Said, rng: np.random.Generator) -> str:
    """The phrase as a bare lemma, a noun phrase, or a region sentence (mostly by its detail)."""
    if isinstance(said, str):
        bare = f"{said} background"
        return empty_description(said) if rng.random() < 0.8 else f"a {bare}"  # noqa: PLR2004
    if said.colour is None:
        return said.category if rng.random() < 0.8 else said.text()  # noqa: PLR2004
    if said.size is None:
        return said.text() if rng.random() < 0.7 else sentence(said)  # noqa: PLR2004
    return sentence(said) if rng.random() < 0.9 else f"This is {said.text()}."  # noqa: PLR2004


def sentence(said: NounPhrase) -> str:
    """The phrase as a region sentence: `A small red apple.`."""
    return f"{capitalised(said.text())}."


def true_of(said: Said, item: SceneObject | None, ground: str | None) -> bool:
    """Whether the phrase is true of this object, or (no object) of this ground."""
    if isinstance(said, str):
        return item is None and said == ground
    return (
        item is not None
        and said.category == item.category
        and said.colour in (None, item.colour)
        and said.size in (None, item.size)
    )


def falsified(said: NounPhrase, rng: np.random.Generator) -> NounPhrase:
    """The phrase with its colour (if named) or its category exchanged; the size is kept."""
    if said.colour is not None and rng.random() < 0.5:  # noqa: PLR2004
        return dataclasses.replace(said, colour=other(rng, tuple(COLOURS), said.colour))
    return dataclasses.replace(said, category=other(rng, tuple(CATEGORIES), said.category))


def edited(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with a category, a colour, a size, two places or the ground exchanged."""
    index = int(rng.integers(len(scene.objects)))
    item = scene.objects[index]
    kind = rng.random()
    if kind < 0.3 and len(scene.objects) > 1:  # noqa: PLR2004
        return _places_exchanged(scene, rng)
    if kind < 0.65:  # noqa: PLR2004
        present = (o.category for o in scene.objects)
        changed = dataclasses.replace(item, category=other(rng, tuple(CATEGORIES), *present))
    elif kind < 0.9:  # noqa: PLR2004
        changed = dataclasses.replace(item, colour=other(rng, tuple(COLOURS), item.colour))
    elif kind < 0.95:  # noqa: PLR2004
        changed = dataclasses.replace(item, size=other(rng, SIZES, item.size))
    else:
        return dataclasses.replace(scene, ground=other(rng, GROUNDS, scene.ground))
    return replace_object(scene, index, changed)


def _places_exchanged(scene: Scene, rng: np.random.Generator) -> Scene:
    """Two objects stand in each other's cell, or wear each other's colour."""
    one, two = (int(i) for i in rng.permutation(len(scene.objects))[:2])
    first, second = scene.objects[one], scene.objects[two]
    if rng.random() < 0.5 or first.colour == second.colour:  # noqa: PLR2004
        moved = (
            dataclasses.replace(first, cell=second.cell),
            dataclasses.replace(second, cell=first.cell),
        )
    else:
        moved = (
            dataclasses.replace(first, colour=second.colour),
            dataclasses.replace(second, colour=first.colour),
        )
    return replace_object(replace_object(scene, one, moved[0]), two, moved[1])


def caption_and_edit(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A caption and the same wording of an edited scene (equal where the edit is not spoken of)."""
    wording, edit = rng.integers(2**31, size=2)
    changed = edited(scene, np.random.default_rng(edit))
    return (
        describe(scene, np.random.default_rng(wording)),
        describe(changed, np.random.default_rng(wording)),
    )

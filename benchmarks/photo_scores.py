"""What a matcher says of unpainted crops of photos. See removal_photos.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from photo_crops import Shown, background, cut, jittered, usable, without
from photo_cuts import KINDS, Scored
from PIL import Image

from imgdiff.backends.coco import AnnotatedObject
from imgdiff.backends.protocols import Matches
from imgdiff.core.geometry import Box
from imgdiff.core.identity import seed_for
from imgdiff.synth.wording import truthful_content

JITTER = 0.1  # of a side: how far a box moves
ROUNDS = 4  # crops of each kind for each object


@dataclass(frozen=True, kw_only=True, eq=False)
class Thing:
    """An object of a photo; `image` is the photo as it was stored, in the same frame."""

    photo: Shown
    item: AnnotatedObject
    image: Image.Image
    box: Box


def things_of(photos: Sequence[Shown], least: float, most: float) -> list[Thing]:
    """Usable objects whose box takes from `least` to `most` of the photo."""
    return [
        Thing(photo=photo, item=item, image=photo.image, box=item.box)
        for photo in photos
        for item in photo.objects
        if usable(item) and least <= item.box.area / photo.owners_HW.size <= most
    ]


def scores_of(things: Sequence[Thing], names: Sequence[str], matcher: Matches) -> list[Scored]:
    """Every kind of score of every thing; wrong names are drawn from `names`."""
    asked = [(n, *one) for n, thing in enumerate(things) for one in _crops(thing, names)]
    scores = matcher.match([image for *_, image, _ in asked], [[text] for *_, text in asked])
    found: list[dict[str, list[float]]] = [{kind: [] for kind in KINDS} for _ in things]
    for (n, kind, _, _), row in zip(asked, scores, strict=True):
        found[n][kind].append(float(row[0]))
    return [Scored(**{kind: tuple(one[kind]) for kind in KINDS}) for one in found]


def _crops(thing: Thing, names: Sequence[str]) -> Iterator[tuple[str, Image.Image, str]]:
    """(kind, crop, text)."""
    photo, item, box = thing.photo, thing.item, thing.box
    rng = np.random.default_rng(seed_for(0, item.id, "photo scores"))
    own = truthful_content(item.category)
    yield "shown", cut(thing.image, box), own
    absent = sorted({*names} - {other.category for other in photo.objects})
    for name in rng.choice(absent, size=ROUNDS, replace=False).tolist():
        yield "misnamed", cut(thing.image, box), truthful_content(name)
    for _ in range(ROUNDS):
        yield "moved", cut(thing.image, jittered(box, JITTER, rng)), own
        ground, other = background(photo, box, rng), without(photo, box, item.category, rng)
        if ground is not None:
            yield "ground", cut(thing.image, ground), own
        if other is not None:
            yield "other", cut(thing.image, other), own

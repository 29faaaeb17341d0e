"""Batches for the CLIP recipe: views with texts for the contrast, owners for the dense labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, Int8, UInt8

from imgdiff.core.identity import seed_for
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.phrases import (
    Said,
    caption_and_edit,
    falsified,
    other,
    spoken,
    true_of,
    written,
)
from imgdiff.mini.build.views import (
    ABSENT,
    MAX_OWNERS,
    OWNER_PX,
    PRESENT,
    Shot,
    View,
    centre_cropped,
    ground_box,
    object_box,
    paired,
    recoloured,
    shot,
    whole,
    zoomed,
)
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import NounPhrase
from imgdiff.mini.scene import SceneObject
from imgdiff.mini.shapes import CATEGORIES, COLOURS

PATCHES = 8  # along one side of a view
SAMPLES = OWNER_PX // PATCHES
MIN_COVER, MAX_TRACE = 5, 1  # of 16 samples: enough to be labelled, little enough to be ground
IGNORED = -100
RECOLOURED = 0.35  # share of crops, zooms and pairs that are shown in other colours
TRUE, FALSE, UNSURE = 1, 0, -1
CATEGORY_IDS = {name: i + 1 for i, name in enumerate(CATEGORIES)}
COLOUR_IDS = {name: i + 1 for i, name in enumerate(COLOURS)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many views of each kind a batch holds, in this order."""

    scenes: int = 26
    objects: int = 14
    grounds: int = 2
    zooms: int = 10
    pairs: int = 12

    @property
    def crops(self) -> int:
        """Views with a region text."""
        return self.objects + self.grounds


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Per patch: category (0 ground), colour (0 ground), ground texture; -100 is not counted."""

    category_BP: Int[np.ndarray, "B P"]
    colour_BP: Int[np.ndarray, "B P"]
    ground_BP: Int[np.ndarray, "B P"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Views in the order of Plan, captions of the scenes, false captions of them, crop texts.

    `agree_CT` says where crop text j is true of crop i, own and false texts included. `names_NK`
    says of each scene and crop which categories it shows: TRUE, FALSE or (in part) UNSURE.
    """

    pixels_BSS3: UInt8[np.ndarray, "B S S 3"]
    labels: Labels
    captions: list[str]
    false_captions: list[str]
    crop_texts: list[str]
    false_crop_texts: list[str]
    agree_CT: Bool[np.ndarray, "C T"]
    names_NK: Int8[np.ndarray, "N K"]


@dataclass(frozen=True, kw_only=True)
class _Crop:
    view: View
    item: SceneObject | None
    said: Said


def draw_batch(bank: Scenes, step: int, plan: Plan, seed: int = 0) -> Batch:
    """The batch of a step; depends on (seed, step) and the bank alone."""
    rng = np.random.default_rng(seed_for(seed, str(step), "clip"))
    shots = _shots(bank, rng)
    sources = [next(shots) for _ in range(plan.scenes)]
    captions = [caption_and_edit(source.scene, rng) for source in sources]
    crops = [_object_crop(next(shots), rng) for _ in range(plan.objects)]
    crops += [_ground_crop(shots, rng) for _ in range(plan.grounds)]
    views = [whole(source) for source in sources] + [item.view for item in crops]
    dense = [zoomed(next(shots), rng) for _ in range(plan.zooms)]
    dense += [paired(next(shots), next(shots), rng) for _ in range(plan.pairs)]
    views += [recoloured(v, rng) if rng.random() < RECOLOURED else v for v in dense]
    false = [_falsified(item.said, rng) for item in crops]
    said = [item.said for item in crops] + false
    return Batch(
        pixels_BSS3=np.stack([view.pixels_SS3 for view in views]),
        labels=labels_of(views),
        captions=[true for true, _ in captions],
        false_captions=[false for _, false in captions],
        crop_texts=[written(item.said, rng) for item in crops],
        false_crop_texts=[written(phrase, rng) for phrase in false],
        agree_CT=np.array([[_agrees(phrase, item) for phrase in said] for item in crops]),
        names_NK=names_of(views[: plan.scenes + plan.crops]),
    )


def _falsified(said: Said, rng: np.random.Generator) -> Said:
    return other(rng, GROUNDS, said) if isinstance(said, str) else falsified(said, rng)


def _agrees(said: Said, made: _Crop) -> bool:
    """Whether a phrase may be true of a crop; of a recoloured one any colour may."""
    if made.view.recoloured and made.item is not None and isinstance(said, NounPhrase):
        return said.category == made.item.category
    return true_of(said, made.item, made.view.ground)


def names_of(views: Sequence[View]) -> Int8[np.ndarray, "N K"]:
    """Which categories each view of one scene shows, by the visible share of its objects."""
    names = np.full((len(views), len(CATEGORIES)), FALSE, dtype=np.int8)
    for row, view in enumerate(views):
        for category, share in view.names_seen().items():
            column = CATEGORY_IDS[category] - 1
            if share > ABSENT:
                names[row, column] = TRUE if share >= PRESENT else UNSURE
    return names


def _shots(bank: Scenes, rng: np.random.Generator) -> Iterator[Shot]:
    while True:
        yield shot(bank, int(rng.integers(len(bank))))


def _object_crop(source: Shot, rng: np.random.Generator) -> _Crop:
    index = int(rng.integers(len(source.scene.objects)))
    item = source.scene.objects[index]
    view = centre_cropped(source, object_box(source, index, rng))
    if rng.random() < RECOLOURED:
        noun = NounPhrase(category=item.category)
        return _Crop(view=recoloured(view, rng), item=item, said=noun)
    return _Crop(view=view, item=item, said=spoken(item, rng))


def _ground_crop(shots: Iterator[Shot], rng: np.random.Generator) -> _Crop:
    while True:
        source = next(shots)
        box = ground_box(source, rng)
        if box is not None:
            ground = source.scene.ground
            return _Crop(view=centre_cropped(source, box), item=None, said=ground)


def labels_of(views: Sequence[View]) -> Labels:
    """Labels of every patch from the owner samples under it.

    A patch belongs to the object with most samples if it has MIN_COVER of them, to the ground if
    at most MAX_TRACE samples are covered, else it is ignored.
    """
    owners = np.stack([view.owners_GG for view in views])
    blocks = owners.reshape(-1, PATCHES, SAMPLES, PATCHES, SAMPLES)
    counts = np.stack([(blocks == k).sum(axis=(2, 4)) for k in range(MAX_OWNERS + 1)], axis=-1)
    cover = counts[..., 1:]
    owner = cover.argmax(axis=-1) + 1
    is_object = cover.max(axis=-1) >= MIN_COVER
    is_ground = cover.sum(axis=-1) <= MAX_TRACE
    owner = np.where(is_object, owner, 0).reshape(len(views), -1)
    known = (is_object | is_ground).reshape(len(views), -1)
    return Labels(
        category_BP=_looked_up([_ids(v, "category") for v in views], owner, known),
        colour_BP=_looked_up([_ids(v, "colour") for v in views], owner, known & ~_masked(views)),
        ground_BP=_ground_labels(views, is_ground.reshape(len(views), -1)),
    )


def _masked(views: Sequence[View]) -> Bool[np.ndarray, "B 1"]:
    """Views whose colours say nothing."""
    return np.array([[view.recoloured] for view in views])


def _ids(view: View, field: str) -> list[int]:
    table = CATEGORY_IDS if field == "category" else COLOUR_IDS
    ids = [table[getattr(item, field)] for item in view.objects]
    return [0, *ids] + [0] * (MAX_OWNERS - len(ids))


def _looked_up(
    tables: list[list[int]], owner_BP: Int[np.ndarray, "B P"], known_BP: Bool[np.ndarray, "B P"]
) -> Int[np.ndarray, "B P"]:
    ids_BP = np.take_along_axis(np.array(tables), owner_BP, axis=1)
    return np.where(known_BP, ids_BP, IGNORED)


def _ground_labels(
    views: Sequence[View], is_ground_BP: Bool[np.ndarray, "B P"]
) -> Int[np.ndarray, "B P"]:
    ids = np.array([GROUNDS.index(v.ground) if v.ground else IGNORED for v in views])
    return np.where(is_ground_BP, ids[:, None], IGNORED)


def to_pixels(pixels_BSS3: UInt8[np.ndarray, "B S S 3"]) -> torch.Tensor:
    """float32 [B 3 S S], normalised as the processors of CLIP and BLIP do."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    values = torch.from_numpy(pixels_BSS3).permute(0, 3, 1, 2).float().div_(255)
    return values.sub_(mean).div_(std)

"""Held-out figures of the mini CLIP and BLIP, measured through the backends on unseen scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from imgdiff.backends.protocols import Embedder, Matcher
from imgdiff.core.geometry import Box, crop
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.drawn import DrawnScenes, sampled
from imgdiff.mini.build.phrases import edited, falsified, other, sentence
from imgdiff.mini.build.views import Shot, ground_box, shot
from imgdiff.mini.language import describe, full_phrase
from imgdiff.mini.scene import SCENE_PX, Scene, SceneObject, Split, place, replace_object
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CANDIDATES, EDITS = 32, 8  # captions to choose from
ABSENT_NOUNS = 8  # asked of each crop
MARGIN_PX = 5.0
PAPER_MATCH = 0.35  # the published threshold on BLIP's cosine
Metrics = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """One object of a held-out scene, cut out tightly and with a margin."""

    item: SceneObject
    scene: Scene
    tight: Image.Image
    roomy: Image.Image


def rng_for(purpose: str, seed: int) -> np.random.Generator:
    """A generator for one figure."""
    return np.random.default_rng(seed_for(seed, purpose, "evaluate"))


def specimens(drawn: DrawnScenes) -> list[Specimen]:
    """Every object of the scenes."""
    return [
        Specimen(
            item=item,
            scene=scene,
            tight=crop(source.image, source.box(k)),
            roomy=crop(source.image, _grown(source.box(k))),
        )
        for source, scene in zip(_shots(drawn), drawn.scenes, strict=True)
        for k, item in enumerate(scene.objects)
    ]


def _shots(drawn: DrawnScenes) -> Iterator[Shot]:
    return (shot(drawn, index) for index in range(len(drawn)))


def _grown(box: Box) -> Box:
    return box.grown(MARGIN_PX).clipped_to(SCENE_PX, SCENE_PX)


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Chance that a positive scores above a negative; ties count half."""
    scores = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    wins = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def evaluate_clip(
    embedder: Embedder, count: int = 400, split: Split = Split.validation, seed: int = 0
) -> Metrics:
    """Figures of an entered embedder on `count` scenes of `split` (at least 64)."""
    drawn = sampled(split, count, seed)
    images_ND = embedder.embed_images([source.image for source in _shots(drawn)])
    return {
        **_caption_figures(embedder, drawn, images_ND, seed),
        **_crop_figures(embedder, drawn),
        **_pair_figures(embedder, drawn, images_ND, seed),
    }


def _caption_figures(
    embedder: Embedder, drawn: DrawnScenes, images_ND: Float[np.ndarray, "N D"], seed: int
) -> Metrics:
    """Share of scenes whose own caption scores highest among others', and among its own edits."""
    rng = rng_for("captions", seed)
    captions = [describe(scene, rng) for scene in drawn.scenes]
    texts_ND = embedder.embed_texts(captions)
    right = [
        _own_wins(images_ND[k], texts_ND, [k, *_rivals(captions, k, rng)])
        for k in range(len(captions))
    ]
    return {
        f"caption_of_{CANDIDATES}": float(np.mean(right)),
        f"caption_of_{EDITS}_edits": _edit_figure(embedder, drawn, images_ND, rng),
    }


def _own_wins(
    image_D: Float[np.ndarray, " D"], texts_ND: Float[np.ndarray, "N D"], rows: list[int]
) -> bool:
    scores = texts_ND[rows] @ image_D
    return bool(scores[0] > scores[1:].max())


def _rivals(captions: Sequence[str], own: int, rng: np.random.Generator) -> list[int]:
    """Indices of CANDIDATES - 1 captions with another text."""
    others = [k for k in rng.permutation(len(captions)) if captions[k] != captions[own]]
    return [int(k) for k in others[: CANDIDATES - 1]]


def _edit_figure(
    embedder: Embedder,
    drawn: DrawnScenes,
    images_ND: Float[np.ndarray, "N D"],
    rng: np.random.Generator,
) -> float:
    """The hard variant: the rivals are edits of the scene (one word or two places exchanged)."""
    wordings = [_with_edits(scene, rng) for scene in drawn.scenes]
    texts_ND = embedder.embed_texts([text for texts in wordings for text in texts])
    right = [
        _own_wins(images_ND[k], texts_ND, list(range(k * EDITS, (k + 1) * EDITS)))
        for k in range(len(wordings))
    ]
    return float(np.mean(right))


def _with_edits(scene: Scene, rng: np.random.Generator) -> list[str]:
    """A caption, and EDITS - 1 different texts that say the same of edited scenes."""
    wording = int(rng.integers(2**31))
    true, false = _worded(scene, wording), dict[str, None]()
    while len(false) < EDITS - 1:
        edit = _worded(edited(scene, rng), wording)
        if edit != true:
            false[edit] = None
    return [true, *false]


def _worded(scene: Scene, wording: int) -> str:
    return describe(scene, np.random.default_rng(wording))


def _crop_figures(embedder: Embedder, drawn: DrawnScenes) -> Metrics:
    """Zero-shot naming of crops: the noun among all nouns, the colour among all colours."""
    found = specimens(drawn)
    images_ND = embedder.embed_images([specimen.roomy for specimen in found])
    nouns, colours = list(CATEGORIES), list(COLOURS)
    named = (images_ND @ embedder.embed_texts(nouns).T).argmax(axis=1)
    phrases_ND = embedder.embed_texts([f"a {c} {noun}" for noun in nouns for c in colours])
    by_noun = phrases_ND.reshape(len(nouns), len(colours), -1)
    painted = []
    for image_D, specimen in zip(images_ND, found, strict=True):
        best = int((by_noun[nouns.index(specimen.item.category)] @ image_D).argmax())
        painted.append(colours[best] == specimen.item.colour)
    right = [nouns[int(b)] == s.item.category for b, s in zip(named, found, strict=True)]
    return {
        f"noun_of_{len(nouns)}": float(np.mean(right)),
        f"colour_of_{len(colours)}": float(np.mean(painted)),
    }


def _pair_figures(
    embedder: Embedder, drawn: DrawnScenes, images_ND: Float[np.ndarray, "N D"], seed: int
) -> Metrics:
    """Cosines of image pairs in which one object became another: whole scenes, and its crops."""
    rng = rng_for("pairs", seed)
    places = [int(rng.integers(len(scene.objects))) for scene in drawn.scenes]
    changed = DrawnScenes(
        [_with_other(s, k, rng) for s, k in zip(drawn.scenes, places, strict=True)]
    )
    changed_ND = embedder.embed_images([source.image for source in _shots(changed)])
    whole = np.sum(images_ND * changed_ND, axis=1)
    boxes = [
        _grown(old.box(k).union(new.box(k)))
        for old, new, k in zip(_shots(drawn), _shots(changed), places, strict=True)
    ]
    crops = [
        embedder.embed_images([crop(s.image, b) for s, b in zip(_shots(d), boxes, strict=True)])
        for d in (drawn, changed)
    ]
    inside = np.sum(crops[0] * crops[1], axis=1)
    return {
        **{f"edited_scene_cosine_p{q:02d}": float(np.percentile(whole, q)) for q in (5, 50, 95)},
        **{f"edited_crop_cosine_p{q:02d}": float(np.percentile(inside, q)) for q in (5, 50, 95)},
    }


def _with_other(scene: Scene, index: int, rng: np.random.Generator) -> Scene:
    old = scene.objects[index]
    category = other(rng, tuple(CATEGORIES), *(item.category for item in scene.objects))
    return replace_object(scene, index, place(rng, category, old.colour, old.size, old.cell))


def evaluate_presence(
    matcher: Matcher,
    count: int = 300,
    threshold: float = PAPER_MATCH,
    split: Split = Split.validation,
    seed: int = 0,
) -> Metrics:
    """How well an entered matcher tells what a crop shows from what it does not.

    `noun_auroc`: tight crops, own noun against absent nouns. `sentence_auroc`: crops with margin,
    own region sentence against one with another colour or category. Shares above `threshold`:
    present nouns on tight crops, absent nouns there, and nouns on empty ground.
    """
    drawn = sampled(split, count, seed)
    rng = rng_for("presence", seed)
    found = specimens(drawn)
    nouns = [[s.item.category, *_absent_nouns(s.scene, rng)] for s in found]
    of_nouns = np.stack(matcher.match([s.tight for s in found], nouns))
    sentences = [[sentence(full_phrase(s.item)), _false_sentence(s.item, rng)] for s in found]
    of_sentences = np.stack(matcher.match([s.roomy for s in found], sentences))
    return {
        "noun_auroc": auroc(of_nouns[:, 0].tolist(), of_nouns[:, 1:].ravel().tolist()),
        "sentence_auroc": auroc(of_sentences[:, 0].tolist(), of_sentences[:, 1].tolist()),
        "noun_top1": float((of_nouns[:, :1] > of_nouns[:, 1:]).all(axis=1).mean()),
        "sentence_top1": float((of_sentences[:, 0] > of_sentences[:, 1]).mean()),
        f"present_above_{threshold}": float((of_nouns[:, 0] > threshold).mean()),
        f"absent_above_{threshold}": float((of_nouns[:, 1:] > threshold).mean()),
        f"ground_above_{threshold}": float((_on_ground(matcher, drawn, rng) > threshold).mean()),
    }


def _on_ground(
    matcher: Matcher, drawn: DrawnScenes, rng: np.random.Generator
) -> Float[np.ndarray, "M T"]:
    """Scores of nouns on crops that show no object."""
    grounds = [(s.image, ground_box(s, rng)) for s in _shots(drawn)]
    empty = [crop(image, box) for image, box in grounds if box is not None]
    asked = [[other(rng, tuple(CATEGORIES)) for _ in range(ABSENT_NOUNS)] for _ in empty]
    return np.stack(matcher.match(empty, asked))


def _absent_nouns(scene: Scene, rng: np.random.Generator) -> list[str]:
    present = {item.category for item in scene.objects}
    absent = [noun for noun in CATEGORIES if noun not in present]
    return [absent[int(k)] for k in rng.permutation(len(absent))[:ABSENT_NOUNS]]


def _false_sentence(item: SceneObject, rng: np.random.Generator) -> str:
    return sentence(falsified(full_phrase(item), rng))

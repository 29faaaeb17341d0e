"""Image similarity filter, and the choice among several image pairs drawn for one caption pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgdiff.core.identity import fingerprint, seed_for
from imgdiff.core.records import CaptionPair, ImagePair
from imgdiff.synth.chunks import opened, opened_ahead
from imgdiff.synth.scores import cosines, missed_end
from imgdiff.synth.selection import RegionsFrom, Rules
from imgdiff.synth.states import CandidateState, ItemState, open_items
from imgdiff.synth.tools import Tools


def with_seeds(pair: CaptionPair, run_seed: int, count: int) -> list[CaptionPair]:
    """The caption pair once for each candidate; the first keeps its seed whatever the count."""
    others = [
        replace(pair, seed=seed_for(run_seed, pair.id, f"generate {number}"))
        for number in range(1, count)
    ]
    return [pair, *others]


def compare_images(states: list[ItemState], tools: Tools) -> None:
    """Image similarity filter: CLIP cosine of the two images (paper §3.3).

    Of several candidates that pass, the one with the highest CLIP directional similarity stays:
    what changed in its images is what changed in the words (InstructPix2Pix, arXiv 2211.09800).
    """
    rules = tools.config.rules
    if rules.regions_from is RegionsFrom.truth:
        return
    waiting = [state for state in open_items(states) if state.candidates]
    drawn = [one for state in waiting for one in state.candidates]
    for one, score in zip(drawn, _similarities(drawn, tools), strict=True):
        one.similarity = score
    contested = [
        one
        for passing in (_passing(state, rules) for state in waiting)
        if len(passing) > 1
        for one in passing
    ]
    for one, score in zip(contested, _directions(contested, tools), strict=True):
        one.direction = score
    for state in waiting:
        _choose(state, rules)


def _choose(state: ItemState, rules: Rules) -> None:
    """Keep the best candidate; where none passes, the item falls for what the first one lacks."""
    passing = _passing(state, rules)
    best = max(passing or state.candidates[:1], key=lambda one: one.direction or 0.0)
    state.images, state.image_similarity, state.direction = (
        best.images,
        best.similarity,
        best.direction,
    )
    if not passing:
        assert best.similarity is not None
        missed = missed_end(rules.image_similarity, judged(best.similarity, rules), "images")
        state.reject("image_similarity", missed)


def similarity_key(images: ImagePair) -> str:
    """Cell of the cosine of two images."""
    return fingerprint(images.left_id, images.right_id)


def judged(similarity: float, rules: Rules) -> float:
    """The score as the rules read it."""
    digits = rules.image_similarity_digits
    return similarity if digits is None else round(similarity, digits)


def _passing(state: ItemState, rules: Rules) -> list[CandidateState]:
    return [
        one
        for one in state.candidates
        if one.similarity is not None
        and rules.image_similarity.accepts(judged(one.similarity, rules))
    ]


def _similarities(drawn: Sequence[CandidateState], tools: Tools) -> list[float]:
    def compute(items: Sequence[ImagePair]) -> list[float]:
        return cosines(items, lambda part: opened(part, tools.open_pair), tools)

    keyed = [(similarity_key(one.images), one.images) for one in drawn]
    return tools.values("image_similarity", "embedder", keyed, compute)


def _directions(drawn: Sequence[CandidateState], tools: Tools) -> list[float]:
    def compute(items: Sequence[ImagePair]) -> list[float]:
        return directions(items, tools)

    keyed = [
        (fingerprint(i.left_id, i.right_id, i.left_caption, i.right_caption), i)
        for i in (one.images for one in drawn)
    ]
    return tools.values("direction", "embedder", keyed, compute)


def directions(pairs: Sequence[ImagePair], tools: Tools) -> list[float]:
    """Cosine of the step between two images' CLIP rows and that between their captions' rows.

    At six decimals; 0 where images or captions are equal.
    """
    scores: list[float] = []
    embedder = tools.backends.embedder
    for part, both in opened_ahead(pairs, tools.open_pair):
        images = [image for pair in both for image in pair]
        texts = [text for pair in part for text in (pair.left_caption, pair.right_caption)]
        rows = (embedder.embed_images(images), embedder.embed_texts(texts))
        shown, said = (row[1::2] - row[0::2] for row in rows)
        lengths = np.linalg.norm(shown, axis=1) * np.linalg.norm(said, axis=1)
        dots = (shown * said).sum(axis=1)
        scores += [
            round(float(d / n), 6) if n > 0 else 0.0 for d, n in zip(dots, lengths, strict=True)
        ]
    return scores

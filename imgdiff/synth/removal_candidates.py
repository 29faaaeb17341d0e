"""Object removal, first half: boxes of both images, what differs, a few per side, their masks.

Source: Img-Diff paper §16 and the released generate_inpaint.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from PIL import Image

from imgdiff.core.geometry import Box, has_pixels, pairwise_iou, suppress
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import open_rgb
from imgdiff.core.masks import Runs, runs_of
from imgdiff.core.records import ImagePair, Side
from imgdiff.synth.chunks import opened_ahead
from imgdiff.synth.pairs import photograph_objects
from imgdiff.synth.regions import crop_similarities, segments_of
from imgdiff.synth.removal_states import RemovalState, Stored
from imgdiff.synth.scores import missed_end
from imgdiff.synth.selection import area_verdict
from imgdiff.synth.states import BOX_DIGITS, ItemState, open_items, open_removals
from imgdiff.synth.tools import Tools


def propose_removals(states: list[ItemState], tools: Tools) -> None:
    """Candidate boxes: segments of both images, or the annotated object of the photo."""
    if tools.config.removes_annotated:
        if tools.config.edit.replaces:
            photograph_objects(states, tools)
        _propose_annotated(states)
    else:
        for state, proposals in segments_of(open_items(states), tools, "masker"):
            state.removal_proposals = proposals
            for number, box in enumerate(proposals.boxes):
                _add(state, proposals.side(number), box)
    rules = tools.config.rules.removal
    for _, item in open_removals(states):
        width, height = item.original.width, item.original.height
        verdict = area_verdict(item.box, width, height, rules)
        if not has_pixels(item.box, width, height):
            item.reject("propose", "box without a pixel", str(item.box.as_tuple()))
        elif verdict is not None:
            item.reject("propose", verdict.replace("region", "object"))
        elif item.record is not None and item.record.same_kind > rules.max_same_kind:
            item.reject("propose", "another of its kind in the box", item.record.name)


def _propose_annotated(states: Sequence[ItemState]) -> None:
    for state in open_items(states):
        if state.annotated is not None:
            assert state.images is not None
            width, height = state.images.width, state.images.height
            _add(state, Side.LEFT, state.annotated.box.clipped_to(width, height))
            state.removals[-1].record = state.annotated
            state.removals[-1].runs = state.annotated.runs


def _add(state: ItemState, side: Side, box: Box) -> None:
    assert state.images is not None
    number = len(state.removals)
    state.removals.append(
        RemovalState(
            id=f"{state.id}-m{number}",
            pair_id=state.id,
            side=side,
            box=box,
            number=number,
            original=stored_side(state.images, side),
        )
    )


def stored_side(images: ImagePair, side: Side) -> Stored:
    """One image of a pair."""
    left = side is Side.LEFT
    return Stored(
        path=images.left_path if left else images.right_path,
        id=images.left_id if left else images.right_id,
        width=images.width,
        height=images.height,
    )


def compare_removals(states: list[ItemState], tools: Tools) -> None:
    """Similarity filter: what looks alike in both images is no object that the edit touched."""
    if tools.config.removes_annotated:
        return
    waiting = list(open_removals(states))
    interval = tools.config.rules.removal.crop_similarity
    asked = [
        (state.images, state.removal_proposals, item.number)
        for state, item in waiting
        if state.images and state.removal_proposals
    ]
    scores = crop_similarities(asked, tools)
    for (_, item), score in zip(waiting, scores, strict=True):
        item.crop_similarity = score
        if not interval.accepts(score):
            item.reject("difference", missed_end(interval, score, "crops"))


def select_removals(states: list[ItemState], tools: Tools) -> None:
    """Per side: suppression of overlaps, the most different box first, then the first few."""
    for state in states:
        for side in Side:
            standing = [r for r in state.removals if r.rejected is None and r.side is side]
            _select(standing, tools)


def _select(standing: Sequence[RemovalState], tools: Tools) -> None:
    if not standing:
        return
    rules = tools.config.rules
    similarity = np.array([item.crop_similarity or 0.0 for item in standing])
    order = [int(index) for index in np.argsort(similarity, kind="stable")]
    corners = np.array([item.box.as_tuple() for item in standing], dtype=np.float64)
    overlaps = pairwise_iou(corners, plus_one=rules.plus_one)
    kept = suppress(overlaps, order, rules.removal.max_iou)
    for index in set(order) - set(kept):
        standing[index].reject("suppression", "overlaps a more different box")
    for index in kept[rules.removal.max_per_side :] if rules.removal.max_per_side else ():
        standing[index].reject("top_n", "beyond the most different of its image")


def outline_removals(states: list[ItemState], tools: Tools) -> None:
    """The mask of each box, from the detection that proposed it, or from the record."""
    waiting = [(s, r) for s, r in open_removals(states) if r.runs is None]

    def open_first(item: tuple[Stored, object]) -> Image.Image:
        return open_rgb(tools.root / item[0].path)

    def compute(items: Sequence[tuple[Stored, Box]]) -> list[Runs]:
        found: list[Runs] = []
        by_image = [(image, list(group)) for image, group in groupby(items, key=lambda i: i[0])]
        masker = tools.backends.masker
        for part, images in opened_ahead(by_image, open_first):
            boxes = [[box for _, box in group] for _, group in part]
            masks = masker.masks(images, boxes)
            found += [runs_of(mask) for of_image in masks for mask in of_image]
        return found

    keyed = [
        (fingerprint(item.original.id, item.box.as_tuple()), (item.original, item.box))
        for _, item in waiting
    ]
    if waiting:
        rows = tools.values("mask", "masker", keyed, compute, BOX_DIGITS)
        for (_, item), runs in zip(waiting, rows, strict=True):
            item.runs = runs

"""How right the data is, wherever the generator knows the truth. Counts add up over shards.

Definitions (also written into audit.json):
* box precision: exported regions whose box has IoU >= 0.5 with a truly changed object on a side.
* changed pair recall: of pairs in which the generator replaced an object and kept the layout,
  those with at least one such region.
* region name accuracy: of the two contents of every exported region, those that name the object
  that the box truly holds on that side.
* difference accuracy: exported sentences that name both of these objects, each on its side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from imgdiff.core.geometry import Box
from imgdiff.core.records import NamedBox, PairTruth, Side
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.states import ItemState, RegionState

RIGHT_IOU = 0.5
STILL_THERE = "object is still there"  # why a removal falls whose painted crop still fits
REMOVAL_DEFINITIONS = (
    "* removal answer accuracy: exported removal questions whose letter names the one side that "
    "shows the box as it was before, compared pixel by pixel. "
    "* removal box precision: exported removals whose box has IoU >= 0.5 with an object that is "
    "truly in that image. * removal name accuracy: those whose description names that object. "
    "* object gone: of removals whose description fits the original crop, those whose painted "
    "crop it no longer fits (None where nothing was matched)."
)
_KEPT_LAYOUT = frozenset({"replaced", "side effect"})


def audit_counts(states: Sequence[ItemState], *, told: bool = True) -> Counter[str]:
    """Counts of one shard; items without images or truth do not take part.

    `told`: the run writes sentences, and a region without one is not exported.
    """
    counts: Counter[str] = Counter()
    for state in states:
        if state.images is None:
            continue
        counts["pairs"] += 1
        if state.images.truth is None:
            continue
        counts[f"note:{state.images.truth.note}"] += 1
        _count_pair(state, state.images.truth, counts, told=told)
    return counts


def _count_pair(state: ItemState, truth: PairTruth, counts: Counter[str], *, told: bool) -> None:
    standing = [r for r in state.regions if r.rejected is None and not state.rejected]
    kept = [region for region in standing if region.sentence or not told]
    right = [r for r in kept if box_is_right(r.region.box, truth)]
    counts["regions"] += len(kept)
    counts["regions_right"] += len(right)
    if truth.changes and truth.note in _KEPT_LAYOUT:
        counts["changed"] += 1
        counts["changed_found"] += bool(right)
    if kept and truth.note not in _KEPT_LAYOUT:
        counts["wrong_pairs_exported"] += 1
    for region in kept:
        left, right_name = true_names(region.region.box, truth)
        for name, content in zip((left, right_name), region.contents or (), strict=True):
            counts["names"] += 1
            counts["names_right"] += names(content, name)
        if not told:
            continue
        counts["sentences"] += 1
        counts["sentences_right"] += sentence_is_right(region, left, right_name)


def removal_counts(states: Sequence[ItemState]) -> Counter[str]:
    """Counts of one shard's removals; answers are counted where the images are laid out."""
    counts: Counter[str] = Counter()
    for state in states:
        truth = state.images.truth if state.images is not None else None
        for item in state.removals:
            kept = item.rejected is None
            judged = kept or (item.rejected is not None and item.rejected.reason == STILL_THERE)
            if item.match is not None and judged:
                counts["removals_scored"] += 1
                counts["removals_gone"] += kept
            if kept and truth is not None:
                name, right = held_by(item.box, item.side, truth)
                counts["removals_known"] += 1
                counts["removals_right"] += right
                counts["removals_named"] += names(item.content or "", name)
    return counts


def held_by(box: Box, side: Side, truth: PairTruth) -> tuple[str, bool]:
    """The object that the box holds most of in one image ("" for none), and whether it fits it."""
    objects = list(truth.left_objects if side is Side.LEFT else truth.right_objects)
    if not objects:  # a generator that lists no objects knows those that it changed
        for change in truth.changes:
            left = (change.left_name, change.left_box)
            name, place = left if side is Side.LEFT else (change.right_name, change.right_box)
            objects += [NamedBox(name=name, box=place)] if place is not None else []
    fit = max((box.iou(item.box) for item in objects), default=0.0)
    return _held(box, objects), fit >= RIGHT_IOU


def box_is_right(box: Box, truth: PairTruth) -> bool:
    """Whether the box covers a truly changed object (IoU >= 0.5 with its box on either side)."""
    return any(
        side is not None and box.iou(side) >= RIGHT_IOU
        for change in truth.changes
        for side in (change.left_box, change.right_box)
    )


def true_names(box: Box, truth: PairTruth) -> tuple[str, str]:
    """Names of the objects the box holds left and right; empty where it holds none.

    Generators that list no objects (composite) are read from their changes.
    """
    if truth.left_objects or truth.right_objects:
        return _held(box, truth.left_objects), _held(box, truth.right_objects)
    for change in truth.changes:
        sides = [side for side in (change.left_box, change.right_box) if side is not None]
        if any(box.iou(side) >= RIGHT_IOU for side in sides):
            return change.left_name, change.right_name
    return "", ""


def _held(box: Box, objects: Sequence[NamedBox]) -> str:
    best = max(objects, key=lambda item: box.iou(item.box), default=None)
    return best.name if best is not None and box.iou(best.box) > 0 else ""


def names(text: str, name: str) -> bool:
    """Whether the text names the object (whole words, case ignored, plural allowed)."""
    return place_of(text, name) is not None


def place_of(text: str, name: str) -> int | None:
    """Where the text first names the object; None where it does not."""
    found = re.search(rf"\b{re.escape(name)}(s|es)?\b", text, re.IGNORECASE) if name else None
    return found.start() if found else None


def sentence_is_right(region: RegionState, left: str, right: str) -> bool:
    """Whether the sentence names both objects, each with its side where sides are named."""
    text = (region.sentence or "").lower()
    left_place, right_place = place_of(text, left), place_of(text, right)
    if left_place is None or right_place is None:
        return False
    if left == right:  # a recoloured object: each side must name it
        return len(re.findall(rf"\b{re.escape(left)}", text)) > 1
    left_side, right_side = place_of(text, "left"), place_of(text, "right")
    if left_side is None or right_side is None:
        return True
    sides_in_order = left_side < right_side
    objects_in_order = left_place < right_place
    # "The dog in the left image is replaced by ..."
    if text.startswith("the ") and left_place == len("the "):
        return sides_in_order
    return sides_in_order == objects_in_order


def _share(counts: Counter[str], part: str, whole: str) -> float | None:
    return round(counts[part] / counts[whole], 4) if counts[whole] else None


BY_CONSTRUCTION = (
    "Regions and sentences were taken from the generator's own record, so these figures check the "
    "bookkeeping and the files, not a model."
)
BUT_MATCHED = "Object gone alone is a model's word: the matcher's."


def audit_report(
    counts: Counter[str], *, by_construction: bool = False, edit: Edit = Edit.replace
) -> dict[str, object]:
    """audit.json: the four figures (None where nothing is known), the counts, the definitions.

    `by_construction` says that nothing was detected or described by a model: the figures can only
    be 1, but for `object_gone`. Where `edit` removes, the figures of removal are added.
    """
    removal, definitions = {}, (__doc__ or "").split()
    if edit.removes:
        definitions += REMOVAL_DEFINITIONS.split()
        removal = {
            "removal_answer_accuracy": _share(counts, "removals_answered", "removals_exported"),
            "removal_box_precision": _share(counts, "removals_right", "removals_known"),
            "removal_name_accuracy": _share(counts, "removals_named", "removals_known"),
            "object_gone": _share(counts, "removals_gone", "removals_scored"),
        }
    remarks = [BY_CONSTRUCTION] if by_construction else []
    if by_construction and counts["removals_scored"]:
        remarks.append(BUT_MATCHED)
    notes = {key[5:]: value for key, value in sorted(counts.items()) if key.startswith("note:")}
    return {
        "n_pairs": counts["pairs"],
        "box_precision": _share(counts, "regions_right", "regions"),
        "changed_pair_recall": _share(counts, "changed_found", "changed"),
        "region_name_accuracy": _share(counts, "names_right", "names"),
        "difference_accuracy": _share(counts, "sentences_right", "sentences"),
        **removal,
        "remark": " ".join(remarks),
        "counts": {key: counts[key] for key in sorted(counts) if not key.startswith("note:")},
        "what_the_generator_did": notes,
        "definitions": " ".join(definitions),
    }

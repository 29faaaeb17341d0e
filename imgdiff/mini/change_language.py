"""Sentences about changes of scenes: what differs, and what to edit, in many wordings.

`change_sentence` tells a difference as the annotators of Spot-the-Diff write it: lower case, no
punctuation. `edit_instruction` asks for an edit as people type it: any case, with punctuation or
without. Common wordings stand first and are drawn more often.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence

import numpy as np

from imgdiff.mini.change_phrases import Telling, fill
from imgdiff.mini.changes import Change, ChangedScene, ChangeKind
from imgdiff.mini.language import capitalised

SPECIAL_SHARE = 0.3  # of changes that have wordings for their case are told in one of those


class Case(str, enum.Enum):
    """What the wordings of a change depend on: its kind, and sometimes a little more."""

    removed = "removed"
    last_removed = "the only one of its category removed"
    twin_removed = "one of two of a category removed"
    replaced = "replaced"
    added = "added"
    twin_added = "a second one of a category added"
    recoloured = "recoloured"
    moved = "moved"
    enlarged = "enlarged"
    reduced = "reduced"


DIFFERENCES: Mapping[Case, Sequence[str]] = {
    Case.removed: (
        "{the} is gone",
        "{the} is missing",
        "{the} is no longer there",
        "{the} has disappeared",
        "there is no {gone} anymore",
        "{the} was removed",
        "{the} is missing in the {second}",
        "{the} has been taken away",
        "there is no longer {a_gone}",
        "{the} is not in the {second}",
        "{the} disappeared",
        "the {second} does not have {the}",
        "{the} is only in the {first}",
        "{the} can not be seen anymore",
    ),
    Case.last_removed: (
        "there are no {plural} anymore",
        "there are no {plural} in the {second}",
        "there are no more {plural}",
    ),
    Case.twin_removed: (
        "of the two {plural} only the {twin_colour} one is still there",
        "there is only one {category} now and it is the {twin_colour} one",
        "one of the two {plural} is gone and the {twin_colour} one is still there",
    ),
    Case.replaced: (
        "{the} was replaced by {a_come}",
        "{the} became {a_come}",
        "there is {a_come} instead of {the}",
        "{the} changed to {a_come}",
        "{the} is now {a_come}",
        "{the} has turned into {a_come}",
        "{the} was replaced with {a_come}",
        "{the} has become {a_come}",
        "{the} changed into {a_come}",
        "instead of {the} there is {a_come}",
        "{a_come} has taken the place of {the}",
        "there is {a_come} where {the} was",
        "the {second} has {a_come} instead of {the}",
    ),
    Case.added: (
        "there is now {a_come} {where}",
        "{a_come} was added {where}",
        "{a_come} has appeared {where}",
        "there is {a_come} {where} now",
        "there is a new {come} {where}",
        "{a_come} has appeared",
        "in the {second} there is {a_come} {where}",
        "{a_come} was added",
        "the {second} has {a_come} {where}",
        "there is {a_come} that was not there before",
        "a new {come} is {where}",
        "{a_come} is only in the {second}",
        "{a_come} can be seen {where} now",
    ),
    Case.twin_added: (
        "there is another {category} {where}",
        "there is a second {category} {where}",
        "another {category} has appeared {where}",
        "there are two {plural} now and the {colour} one is new",
    ),
    Case.recoloured: (
        "{the} is now {colour}",
        "{the_uncoloured} changed from {colour_before} to {colour}",
        "{the} is {colour} now",
        "{the} turned {colour}",
        "{the_uncoloured} is {colour} instead of {colour_before}",
        "the color of {the} changed to {colour}",
        "{the} became {colour}",
        "the color of {the_uncoloured} changed from {colour_before} to {colour}",
        "{the_uncoloured} was {colour_before} and is now {colour}",
        "{the_uncoloured} went from {colour_before} to {colour}",
        "{the} is {colour} in the {second}",
        "{the} has been painted {colour}",
        "{the_uncoloured} is no longer {colour_before} but {colour}",
    ),
    Case.moved: (
        "{the} moved to the {place}",
        "{the} is now {where}",
        "{the} has moved {way}",
        "{the} moved from the {place_before} to the {place}",
        "{the} is {where} now",
        "{the} has been moved to the {place}",
        "{the} moved {way}",
        "{the} is {where} instead of {where_before}",
        "{the} was {where_before} and is now {where}",
        "{the} went from the {place_before} to the {place}",
        "{the} is {where} in the {second}",
        "{the} is no longer {where_before} but {where}",
        "{the} has shifted {way}",
    ),
    Case.enlarged: (
        "{the} is bigger",
        "{the} is larger",
        "{the} got bigger",
        "{the} is bigger now",
        "{the} has become larger",
        "{the} is bigger than before",
        "{the} is larger in the {second}",
        "{the} has grown",
        "{the} was enlarged",
        "{the} increased in size",
        "the size of {the} increased",
    ),
    Case.reduced: (
        "{the} is smaller",
        "{the} got smaller",
        "{the} is smaller now",
        "{the} has become smaller",
        "{the} is smaller than before",
        "{the} is smaller in the {second}",
        "{the} has shrunk",
        "{the} was made smaller",
        "{the} decreased in size",
        "the size of {the} decreased",
    ),
}

INSTRUCTIONS: Mapping[Case, Sequence[str]] = {
    Case.removed: (
        "remove {the}",
        "delete {the}",
        "take out {the}",
        "remove {the} from the {picture}",
        "erase {the}",
        "get rid of {the}",
        "take {the} out of the {picture}",
        "take away {the}",
        "delete {the} from the {picture}",
        "make {the} disappear",
        "eliminate {the}",
        "erase {the} from the {picture}",
    ),
    Case.twin_removed: (
        "keep the {twin_colour} {category} and remove the other one",
        "remove one of the {plural} but keep the {twin_colour} one",
    ),
    Case.replaced: (
        "replace {the} with {a_come}",
        "change {the} to {a_come}",
        "change {the} into {a_come}",
        "turn {the} into {a_come}",
        "swap {the} for {a_come}",
        "replace {the} by {a_come}",
        "put {a_come} where {the} is",
        "switch {the} to {a_come}",
        "put {a_come} in place of {the}",
        "transform {the} into {a_come}",
        "exchange {the} for {a_come}",
        "remove {the} and add {a_come} instead",
    ),
    Case.added: (
        "add {a_come} {where}",
        "add {a_come}",
        "put {a_come} {where}",
        "insert {a_come} {where}",
        "add {a_come} to the {place}",
        "place {a_come} {where}",
        "add {a_come} to the {picture}",
        "insert {a_come}",
        "draw {a_come} {where}",
        "paste {a_come} {where}",
        "include {a_come} {where}",
    ),
    Case.twin_added: (
        "add another {category} {where}",
        "add a second {category} {where}",
        "put one more {category} {where}",
    ),
    Case.recoloured: (
        "change the color of {the} to {colour}",
        "make {the} {colour}",
        "color {the} {colour}",
        "change {the_uncoloured} from {colour_before} to {colour}",
        "turn {the} {colour}",
        "paint {the} {colour}",
        "change {the} to {colour}",
        "recolor {the} to {colour}",
        "change the color of {the_uncoloured} from {colour_before} to {colour}",
        "give {the} {a_colour} color",
        "make {the_uncoloured} {colour} instead of {colour_before}",
    ),
    Case.moved: (
        "move {the} to the {place}",
        "move {the} {way}",
        "shift {the} {way}",
        "put {the} {where}",
        "move {the} from the {place_before} to the {place}",
        "bring {the} to the {place}",
        "shift {the} to the {place}",
        "place {the} {where}",
        "relocate {the} to the {place}",
        "drag {the} to the {place}",
        "slide {the} {way}",
    ),
    Case.enlarged: (
        "make {the} bigger",
        "make {the} larger",
        "enlarge {the}",
        "increase the size of {the}",
        "scale up {the}",
        "resize {the} to be bigger",
        "blow up {the}",
    ),
    Case.reduced: (
        "make {the} smaller",
        "reduce the size of {the}",
        "shrink {the}",
        "decrease the size of {the}",
        "scale down {the}",
        "resize {the} to be smaller",
    ),
}


def cases_of(pair: ChangedScene, change: Change) -> tuple[Case, ...]:
    """The general case of a change, and the special one that it is, if any."""
    before, after = change.before, change.after
    if change.kind is ChangeKind.resized and before and after:
        return (Case.enlarged if after.size_px > before.size_px else Case.reduced,)
    general = Case[change.kind.value]
    if change.kind is ChangeKind.removed and before:
        left = any(item.category == before.category for item in pair.after.objects)
        return (general, Case.twin_removed if left else Case.last_removed)
    if change.kind is ChangeKind.added and after:
        twin = any(item.category == after.category for item in pair.before.objects)
        return (general, Case.twin_added) if twin else (general,)
    return (general,)


def change_sentence(pair: ChangedScene, change: Change, rng: np.random.Generator) -> str:
    """One sentence that tells the change: lower case, no punctuation."""
    return fill(
        _wording(DIFFERENCES, cases_of(pair, change), rng),
        Telling(pair=pair, change=change, rng=rng),
    )


def edit_instruction(pair: ChangedScene, change: Change, rng: np.random.Generator) -> str:
    """One instruction that asks for the change, as typed."""
    wording = _wording(INSTRUCTIONS, cases_of(pair, change), rng)
    return as_typed(fill(wording, Telling(pair=pair, change=change, rng=rng)), rng)


def _wording(
    table: Mapping[Case, Sequence[str]], cases: Sequence[Case], rng: np.random.Generator
) -> str:
    """A wording of one of the cases; the n-th of a case is drawn with weight 1 / n."""
    known = [case for case in cases if case in table]
    special = len(known) > 1 and rng.random() < SPECIAL_SHARE
    wordings = table[known[-1] if special else known[0]]
    weights = 1 / np.arange(1, len(wordings) + 1)
    return wordings[int(rng.choice(len(wordings), p=weights / weights.sum()))]


def as_typed(instruction: str, rng: np.random.Generator) -> str:
    """The instruction in somebody's manner: polite or not, capital or not, full stop or not."""
    manner = float(rng.random())
    polite = (f"please {instruction}", f"{instruction} please", f"can you {instruction}?")
    shares = (0.05, 0.08, 0.11)  # cumulative; the rest is plain
    text = next((form for form, up_to in zip(polite, shares, strict=True) if manner < up_to), "")
    text = text or instruction
    if rng.random() < 0.55:  # noqa: PLR2004
        text = capitalised(text)
    if not text.endswith("?"):
        text += ("", ".", "!")[int(rng.choice(3, p=(0.57, 0.40, 0.03)))]
    return text + (" " if rng.random() < 0.03 else "")  # noqa: PLR2004


def plain_words(sentence: str) -> str:
    """Lower case without punctuation: two sentences that differ only in manner are equal."""
    return " ".join(re.findall(r"[a-z]+", sentence.lower()))


__all__ = [
    "DIFFERENCES",
    "INSTRUCTIONS",
    "Case",
    "as_typed",
    "cases_of",
    "change_sentence",
    "edit_instruction",
    "plain_words",
]

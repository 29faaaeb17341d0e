"""Sets in the formats of Spot-the-Diff and Image-Edit-Request, drawn from the procedural world.

Spot-the-Diff's layout: `annotations/{train,val,test}.json` (a list of `img_id` and `sentences`, one
row per annotator) beside `images/<img_id>.png` (before) and `images/<img_id>_2.png` (after).
Image-Edit-Request's: `{train,valid,test}.json` (a list of `img0`, `img1`, `sents`, `uid`) beside
`images/`. A folder holds one split. `kinds.jsonl` adds what changed by id, and `README.txt` says
that this is neither of the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.core.files import write_json, write_text
from imgdiff.core.identity import seed_for
from imgdiff.mini.change_language import change_sentence, edit_instruction, plain_words
from imgdiff.mini.changes import ChangedScene, ChangeKind, possible_counts, sample_changed_scene
from imgdiff.mini.scene import Split
from imgdiff.mini.written import (
    changes_identity,
    folder_for,
    is_complete,
    mark_complete,
    save_scene,
)

CHANGE_SETS_VERSION = 1
IMAGES_FOLDER = "images"
ANNOTATIONS_FOLDER = "annotations"
KINDS_FILE = "kinds.jsonl"
README_FILE = "README.txt"
SPOT_FILES = {Split.train: "train.json", Split.validation: "val.json", Split.test: "test.json"}
EDIT_FILES = {Split.train: "train.json", Split.validation: "valid.json", Split.test: "test.json"}
README = """\
This is a procedural benchmark in the file format of {name}. It is NOT {name}.

Its {pairs} pairs of images were drawn by imgdiff from the {split} world (seed {seed}), and its
sentences were written by imgdiff. kinds.jsonl names what changes in each pair. Scores on it say
nothing about photographs and must not be compared with published scores on {name}.
"""

# Item k has a change of kind k mod 8, so that every set has its share of each.
KINDS = (
    ChangeKind.removed,
    ChangeKind.replaced,
    ChangeKind.added,
    ChangeKind.recoloured,
    ChangeKind.moved,
    ChangeKind.replaced,
    ChangeKind.removed,
    ChangeKind.resized,
)
CHANGE_COUNT_WEIGHTS = (0.50, 0.33, 0.17)  # 1, 2, 3 changes in a pair
ANNOTATOR_WEIGHTS = (0.88, 0.10, 0.02)  # 1, 2, 3 rows with one img_id
INSTRUCTIONS_PER_EDIT = {Split.train: 1, Split.validation: 3, Split.test: 3}
_ID_DIGIT = {Split.train: 1, Split.validation: 2, Split.test: 3}  # no img_id in two splits


@dataclass(frozen=True, kw_only=True, slots=True)
class SpotPair:
    """A pair with one to three changes, and what each annotator wrote, a sentence per change.

    The first annotator tells every change, the others may miss some.
    """

    img_id: str
    scenes: ChangedScene
    annotations: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EditItem:
    """A pair with one change, and the instructions that ask for it, no two in the same words."""

    uid: str
    scenes: ChangedScene
    instructions: tuple[str, ...]


def write_spot_the_diff(parent: Path, pairs: int, seed: int, split: Split = Split.test) -> Path:
    """The folder under `parent` with `pairs` pairs of `split`; writes what is missing of it.

    Pair k depends on (seed, split, k) only. Raises DataError for fewer than 1 pair.
    """
    folder = _folder(parent, "procedural-spot-the-diff", pairs, seed, split)
    if is_complete(folder):
        return folder
    drawn = [sample_spot_pair(number, seed, split) for number in range(pairs)]
    for pair in drawn:
        names = (f"{pair.img_id}.png", f"{pair.img_id}_2.png")
        _save(pair.scenes, folder / IMAGES_FOLDER, names)
    rows = [
        {"img_id": pair.img_id, "sentences": list(sentences)}
        for pair in drawn
        for sentences in pair.annotations
    ]
    write_json(folder / ANNOTATIONS_FOLDER / SPOT_FILES[split], rows)
    _finish(folder, "Spot-the-Diff", seed, split, [(p.img_id, p.scenes) for p in drawn])
    return folder


def write_image_edit_request(
    parent: Path, pairs: int, seed: int, split: Split = Split.test
) -> Path:
    """The folder under `parent` with `pairs` edits of `split`; writes what is missing of it.

    Item k depends on (seed, split, k) only. Raises DataError for fewer than 1 pair.
    """
    folder = _folder(parent, "procedural-image-edit-request", pairs, seed, split)
    if is_complete(folder):
        return folder
    drawn = [sample_edit(number, seed, split) for number in range(pairs)]
    rows = [_edit_row(item) for item in drawn]
    for item, row in zip(drawn, rows, strict=True):
        _save(item.scenes, folder / IMAGES_FOLDER, (row["img0"], row["img1"]))
    write_json(folder / EDIT_FILES[split], rows)
    _finish(folder, "Image-Edit-Request", seed, split, [(i.uid, i.scenes) for i in drawn])
    return folder


def sample_spot_pair(number: int, seed: int, split: Split) -> SpotPair:
    """Pair `number` of a set in Spot-the-Diff's format."""
    rng = np.random.default_rng(seed_for(seed, f"{split.value}-{number}", "spot-the-diff"))
    scenes = sample_changed_scene(_spot_kinds(number, rng), split, rng)
    annotators = 1 + int(rng.choice(len(ANNOTATOR_WEIGHTS), p=ANNOTATOR_WEIGHTS))
    return SpotPair(
        img_id=f"{_ID_DIGIT[split]}{number:06d}",
        scenes=scenes,
        annotations=tuple(
            _annotation(scenes, rng, thorough=index == 0) for index in range(annotators)
        ),
    )


def sample_edit(number: int, seed: int, split: Split) -> EditItem:
    """Item `number` of a set in Image-Edit-Request's format; its kind follows the cycle of KINDS.

    One instruction for train, three for validation and test.
    """
    rng = np.random.default_rng(seed_for(seed, f"{split.value}-{number}", "image-edit-request"))
    scenes = sample_changed_scene([KINDS[number % len(KINDS)]], split, rng)
    said: dict[str, str] = {}
    while len(said) < INSTRUCTIONS_PER_EDIT[split]:
        instruction = edit_instruction(scenes, scenes.changes[0], rng)
        said.setdefault(plain_words(instruction), instruction)
    return EditItem(
        uid=f"procedural_{split.value}_{number:06d}",
        scenes=scenes,
        instructions=tuple(said.values()),
    )


def _spot_kinds(number: int, rng: np.random.Generator) -> list[ChangeKind]:
    """One to three kinds for which a scene has room; the first follows the cycle of KINDS."""
    first = KINDS[number % len(KINDS)]
    count = 1 + int(rng.choice(len(CHANGE_COUNT_WEIGHTS), p=CHANGE_COUNT_WEIGHTS))
    while True:
        kinds = [first, *(KINDS[int(k)] for k in rng.integers(len(KINDS), size=count - 1))]
        if possible_counts(kinds):
            return kinds


def _annotation(
    scenes: ChangedScene, rng: np.random.Generator, *, thorough: bool
) -> tuple[str, ...]:
    """A sentence for each change that an annotator sees, in random order; at least one."""
    changes = [scenes.changes[int(index)] for index in rng.permutation(len(scenes.changes))]
    seen = len(changes) if thorough else int(rng.integers(1, len(changes) + 1))
    return tuple(change_sentence(scenes, change, rng) for change in changes[:seen])


def _edit_row(item: EditItem) -> dict[str, Any]:
    return {
        "img0": f"{item.uid}_0.jpg",
        "img1": f"{item.uid}_1.jpg",
        "sents": list(item.instructions),
        "uid": item.uid,
    }


def _folder(parent: Path, name: str, pairs: int, seed: int, split: Split) -> Path:
    if pairs < 1:
        raise DataError(f"{pairs} pairs of {name} asked for; at least 1 is needed")
    settings = (CHANGE_SETS_VERSION, changes_identity(), pairs, seed)
    return folder_for(parent, f"{name}-{split.value}", *settings)


def _save(scenes: ChangedScene, folder: Path, names: Sequence[str]) -> None:
    for scene, name in zip((scenes.before, scenes.after), names, strict=True):
        save_scene(scene, folder / name)


def _finish(
    folder: Path, name: str, seed: int, split: Split, drawn: Sequence[tuple[str, ChangedScene]]
) -> None:
    """Write what the published sets do not have: kinds, README and the marker."""
    write_text(folder / KINDS_FILE, _kind_lines(drawn))
    facts = {"pairs": len(drawn), "seed": seed, "split": split.value}
    write_text(folder / README_FILE, README.format(name=name, **facts))
    mark_complete(folder, {"version": CHANGE_SETS_VERSION, **facts})


def _kind_lines(drawn: Iterable[tuple[str, ChangedScene]]) -> str:
    """The text of kinds.jsonl: id (img_id or uid) and the kinds of its changes."""
    rows = (
        {"id": name, "kinds": [change.kind.value for change in scenes.changes]}
        for name, scenes in drawn
    )
    return "".join(json.dumps(row) + "\n" for row in rows)

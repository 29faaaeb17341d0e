"""Stages 1 and 2: caption -> caption pair -> image pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgdiff.backends.composite import a_photo_of
from imgdiff.backends.protocols import DrawnPair, Edited, Photographed, Refusal
from imgdiff.core.geometry import box_from
from imgdiff.core.identity import fingerprint, image_id, seed_for
from imgdiff.core.images import open_rgb, save_image
from imgdiff.core.masks import runs_of
from imgdiff.core.records import CaptionPair, Change, ImagePair, PairTruth, Side
from imgdiff.synth.candidates import with_seeds
from imgdiff.synth.chunks import CHUNK
from imgdiff.synth.removal_states import AnnotatedMask
from imgdiff.synth.states import (
    CandidateState,
    ItemState,
    open_items,
    truth_from_json,
    truth_to_json,
)
from imgdiff.synth.tools import Tools


def edit_captions(states: list[ItemState], tools: Tools) -> None:
    """Caption -> caption pair (paper §3.2). Photo objects pass: their generator picks the edit."""
    seed = tools.config.seed
    waiting = [s for s in open_items(states) if s.caption is not None]
    captions = [s for s in waiting if s.caption is not None and s.caption.photo is None]

    def compute(items: Sequence[tuple[str, int]]) -> list[list[str]]:
        answers = tools.backends.editor.edit([t for t, _ in items], [s for _, s in items])
        return [[answer.text, answer.refusal] for answer in answers]

    keyed = []
    for state in captions:
        assert state.caption is not None
        item = (state.caption.text, seed_for(seed, state.id, "edit"))
        keyed.append((fingerprint(*item), item))
    edits = [Edited(text=t, refusal=r) for t, r in tools.values("edit", "editor", keyed, compute)]
    by_id = {state.id: edit for state, edit in zip(captions, edits, strict=True)}
    for state in waiting:
        _take_edit(state, by_id.get(state.id), seed)


def _take_edit(state: ItemState, edit: Edited | None, seed: int) -> None:
    assert state.caption is not None
    if edit is not None and edit.refusal:
        state.reject("edit", edit.refusal, state.caption.text)
        return
    if edit is not None and edit.text.strip() == state.caption.text.strip():
        state.reject("edit", "edit equals caption", state.caption.text)
        return
    state.pair = CaptionPair(
        id=state.id,
        left=state.caption.text,
        right=edit.text if edit is not None else "",
        seed=seed_for(seed, state.id, "generate"),
        photo=state.caption.photo,
    )


def generate_pairs(states: list[ItemState], tools: Tools) -> None:
    """Caption pair -> two images (paper §3.2), kept in the store with the truth."""
    if tools.config.removes_annotated and not tools.config.edit.replaces:
        photograph_objects(states, tools)
        return
    asked = [
        (state, pair)
        for state in open_items(states)
        if state.pair is not None
        for pair in with_seeds(state.pair, tools.config.seed, tools.config.candidates)
    ]

    def compute(items: Sequence[CaptionPair]) -> list[dict[str, object]]:
        rows = []
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            drawn = tools.backends.generator.generate(part)
            rows += [_keep(pair, one, tools) for pair, one in zip(part, drawn, strict=True)]
        return rows

    keyed = [(fingerprint(pair), pair) for _, pair in asked]
    rows = tools.values("generate", "generator", keyed, compute, tools.config.store_format.value)
    refused: dict[str, list[str]] = {}
    for (state, pair), row in zip(asked, rows, strict=True):
        if "refusal" in row:
            refused.setdefault(state.id, row["refusal"])
        else:
            _take_pair(state, pair, row)
    for state, _ in asked:
        if not state.candidates and state.rejected is None:
            state.reject("generate", *refused[state.id])


def _keep(pair: CaptionPair, drawn: DrawnPair | Refusal, tools: Tools) -> dict[str, object]:
    """Write both images and return the row that finds them again."""
    if isinstance(drawn, Refusal):
        return {"refusal": [drawn.reason, drawn.detail]}
    suffix = tools.config.store_format.value
    row: dict[str, object] = {
        "captions": [drawn.left_caption, drawn.right_caption],
        "size": [drawn.left.width, drawn.left.height],
        "truth": None if drawn.truth is None else truth_to_json(drawn.truth),
    }
    paths, ids = [], []
    for side, image in ((Side.LEFT, drawn.left), (Side.RIGHT, drawn.right)):
        # The caption pair is in the name: runs that edit captions in another way share the store.
        name = f"{pair.id}-{fingerprint(pair)}_{int(side)}.{suffix}"
        path = tools.image_folder("generate", "generator", suffix) / name
        save_image(image, path)
        paths.append(tools.relative(path))
        # JPEG changes pixels: the id must be of what the models will see.
        ids.append(image_id(image if suffix == "png" else open_rgb(path)))
    return row | {"paths": paths, "ids": ids}


def _take_pair(state: ItemState, pair: CaptionPair, row: dict[str, Any]) -> None:
    """Note one candidate."""
    captions, paths, ids, size = (row[key] for key in ("captions", "paths", "ids", "size"))
    images = ImagePair(
        id=state.id,
        left_caption=captions[0],
        right_caption=captions[1],
        left_path=paths[0],
        right_path=paths[1],
        left_id=ids[0],
        right_id=ids[1],
        width=int(size[0]),
        height=int(size[1]),
        seed=pair.seed,
        truth=truth_from_json(row["truth"]),
    )
    state.candidates.append(CandidateState(images=images))
    if state.images is None:
        state.images = images


def photograph_objects(states: list[ItemState], tools: Tools) -> None:
    """Photo object -> its photo and mask. An item without images yet gets the photo for both."""
    waiting = [(s, s.pair) for s in open_items(states) if s.pair is not None]

    def compute(items: Sequence[CaptionPair]) -> list[dict[str, object]]:
        shown = tools.backends.photographer.photograph(items)
        return [_keep_photo(pair, one, tools) for pair, one in zip(items, shown, strict=True)]

    keyed = [(fingerprint(pair), pair) for _, pair in waiting]
    suffix = tools.config.store_format.value
    rows = tools.values("photograph", "photographer", keyed, compute, suffix)
    for (state, pair), row in zip(waiting, rows, strict=True):
        if "refusal" in row:
            state.reject("generate", *row["refusal"])
            continue
        held = row["object"]
        state.annotated = AnnotatedMask(
            name=held["name"],
            box=box_from(held["box"]),
            runs=held["runs"],
            alike=held["alike"],
            same_kind=held["same_kind"],
        )
        if state.images is None:
            _take_pair(state, pair, row)


def _keep_photo(
    pair: CaptionPair, shown: Photographed | Refusal, tools: Tools
) -> dict[str, object]:
    """As `_keep`, for one image; its truth is that the object is gone from the right."""
    if isinstance(shown, Refusal):
        return {"refusal": [shown.reason, shown.detail]}
    suffix = tools.config.store_format.value
    folder = tools.image_folder("photograph", "photographer", suffix)
    path = folder / f"{pair.id}-{fingerprint(pair)}.{suffix}"
    save_image(shown.image, path)
    content = image_id(shown.image if suffix == "png" else open_rgb(path))
    gone = Change(left_name=shown.name, right_name="", left_box=shown.box, right_box=None)
    return {
        "captions": [a_photo_of(shown.name), ""],
        "size": [shown.image.width, shown.image.height],
        "truth": truth_to_json(PairTruth(changes=(gone,), note="removed")),
        "paths": [tools.relative(path)] * 2,
        "ids": [content] * 2,
        "object": {
            "name": shown.name,
            "box": list(shown.box.as_tuple()),
            "runs": runs_of(shown.mask),
            "alike": runs_of(shown.alike),
            "same_kind": round(shown.same_kind, 4),
        },
    }

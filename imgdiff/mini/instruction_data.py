"""Single-image instructions of the train world as LLaVA JSON: the mini family's own tuning data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.core.files import write_json
from imgdiff.core.identity import seed_for
from imgdiff.core.images import save_image
from imgdiff.mini.instructions import Turn, is_familiar
from imgdiff.mini.red_boxes import ask, some_boxed, with_red_boxes
from imgdiff.mini.scene import Split, draw_scene, sample_scene
from imgdiff.mini.words import WORDS_SHARE, word_turn
from imgdiff.mini.written import folder_for, is_complete, mark_complete

INSTRUCTIONS_VERSION = 5
INSTRUCTIONS_FILE = "instructions.json"
MAX_TURNS = 4


def write_instructions(parent: Path, count: int, seed: int) -> Path:
    """The folder under `parent` with `count` samples; writes what is missing of it.

    `instructions.json` is LLaVA's list of `id`, `image` (relative to the folder) and
    `conversations`: 1 to 4 questions about one image, or (WORDS_SHARE) about words, without one.
    Sample k depends on (seed, k) only, so a larger count holds the smaller one. Raises DataError
    for a count below 1.
    """
    if count < 1:
        raise DataError(f"{count} instructions asked for; at least 1 is needed")
    folder = folder_for(parent, "instructions", INSTRUCTIONS_VERSION, count, seed)
    if is_complete(folder):
        return folder
    rows = []
    for number in range(count):
        rng = np.random.default_rng(seed_for(seed, f"train-{number}", "instructions"))
        wanted = 1 + int(rng.integers(MAX_TURNS))
        name = f"world-{seed}-{number:06d}"
        if rng.random() < WORDS_SHARE:
            rows.append(_row(name, None, [word_turn(rng) for _ in range(wanted)]))
        else:
            image = f"images/{number:06d}.jpg"
            rows.append(_row(name, image, _sample(wanted, rng, folder / image)))
    write_json(folder / INSTRUCTIONS_FILE, rows)
    mark_complete(folder, {"count": count, "seed": seed})
    return folder


def _sample(wanted: int, rng: np.random.Generator, path: Path) -> list[Turn]:
    """Questions about a train scene that `path` then shows; they name familiar things only."""
    scene = sample_scene(rng, Split.train)
    while not is_familiar(scene):
        scene = sample_scene(rng, Split.train)
    boxed = some_boxed(scene, rng)
    turns = [ask(scene, boxed, rng) for _ in range(wanted)]
    if not path.exists():
        drawing = draw_scene(scene)
        boxes = [drawing.boxes[k] for k in boxed]
        save_image(with_red_boxes(drawing.image, boxes, rng), path)
    return turns


def _row(sample_id: str, image: str | None, turns: list[Turn]) -> dict[str, Any]:
    """A LLaVA sample; a question asked twice is left out."""
    conversations = []
    for index, turn in enumerate({turn.question: turn for turn in turns}.values()):
        marker = "<image>\n" if index == 0 and image else ""
        conversations.append({"from": "human", "value": marker + turn.question})
        conversations.append({"from": "gpt", "value": turn.answer})
    shown = {"image": image} if image else {}
    return {"id": sample_id, **shown, "conversations": conversations}

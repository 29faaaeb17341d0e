"""Single-image instructions of the train world as LLaVA JSON: the mini family's own tuning data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.core.files import write_json
from imgdiff.core.identity import seed_for
from imgdiff.mini.instructions import Turn, familiar_turn, is_familiar
from imgdiff.mini.scene import Scene, Split, sample_scene
from imgdiff.mini.written import folder_for, is_complete, mark_complete, save_scene

INSTRUCTIONS_VERSION = 3
INSTRUCTIONS_FILE = "instructions.json"
MAX_TURNS = 4


def write_instructions(parent: Path, count: int, seed: int) -> Path:
    """The folder under `parent` with `count` samples; writes what is missing of it.

    `instructions.json` is LLaVA's list of `id`, `image` (relative to the folder) and
    `conversations` (1 to 4 questions about one image). Sample k depends on (seed, k) only, so a
    larger count holds the smaller one. Raises DataError for a count below 1.
    """
    if count < 1:
        raise DataError(f"{count} instructions asked for; at least 1 is needed")
    folder = folder_for(parent, "instructions", INSTRUCTIONS_VERSION, count, seed)
    if is_complete(folder):
        return folder
    rows = []
    for number in range(count):
        scene, turns = _sample(number, seed)
        image = f"images/{number:06d}.jpg"
        save_scene(scene, folder / image)
        rows.append(_row(f"world-{seed}-{number:06d}", image, turns))
    write_json(folder / INSTRUCTIONS_FILE, rows)
    mark_complete(folder, {"count": count, "seed": seed})
    return folder


def _sample(number: int, seed: int) -> tuple[Scene, list[Turn]]:
    """A train scene and different questions about it; they name familiar things only."""
    rng = np.random.default_rng(seed_for(seed, f"train-{number}", "instructions"))
    scene = sample_scene(rng, Split.train)
    while not is_familiar(scene):
        scene = sample_scene(rng, Split.train)
    wanted = 1 + int(rng.integers(MAX_TURNS))
    turns = {turn.question: turn for turn in (familiar_turn(scene, rng) for _ in range(wanted))}
    return scene, list(turns.values())


def _row(sample_id: str, image: str, turns: list[Turn]) -> dict[str, Any]:
    conversations = []
    for index, turn in enumerate(turns):
        marker = "<image>\n" if index == 0 else ""
        conversations.append({"from": "human", "value": marker + turn.question})
        conversations.append({"from": "gpt", "value": turn.answer})
    return {"id": sample_id, "image": image, "conversations": conversations}

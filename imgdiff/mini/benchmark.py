"""A benchmark in MMVP's format, drawn from the test world: pairs that differ in one thing.

Layout as MMVP's: `Questions.csv` (Index, Question, Options, Correct Answer) beside `MMVP Images/`
with `1.jpg` and so on; rows 2k-1 and 2k are one pair: same question, same options, opposite
answers. `pairs.jsonl` adds what differs, and `README.txt` says that this is not MMVP.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.core.files import write_text
from imgdiff.core.identity import seed_for
from imgdiff.mini.language import PLACES, article
from imgdiff.mini.scene import (
    CELL_PX,
    GRID,
    Scene,
    SceneObject,
    Split,
    belongs,
    replace_object,
    sample_scene,
)
from imgdiff.mini.shapes import CATEGORIES, COLOURS
from imgdiff.mini.written import folder_for, is_complete, mark_complete, save_scene

BENCHMARK_VERSION = 1
QUESTIONS_FILE = "Questions.csv"
IMAGES_FOLDER = "MMVP Images"
PAIRS_FILE = "pairs.jsonl"
README_FILE = "README.txt"
COLUMNS = ("Index", "Question", "Options", "Correct Answer")
README = """\
This is a procedural benchmark in the file format of MMVP. It is NOT MMVP.

Its {pairs} pairs of images were drawn by imgdiff from the test world (seed {seed}). The two images
of a pair differ in one thing, which pairs.jsonl names. Scores on it say nothing about photographs
and must not be compared with published MMVP scores. For those, point benchmark.root at a copy of
the real MMVP.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkPair:
    """Two scenes, one question, and the option that is right for each scene."""

    kind: str
    first: Scene
    second: Scene
    question: str
    first_answer: str
    second_answer: str


Draw = Callable[[Scene, np.random.Generator], "BenchmarkPair | None"]


def write_benchmark(parent: Path, pairs: int, seed: int) -> Path:
    """The folder under `parent` with `pairs` pairs; writes what is missing of it.

    Pair k depends on (seed, k) only. Raises DataError for fewer than 1 pair.
    """
    if pairs < 1:
        raise DataError(f"{pairs} benchmark pairs asked for; at least 1 is needed")
    folder = folder_for(parent, "benchmark", BENCHMARK_VERSION, pairs, seed)
    if is_complete(folder):
        return folder
    drawn = [sample_pair(number, seed) for number in range(pairs)]
    for number, pair in enumerate(drawn):
        save_scene(pair.first, folder / IMAGES_FOLDER / f"{2 * number + 1}.jpg")
        save_scene(pair.second, folder / IMAGES_FOLDER / f"{2 * number + 2}.jpg")
    write_text(folder / QUESTIONS_FILE, _questions(drawn, seed))
    write_text(folder / PAIRS_FILE, _pair_lines(drawn))
    write_text(folder / README_FILE, README.format(pairs=pairs, seed=seed))
    mark_complete(folder, {"pairs": pairs, "seed": seed})
    return folder


def sample_pair(number: int, seed: int) -> BenchmarkPair:
    """Pair `number` of a benchmark; its kind follows the cycle of KINDS."""
    rng = np.random.default_rng(seed_for(seed, f"pair-{number}", "benchmark"))
    draw = KINDS[number % len(KINDS)]
    while True:  # most scenes allow most edits; a few draws suffice
        scene = sample_scene(rng, Split.test)
        pair = draw(scene, rng)
        if pair is not None and is_test_scene(pair.second):
            return pair if rng.random() < 0.5 else _swapped(pair)  # noqa: PLR2004


def is_test_scene(scene: Scene) -> bool:
    """Whether the scene obeys the test world's rule: only its and train combinations, one its."""
    return belongs([item.category for item in scene.objects], scene.ground, Split.test)


def _swapped(pair: BenchmarkPair) -> BenchmarkPair:
    return dataclasses.replace(
        pair,
        first=pair.second,
        second=pair.first,
        first_answer=pair.second_answer,
        second_answer=pair.first_answer,
    )


def _any_object(scene: Scene, rng: np.random.Generator) -> tuple[int, SceneObject]:
    index = int(rng.integers(len(scene.objects)))
    return index, scene.objects[index]


def _one_of(rng: np.random.Generator, options: list[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _category(scene: Scene, rng: np.random.Generator) -> BenchmarkPair | None:
    """Another object of the same colour at the same place, of the same group where there is one."""
    index, item = _any_object(scene, rng)
    shown = {other.category for other in scene.objects}
    options = [name for name in CATEGORIES if name not in shown]
    alike = [name for name in options if CATEGORIES[name] == CATEGORIES[item.category]]
    other = _one_of(rng, alike or options)
    changed = dataclasses.replace(item, category=other, seed=int(rng.integers(2**31)))
    return BenchmarkPair(
        kind="category",
        first=scene,
        second=replace_object(scene, index, changed),
        question=f"What is at the {PLACES[item.cell]}?",
        first_answer=item.category,
        second_answer=other,
    )


def _colour(scene: Scene, rng: np.random.Generator) -> BenchmarkPair | None:
    """The same object in another colour."""
    index, item = _any_object(scene, rng)
    options = [name for name in COLOURS if name != item.colour]
    other = _one_of(rng, options)
    return BenchmarkPair(
        kind="colour",
        first=scene,
        second=replace_object(scene, index, dataclasses.replace(item, colour=other)),
        question=f"What color is the {item.category}?",
        first_answer=item.colour,
        second_answer=other,
    )


def _place(scene: Scene, rng: np.random.Generator) -> BenchmarkPair | None:
    """The same object in a cell that was free."""
    index, item = _any_object(scene, rng)
    taken = {other.cell for other in scene.objects}
    free = [cell for cell in range(GRID * GRID) if cell not in taken]
    if not free:
        return None
    cell = free[int(rng.integers(len(free)))]
    moved = dataclasses.replace(
        item,
        cell=cell,
        x=item.x + (cell % GRID - item.column) * CELL_PX,
        y=item.y + (cell // GRID - item.row) * CELL_PX,
    )
    return BenchmarkPair(
        kind="place",
        first=scene,
        second=replace_object(scene, index, moved),
        question=f"Where is the {item.category}?",
        first_answer=PLACES[item.cell],
        second_answer=PLACES[cell],
    )


def _presence(scene: Scene, rng: np.random.Generator) -> BenchmarkPair | None:
    """One object less."""
    if len(scene.objects) == 1:
        return None
    index, item = _any_object(scene, rng)
    others = scene.objects[:index] + scene.objects[index + 1 :]
    return BenchmarkPair(
        kind="presence",
        first=scene,
        second=dataclasses.replace(scene, objects=others),
        question=f"Is there {article(item.category)} {item.category} in the picture?",
        first_answer="Yes",
        second_answer="No",
    )


# Pair k is of kind k mod 8: half ask for the category, a quarter for the colour.
KINDS: tuple[Draw, ...] = (
    _category,
    _colour,
    _category,
    _place,
    _category,
    _colour,
    _category,
    _presence,
)


def _questions(pairs: list[BenchmarkPair], seed: int) -> str:
    """The text of Questions.csv; which option stands first is drawn per pair."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, pair in enumerate(pairs):
        coin = seed_for(seed, f"pair-{number}", "option order") % 2
        answers = [pair.first_answer, pair.second_answer]
        first, second = answers if coin else answers[::-1]
        letter = {first: "(a)", second: "(b)"}
        options = f"(a) {first} (b) {second}"
        for side, answer in enumerate(answers):
            table.writerow([2 * number + 1 + side, pair.question, options, letter[answer]])
    return text.getvalue()


def _pair_lines(pairs: list[BenchmarkPair]) -> str:
    """The text of pairs.jsonl: pair number (from 1), its two indices and what differs."""
    rows = (
        {"pair": number, "indices": [2 * number - 1, 2 * number], "kind": pair.kind}
        for number, pair in enumerate(pairs, start=1)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)

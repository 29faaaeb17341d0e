"""The procedural benchmark: format, held-out rule, one difference per pair, idempotent folders."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.mini.benchmark import COLUMNS, is_test_scene, sample_pair, write_benchmark
from imgdiff.mini.language import PLACES
from imgdiff.mini.scene import Scene, draw_scene

PAIRS = 40


@pytest.fixture(scope="module")
def pairs() -> list:
    return [sample_pair(number, 0) for number in range(PAIRS)]


def _things(scene: Scene) -> set[tuple[str, str, int]]:
    return {(item.category, item.colour, item.cell) for item in scene.objects}


def test_both_scenes_obey_the_rule_of_the_test_world(pairs: list) -> None:
    assert all(is_test_scene(scene) for pair in pairs for scene in (pair.first, pair.second))


def test_exactly_one_object_differs(pairs: list) -> None:
    for pair in pairs:
        first, second = _things(pair.first), _things(pair.second)
        gone, come = first - second, second - first
        assert (len(gone), len(come)) in ({(1, 0), (0, 1)} if pair.kind == "presence" else {(1, 1)})
        assert pair.first.ground_seed == pair.second.ground_seed
        if pair.kind == "presence":
            continue
        (a,), (b,) = gone, come
        differing = [i for i in range(3) if a[i] != b[i]]
        assert differing == [("category", "colour", "place").index(pair.kind)]


def test_only_the_pixels_around_the_object_differ(pairs: list) -> None:
    for pair in pairs[:8]:
        left, right = (np.asarray(draw_scene(s).image, int) for s in (pair.first, pair.second))
        rows, columns = np.nonzero((left != right).any(axis=-1))
        cells = {(int(r) // 64, int(c) // 64) for r, c in zip(rows, columns, strict=True)}
        assert 1 <= len(cells) <= (2 if pair.kind == "place" else 1)


def test_the_answers_are_true(pairs: list) -> None:
    for pair in pairs:
        for scene, answer in ((pair.first, pair.first_answer), (pair.second, pair.second_answer)):
            objects = {item.category: item for item in scene.objects}
            if pair.kind == "category":
                cell = PLACES.index(pair.question.removeprefix("What is at the ").rstrip("?"))
                assert objects[answer].cell == cell
            elif pair.kind == "presence":
                asked = pair.question.split("there ")[1].split(" ")[1]
                assert (asked in objects) == (answer == "Yes")
            else:
                item = objects[pair.question.split(" the ")[1].rstrip("?")]
                assert answer in (item.colour, PLACES[item.cell])


def test_kinds_are_a_half_and_two_quarters() -> None:
    kinds = Counter(sample_pair(number, 1).kind for number in range(16))
    assert kinds == {"category": 8, "colour": 4, "place": 2, "presence": 2}


def test_a_pair_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    few, many = (write_benchmark(tmp_path, count, 3) for count in (2, 5))
    assert few != many
    for index in range(1, 5):
        name = f"MMVP Images/{index}.jpg"
        assert (few / name).read_bytes() == (many / name).read_bytes()
    rows = (many / "Questions.csv").read_text().splitlines()
    assert (few / "Questions.csv").read_text().splitlines() == rows[:5]


def test_the_folder_is_in_mmvps_layout_and_says_that_it_is_not_mmvp(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, 6, 0)
    with (folder / "Questions.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == COLUMNS
    assert [int(row["Index"]) for row in rows] == list(range(1, 13))
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert (first["Question"], first["Options"]) == (second["Question"], second["Options"])
        assert {first["Correct Answer"], second["Correct Answer"]} == {"(a)", "(b)"}
    assert {file.name for file in (folder / "MMVP Images").iterdir()} == {
        f"{index}.jpg" for index in range(1, 13)
    }
    assert "NOT MMVP" in (folder / "README.txt").read_text()
    kinds = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    assert [row["pair"] for row in kinds] == [1, 2, 3, 4, 5, 6]
    assert kinds[2]["indices"] == [5, 6]


def test_a_killed_write_goes_on_and_a_whole_folder_is_left_alone(tmp_path: Path) -> None:
    folder = write_benchmark(tmp_path, 3, 0)
    before = {file: file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}
    (folder / "complete.json").unlink()
    (folder / "MMVP Images" / "4.jpg").unlink()
    assert write_benchmark(tmp_path, 3, 0) == folder
    assert {file: file.read_bytes() for file in before} == before
    (folder / "README.txt").write_text("mine")
    assert write_benchmark(tmp_path, 3, 0) == folder
    assert (folder / "README.txt").read_text() == "mine"


def test_no_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 1"):
        write_benchmark(tmp_path, 0, 0)

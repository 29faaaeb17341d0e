"""The sets in the published formats: layout, truth of the sides, held-out rule, resumption."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import is_procedural
from imgdiff.mini.change_language import plain_words
from imgdiff.mini.change_sets import (
    KINDS,
    sample_edit,
    sample_spot_pair,
    write_image_edit_request,
    write_spot_the_diff,
)
from imgdiff.mini.scene import Scene, Split, belongs, draw_scene

Write = Callable[..., Path]
WRITERS = (write_spot_the_diff, write_image_edit_request)
SPLITS = (Split.train, Split.validation, Split.test)


def _rows(folder: Path) -> list[dict]:
    (file,) = [p for p in folder.rglob("*.json") if p.name != "complete.json"]
    return json.loads(file.read_text())


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def test_spot_the_diff_has_the_published_layout(tmp_path: Path) -> None:
    folder = write_spot_the_diff(tmp_path, 30, 0)
    rows = json.loads((folder / "annotations" / "test.json").read_text())
    ids = list(dict.fromkeys(row["img_id"] for row in rows))
    assert len(ids) == 30 < len(rows)
    for row in rows:
        assert set(row) == {"img_id", "sentences"}
        assert row["img_id"].isdigit()
        assert 1 <= len(row["sentences"]) <= 3
        assert all(re.fullmatch(r"[a-z ]+", text) for text in row["sentences"])
    names = {f"{name}{side}.png" for name in ids for side in ("", "_2")}
    assert {file.name for file in (folder / "images").iterdir()} == names


def test_image_edit_request_has_the_published_layout(tmp_path: Path) -> None:
    folder = write_image_edit_request(tmp_path, 30, 0)
    rows = json.loads((folder / "test.json").read_text())
    assert len({row["uid"] for row in rows}) == len(rows) == 30
    for row in rows:
        assert list(row) == ["img0", "img1", "sents", "uid"]
        assert len({plain_words(text) for text in row["sents"]}) == len(row["sents"]) == 3
        assert all(text.isascii() for text in row["sents"])
    names = {row[side] for row in rows for side in ("img0", "img1")}
    assert {file.name for file in (folder / "images").iterdir()} == names


def test_the_first_image_is_before_and_the_second_after(tmp_path: Path) -> None:
    spot, edit = (write(tmp_path, 4, 1) for write in WRITERS)
    for number, row in enumerate(_rows(edit)):
        scenes = sample_edit(number, 1, Split.test).scenes
        for side, scene in (("img0", scenes.before), ("img1", scenes.after)):
            shown = _pixels(edit / "images" / row[side])
            drawn = np.asarray(draw_scene(scene).image, int)
            assert np.abs(shown - drawn).mean() < 3  # JPEG
        pair = sample_spot_pair(number, 1, Split.test)
        for side, scene in (("", pair.scenes.before), ("_2", pair.scenes.after)):
            shown = _pixels(spot / "images" / f"{pair.img_id}{side}.png")
            assert (shown == np.asarray(draw_scene(scene).image)).all()


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_obey_the_rule_of_their_world(split: Split) -> None:
    def obeys(scene: Scene) -> bool:
        return belongs([item.category for item in scene.objects], scene.ground, split)

    for number in range(40):
        for item in (sample_spot_pair(number, 0, split), sample_edit(number, 0, split)):
            assert obeys(item.scenes.before)
            assert obeys(item.scenes.after)


@pytest.mark.parametrize("write", WRITERS)
def test_a_folder_holds_one_split_and_shares_nothing_with_the_others(
    tmp_path: Path, write: Write
) -> None:
    folders = [write(tmp_path, 5, 0, split) for split in SPLITS]
    files = [[p.name for p in f.rglob("*.json") if p.name != "complete.json"] for f in folders]
    middle = "val.json" if write is write_spot_the_diff else "valid.json"
    assert files == [["train.json"], [middle], ["test.json"]]
    ids = [row.get("img_id") or row["uid"] for folder in folders for row in _rows(folder)]
    assert len(set(ids)) == 15
    if write is write_image_edit_request:
        assert [{len(row["sents"]) for row in _rows(f)} for f in folders] == [{1}, {3}, {3}]


@pytest.mark.parametrize("write", WRITERS)
def test_the_folder_says_that_it_is_procedural(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path, 2, 0)
    name = "Spot-the-Diff" if write is write_spot_the_diff else "Image-Edit-Request"
    assert is_procedural(folder)
    assert f"It is NOT {name}." in (folder / "README.txt").read_text()
    assert folder.name.startswith(f"procedural-{name.lower()}-test-")


@pytest.mark.parametrize("write", WRITERS)
def test_kinds_are_named_by_id(tmp_path: Path, write: Write) -> None:
    folder = write(tmp_path, 16, 0)
    lines = (folder / "kinds.jsonl").read_text().splitlines()
    kinds = {row["id"]: row["kinds"] for row in map(json.loads, lines)}
    assert list(kinds) == list(
        dict.fromkeys(row.get("img_id") or row["uid"] for row in _rows(folder))
    )
    assert [names[0] for names in kinds.values()] == [kind.value for kind in KINDS] * 2
    many = {len(names) for names in kinds.values()}
    assert many == ({1, 2, 3} if write is write_spot_the_diff else {1})


def test_annotators_differ_so_that_protocols_do() -> None:
    pairs = [sample_spot_pair(number, 2, Split.test) for number in range(600)]
    rows = Counter(len(pair.annotations) for pair in pairs)
    assert 0.08 < (rows[2] + rows[3]) / 600 < 0.16
    assert rows[3] > 0
    changes = Counter(len(pair.scenes.changes) for pair in pairs)
    assert 0.43 < changes[1] / 600 < 0.57
    assert changes[3] > 60
    for pair in pairs:
        first, *others = (len(sentences) for sentences in pair.annotations)
        assert first == len(pair.scenes.changes)
        assert all(1 <= count <= first for count in others)
    assert any(len(set(map(len, pair.annotations))) > 1 for pair in pairs)


def test_sentences_are_seldom_the_same() -> None:
    items = [sample_edit(number, 0, Split.test) for number in range(500)]
    said = Counter(plain_words(text) for item in items for text in item.instructions)
    assert len(said) > 1300
    assert said.most_common(1)[0][1] < 10


@pytest.mark.parametrize("write", WRITERS)
def test_an_item_does_not_depend_on_how_many_are_drawn(tmp_path: Path, write: Write) -> None:
    few, many = (write(tmp_path, count, 3) for count in (2, 5))
    assert few != many
    images = sorted(file.name for file in (few / "images").iterdir())
    assert len(images) == 4
    for name in images:
        assert (few / "images" / name).read_bytes() == (many / "images" / name).read_bytes()
    rows = _rows(few)
    assert rows == _rows(many)[: len(rows)]
    assert _rows(write(tmp_path, 2, 4)) != rows


@pytest.mark.parametrize("write", WRITERS)
def test_a_killed_write_goes_on_and_a_whole_folder_is_left_alone(
    tmp_path: Path, write: Write
) -> None:
    folder = write(tmp_path, 3, 0)
    before = {file: file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}
    (folder / "complete.json").unlink()
    next((folder / "images").iterdir()).unlink()
    assert write(tmp_path, 3, 0) == folder
    assert {file: file.read_bytes() for file in before} == before
    (folder / "README.txt").write_text("mine")
    assert write(tmp_path, 3, 0) == folder
    assert (folder / "README.txt").read_text() == "mine"


@pytest.mark.parametrize("write", WRITERS)
def test_no_pair_is_refused(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match="at least 1"):
        write(tmp_path, 0, 0)

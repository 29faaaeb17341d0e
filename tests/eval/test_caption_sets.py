"""Spot-the-Diff and Image-Edit-Request: who is a reference, and files that are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imgdiff.backends.world_data import image_edit_request_folder, spot_the_diff_folder
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval.config import EditConfig, EditSplit, SpotConfig, SpotSplit
from imgdiff.eval.data import caption_data
from imgdiff.eval.image_edit_request import load_image_edit_request
from imgdiff.eval.records import LeftOut
from imgdiff.eval.spot_the_diff import SpotProtocol, load_spot_the_diff

SPOT = [
    {"img_id": "7", "sentences": ["a car left", "a man came"]},
    {"img_id": "5", "sentences": [""]},
    {"img_id": "7", "sentences": ["two people"]},
    {"img_id": 9, "sentences": []},
]
EDIT = [
    {"uid": "a_1", "img0": "x.jpg", "img1": "y.JPG", "sents": ["Remove it.", " blur "]},
    {"uid": "a_2", "img0": "x.jpg", "img1": "z.gif", "sents": []},
]


def _file(tmp_path: Path, rows: Any) -> Path:
    path = tmp_path / "test.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (SpotProtocol.merged, {"7": ("a car left", "a man came", "two people"), "5": ("",)}),
        (
            SpotProtocol.per_item,
            {"7#1": ("a car left", "a man came"), "5#1": ("",), "7#2": ("two people",)},
        ),
        (SpotProtocol.first, {"7": ("a car left",), "5": ("",)}),
        (SpotProtocol.joined, {"7": ("a car left a man came", "two people"), "5": ("",)}),
    ],
)
def test_protocols(
    tmp_path: Path, protocol: SpotProtocol, expected: dict[str, tuple[str, ...]]
) -> None:
    content = load_spot_the_diff(_file(tmp_path, SPOT), tmp_path, protocol, {"7": "gone"})
    assert {item.id: item.references for item in content.items} == expected
    assert list(expected) == [item.id for item in content.items]
    first = content.items[0]
    assert (first.subject, first.kind) == ("7", "gone")
    assert first.images == (tmp_path / "7.png", tmp_path / "7_2.png")
    missing = "9#1" if protocol is SpotProtocol.per_item else "9"
    assert content.left_out == (LeftOut(reason="no reference sentence", ids=(missing,)),)


def test_either_suffix_of_an_image_is_found(tmp_path: Path) -> None:
    (tmp_path / "7.jpg").touch()
    content = load_spot_the_diff(_file(tmp_path, SPOT), tmp_path, SpotProtocol.merged, {})
    assert content.items[0].images == (tmp_path / "7.jpg", tmp_path / "7_2.png")


def test_image_edit_request_keeps_the_sentences_as_they_are(tmp_path: Path) -> None:
    content = load_image_edit_request(_file(tmp_path, EDIT), tmp_path, {})
    (item,) = content.items
    assert (item.id, item.references) == ("a_1", ("Remove it.", " blur "))
    assert item.images == (tmp_path / "x.jpg", tmp_path / "y.JPG")
    assert content.left_out == (LeftOut(reason="no reference sentence", ids=("a_2",)),)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "must be a JSON list with at least one item"),
        ({}, "must be a JSON list"),
        ([3], "item 1 is 3, must be a JSON object"),
        ([{"sentences": ["x"]}], "item 1: 'img_id' is null, must be some text"),
        ([{"img_id": " ", "sentences": ["x"]}], "item 1: 'img_id' is"),
        ([{"img_id": True, "sentences": ["x"]}], "item 1: 'img_id' is true"),
        ([{"img_id": "1", "sentences": "x"}], "item 1: 'sentences' is \"x\", must be a list"),
        ([{"img_id": "1", "sentences": [1]}], "item 1: 'sentences' is"),
        ([{"img_id": "1", "sentences": []}], "no item has a sentence"),
        ([{"img_id": "../1", "sentences": ["x"]}], "is not a plain name"),
        (EDIT, "item 1: 'img_id' is null"),
    ],
)
def test_damaged_spot_annotations(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_spot_the_diff(_file(tmp_path, rows), tmp_path, SpotProtocol.merged, {})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (SPOT, "item 1: 'uid' is null.*airsplay/VisualRelationships"),
        ([EDIT[0], EDIT[0]], "uid 'a_1' occurs twice"),
        ([{**EDIT[0], "img1": "../../etc/passwd"}], "leaves the data root"),
        ([{**EDIT[0], "img0": 3.5}], "'img0' is 3.5, must be some text"),
        ([{**EDIT[0], "sents": None}], "'sents' is null, must be a list of texts"),
        ([EDIT[1]], "no item has a sentence"),
    ],
)
def test_damaged_edit_annotations(tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_image_edit_request(_file(tmp_path, rows), tmp_path, {})


def test_the_published_folders_are_found(tmp_path: Path) -> None:
    for folder in ("data/annotations", "data/resized_images", "dataset/adobe/images/valid"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/annotations/val.json").write_text(json.dumps(SPOT))
    (tmp_path / "data/annotations/test.json").write_text(json.dumps(SPOT[:1]))
    (tmp_path / "dataset/adobe/valid.json").write_text(json.dumps(EDIT))
    spot = SpotConfig(root=str(tmp_path), split=SpotSplit.val)
    data = caption_data(spot, tmp_path / "cache", needs_images=True)
    assert data.content.items[0].images[0] == tmp_path / "data/resized_images/7.png"
    assert (data.procedural, data.other_splits) == (False, {"test": frozenset({"7"})})
    edit = EditConfig(root=str(tmp_path), split=EditSplit.valid)
    data = caption_data(edit, tmp_path / "cache", needs_images=True)
    assert data.content.items[0].images[0] == tmp_path / "dataset/adobe/images/valid/x.jpg"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match=r"no annotations: looked for .*test\.json.*harsh19"):
        caption_data(SpotConfig(root=str(tmp_path)), cache, needs_images=True)
    (tmp_path / "test.json").write_text(json.dumps(SPOT))
    with pytest.raises(DataError, match=r"no folder of images: looked for .*benchmark\.images"):
        caption_data(SpotConfig(root=str(tmp_path)), cache, needs_images=True)
    assert caption_data(SpotConfig(root=str(tmp_path)), cache, needs_images=False)
    alone = SpotConfig(annotations=str(tmp_path / "test.json"))
    with pytest.raises(ConfigError, match=r"benchmark\.annotations=.*Set benchmark\.images"):
        caption_data(alone, cache, needs_images=True)
    with pytest.raises(ConfigError, match=r"benchmark\.root=hf:x/y: .*no hub"):
        caption_data(SpotConfig(root="hf:x/y"), cache, needs_images=True)


@pytest.mark.parametrize("split", ["test", "train"])
def test_the_procedural_sets_are_read_as_such(tmp_path: Path, split: str) -> None:
    spot = caption_data(SpotConfig(pairs=8, split=SpotSplit(split)), tmp_path, needs_images=True)
    edit = caption_data(EditConfig(pairs=8, split=EditSplit(split)), tmp_path, needs_images=True)
    for data in (spot, edit):
        assert data.procedural
        assert len(data.content.items) == 8
        assert all(item.kind and item.references for item in data.content.items)
        assert all(path.is_file() for item in data.content.items for path in item.images)
    assert spot_the_diff_folder(tmp_path, 8, 0, split) in spot.place.parents
    assert image_edit_request_folder(tmp_path, 8, 0, split) in edit.place.parents

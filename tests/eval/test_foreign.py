"""Predictions of other systems: every format, and every way in which a file is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgdiff.core.errors import DataError
from imgdiff.eval.foreign import matched, read_predictions

NASTY = 'a\rb\u2028c,"quoted"\n\x00 ünï 🐕'


def _write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "a.json",
            json.dumps([{"image_id": 1, "caption": "x"}, {"image_id": "2", "caption": "y"}]),
        ),
        ("a.json", json.dumps({"1": "x", "2": ["y"]})),
        ("a.json", "\ufeff" + json.dumps({"1": "x", "2": "y"})),
        ("a.json", json.dumps([{"uid": "1", "prediction": "x"}, {"uid": "2", "text": "y"}])),
        ("a.jsonl", '{"img_id": "1", "caption": "x"}\n\n{"img_id": 2, "caption": "y"}\n'),
        ("a.jsonl", '\ufeff{"id": "1", "answer": "x"}\r\n{"id": "2", "answer": "y"}'),
        ("a.csv", "image_id,caption\n1,x\n2,y\n"),
        ("a.csv", "\ufeffcaption,extra,Index\r\nx,,1\r\ny,,2\r\n"),
        # MMVP's own script: `answer` is the right one, `response` the model's.
        (
            "a.jsonl",
            '{"question_id": "1", "answer": "(a)", "response": "x"}\n'
            '{"question_id": "2", "answer": "(b)", "response": "y"}\n',
        ),
    ],
)
def test_every_format_is_read(tmp_path: Path, name: str, text: str) -> None:
    found = read_predictions(_write(tmp_path, name, text))
    assert [(item.subject, item.text) for item in found] == [("1", "x"), ("2", "y")]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_nasty_captions_arrive_as_they_are(tmp_path: Path, name: str) -> None:
    quoted = NASTY.replace('"', '""')
    text = {
        "a.json": json.dumps({"1": NASTY}, ensure_ascii=False),
        "a.jsonl": json.dumps({"id": 1, "caption": NASTY}, ensure_ascii=False) + "\n",
        "a.csv": f'id,caption\n1,"{quoted}"\n',
    }[name]
    (found,) = read_predictions(_write(tmp_path, name, text))
    assert found.text == NASTY


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "", r"a\.json:1:1: malformed JSON"),
        ("a.json", "[]", "no prediction in it"),
        ("a.json", "{}", "no prediction in it"),
        ("a.json", "3", "must be a JSON list or object"),
        ("a.json", "[3]", "item 1 is 3, must be a JSON object"),
        ("a.json", '[{"caption": "x"}]', "item 1: no id .*found caption"),
        ("a.json", '[{"image_id": 1}]', "item 1: no text .*found image_id"),
        ("a.json", '[{"image_id": null, "caption": "x"}]', "image_id is null"),
        ("a.json", '[{"image_id": true, "caption": "x"}]', "image_id is true"),
        ("a.json", '[{"image_id": 1.0, "caption": "x"}]', r"image_id is 1\.0.*Write the id as"),
        ("a.json", '[{"image_id": 1, "caption": ["x", "y"]}]', "caption is .*must be one text"),
        ("a.json", '[{"image_id": 1, "caption": null}]', "caption is null, must be one text"),
        ("a.json", '{"1": "x", "1": "y"}', "'1' occurs twice"),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id"', r"a\.jsonl:2: malformed JSON"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1 is \[1\], must be a JSON object"),
        ("a.csv", "", "no column of the id"),
        ("a.csv", "image,caption\n1,x\n", "no column of the id.*found image, caption"),
        ("a.csv", "image_id;caption\n1;x\n", "no column of the id"),
        ("a.csv", "image_id,words\n1,x\n", "no column of the text"),
        ("a.csv", "image_id,caption\n1,x,y\n", r"a\.csv:2: has more or fewer cells"),
        ("a.csv", "image_id,caption\n1\n", r"a\.csv:2: has more or fewer cells"),
        ("a.csv", "image_id,caption\n", "no prediction in it"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_predictions(_write(tmp_path, name, text))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions=.*gone\.json: no such file"):
        read_predictions(tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"predictions=.*is a folder, must be a file"):
        read_predictions(tmp_path)
    for name in ("a.json", "a.jsonl", "a.csv"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(DataError, match="UTF-8"):
            read_predictions(tmp_path / name)


def _matched(tmp_path: Path, ids: list[str], *, is_partial: bool = False) -> dict[str, str]:
    path = _write(tmp_path, "a.json", json.dumps([{"image_id": i, "caption": i} for i in ids]))
    return matched(
        path,
        read_predictions(path),
        ["1", "2", "2", "3.png"],
        is_partial=is_partial,
        other_splits={"val": frozenset({"8", "9"}), "train": frozenset({"9"})},
    )


def test_predictions_find_their_items(tmp_path: Path) -> None:
    assert _matched(tmp_path, ["3.png", "2.JPG", "1"]) == {"1": "1", "2": "2.JPG", "3.png": "3.png"}


def test_missing_doubled_and_unknown_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"2 of 3 items have no prediction: 2, 3\.png.*partial=true"
    ):
        _matched(tmp_path, ["1"])
    assert _matched(tmp_path, ["1"], is_partial=True) == {"1": "1"}
    with pytest.raises(DataError, match="item 3: a second prediction for '2'"):
        _matched(tmp_path, ["1", "2", "2.png", "3.png"], is_partial=True)
    with pytest.raises(
        DataError, match=r"item 2: '8' is not an item.*2 of them .* 'val'.*split=val"
    ):
        _matched(tmp_path, ["1", "8", "9"])
    with pytest.raises(DataError, match=r"item 1: '77' is not an item.*which benchmark and split"):
        _matched(tmp_path, ["77"])

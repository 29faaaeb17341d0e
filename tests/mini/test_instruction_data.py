"""Instructions of the train world as LLaVA JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.mini.instruction_data import write_instructions


def test_the_json_is_llavas(tmp_path: Path) -> None:
    folder = write_instructions(tmp_path, 12, 0)
    rows = json.loads((folder / "instructions.json").read_text())
    assert len({row["id"] for row in rows}) == 12
    for row in rows:
        messages = row["conversations"]
        assert 2 <= len(messages) <= 8
        assert [m["from"] for m in messages] == ["human", "gpt"] * (len(messages) // 2)
        shown = [m["value"].count("<image>") for m in messages]
        assert shown == [int("image" in row)] + [0] * (len(messages) - 1)
        questions = [m["value"] for m in messages[::2]]
        assert len(set(questions)) == len(questions)
        if "image" in row:
            with Image.open(folder / row["image"]) as image:
                assert image.size == (128, 128)


def test_some_images_carry_red_boxes_that_questions_are_about(tmp_path: Path) -> None:
    folder = write_instructions(tmp_path, 60, 0)
    every = json.loads((folder / "instructions.json").read_text())
    rows = [row for row in every if "image" in row]
    assert 0 < len(every) - len(rows) < 15
    asked = [any("red bounding box" in m["value"] for m in row["conversations"]) for row in rows]
    assert 0.1 < np.mean(asked) < 0.5
    for row, about in zip(rows, asked, strict=True):
        pixels = np.asarray(Image.open(folder / row["image"])).astype(int)
        red = (pixels[..., 0] > 230) & (pixels[..., 1:].max(axis=-1) < 40)
        assert not about or red.sum() > 80


def test_same_bytes_twice_and_more_samples_hold_fewer(tmp_path: Path) -> None:
    one, two = (write_instructions(tmp_path / name, 4, 7) for name in ("a", "b"))
    assert one.name == two.name
    files = sorted(p.relative_to(one) for p in one.rglob("*.*"))
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    more = json.loads((write_instructions(tmp_path, 6, 7) / "instructions.json").read_text())
    assert more[:4] == json.loads((one / "instructions.json").read_text())


def test_zero_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 1"):
        write_instructions(tmp_path, 0, 0)

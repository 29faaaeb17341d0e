"""Hashes: golden values, since every stored score is found again by them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.identity import canonical_json, fingerprint, image_id, seed_for
from imgdiff.core.records import Side


class Colour(str, enum.Enum):
    red = "red"


@dataclass(frozen=True, kw_only=True)
class Setting:
    hi: float
    name: str


def test_goldens_do_not_move() -> None:
    assert fingerprint("a", 1, 1.5, {"b": None}) == "a11e7af4630db52f63a4"
    assert image_id(Image.new("RGB", (2, 1), (1, 2, 3))) == "47aa0678a8209a65ad98"
    assert seed_for(0, "x") == 7044293834411206395
    assert seed_for(0, "x", "pair") == 1364860528072669036


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (Setting(hi=0.1, name="é"), '{"hi":0.1,"name":"é"}'),
        ((1, 2), "[1,2]"),
        (Colour.red, '"red"'),
        (Side.RIGHT, "1"),
        ({Side.RIGHT: 0, Colour.red: 1}, '{"1":0,"red":1}'),  # str(IntEnum) depends on Python
        (Path("a/b"), '"a/b"'),
        (float("inf"), '"inf"'),
        (-0.0, "-0.0"),
        ({}, "{}"),
    ],
)
def test_canonical_json(value: object, text: str) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), Setting, np.arange(2)])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        canonical_json([value])


def test_parts_cannot_run_into_one_another() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint(["a"], "b") != fingerprint("a", ["b"])
    assert fingerprint() != fingerprint(None)
    assert fingerprint(1) != fingerprint("1")


def test_broken_unicode_has_an_id_too() -> None:
    assert len(fingerprint("\ud800")) == 20  # half an emoji, as JSON files of captions hold it


def test_image_id_sees_mode_size_and_pixels_only() -> None:
    grey = Image.new("L", (2, 3))
    others = [Image.new("L", (3, 2)), Image.new("P", (2, 3)), Image.new("L", (2, 3), 1)]
    assert image_id(grey) not in {image_id(other) for other in others}
    tagged = grey.copy()
    tagged.info["dpi"] = (72, 72)
    assert image_id(tagged) == image_id(grey)


def test_seeds_fit_63_bits_and_differ_by_run_item_and_purpose() -> None:
    seeds = [seed_for(run, f"i{item}", why) for run in (0, 1) for item in range(50) for why in "ab"]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)

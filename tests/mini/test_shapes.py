"""The object sprites: repeatable, tight, the right size and truly of the colour asked for."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.mini.contact_sheet import contact_sheet
from imgdiff.mini.shapes import CATEGORIES, COLOURS, draw_object

GROUPS = {
    "machine",
    "living_thing",
    "natural_object",
    "fruit",
    "vehicle",
    "container",
    "clothing",
    "fixture",
    "appliance",
    "furniture",
    "food",
}
ALL_PAIRS = list(itertools.product(CATEGORIES, COLOURS))


def test_vocabulary():
    assert len(CATEGORIES) == 48
    assert len(COLOURS) == 10
    assert all(name.isalpha() and name.islower() for name in [*CATEGORIES, *COLOURS])
    members = Counter(CATEGORIES.values())
    assert set(members) <= GROUPS
    assert min(members.values()) >= 3


def test_colours_are_well_apart():
    for first, second in itertools.combinations(COLOURS.values(), 2):
        assert np.linalg.norm(np.subtract(first, second)) > 60


@pytest.mark.parametrize("category", CATEGORIES)
def test_same_seed_same_bytes_and_other_seed_other_bytes(category):
    drawings = [
        draw_object(category, "purple", 40, np.random.default_rng(seed)).rgba for seed in (5, 5, 6)
    ]
    assert drawings[0].shape == drawings[1].shape
    assert drawings[0].tobytes() == drawings[1].tobytes()
    assert drawings[0].tobytes() != drawings[2].tobytes()


@pytest.mark.parametrize("size_px", [24, 64])
def test_every_object_in_every_colour_has_the_size_and_is_tight(size_px):
    for seed, (category, colour) in enumerate(ALL_PAIRS):
        rgba = draw_object(category, colour, size_px, np.random.default_rng(seed)).rgba
        height, width = rgba.shape[:2]
        assert rgba.dtype == np.uint8
        assert rgba.shape[2] == 4
        assert abs(max(height, width) - size_px) <= 1, (category, colour, seed)
        assert 0.4 < width / height < 2.5, (category, colour, seed)
        opaque = rgba[:, :, 3] >= 128
        for border in (opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]):
            assert border.any(), (category, colour, seed)
        assert opaque.mean() > 0.25, (category, colour, seed)


def test_size_holds_for_large_sprites():
    for category in ("cat", "bicycle", "key", "rocket"):
        rgba = draw_object(category, "green", 200, np.random.default_rng(1)).rgba
        assert abs(max(rgba.shape[:2]) - 200) <= 1


def test_one_connected_thing():
    for seed, category in enumerate(CATEGORIES):
        rgba = draw_object(category, "red", 64, np.random.default_rng(seed)).rgba
        assert _largest_part(rgba[:, :, 3] >= 64) > 0.99, category


def test_the_colour_asked_for_dominates():
    names = list(COLOURS)
    palette = np.array(list(COLOURS.values()), dtype=np.float64)
    wrong = []
    for seed, (category, colour) in enumerate(ALL_PAIRS):
        rgba = draw_object(category, colour, 64, np.random.default_rng(1000 + seed)).rgba
        pixels = rgba[rgba[:, :, 3] >= 128][:, :3].astype(np.float64)
        pixels = pixels[pixels.max(axis=1) > 80]  # edge lines and tyres have no colour to name
        nearest = np.square(pixels[:, None] - palette).sum(axis=2).argmin(axis=1)
        commonest = names[int(np.bincount(nearest, minlength=len(names)).argmax())]
        if commonest != colour:
            wrong.append(f"{colour} {category} looks {commonest}")
    assert len(wrong) <= 0.05 * len(ALL_PAIRS), wrong


def test_edges_are_smooth():
    alpha = draw_object("apple", "blue", 64, np.random.default_rng(0)).rgba[:, :, 3]
    partial = (alpha > 0) & (alpha < 255)
    assert partial.sum() > 64


def test_unknown_names_are_refused_with_the_legal_ones():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"'unicorn'.*cat, dog.*camera"):
        draw_object("unicorn", "red", 64, rng)
    with pytest.raises(DataError, match=r"'mauve'.*red, orange.*white"):
        draw_object("cat", "mauve", 64, rng)
    with pytest.raises(DataError, match="use 8 or more"):
        draw_object("cat", "red", 4, rng)


def test_contact_sheet_is_repeatable():
    sheet = contact_sheet(seed=3)
    assert sheet.mode == "RGB"
    assert sheet.tobytes() == contact_sheet(seed=3).tobytes()
    assert sheet.tobytes() != contact_sheet(seed=4).tobytes()


def _largest_part(opaque):
    """Share of the opaque pixels [H W] in the connected part that holds the most of them."""
    label = np.where(opaque, np.arange(1, opaque.size + 1).reshape(opaque.shape), 0)
    while True:
        padded = np.pad(label, 1)
        spread = np.max(
            [padded[1 + dy : dy + 1 + label.shape[0], 1 + dx : dx + 1 + label.shape[1]]
             for dy in (-1, 0, 1) for dx in (-1, 0, 1)],
            axis=0,
        )  # fmt: skip
        spread = np.where(opaque, spread, 0)
        if np.array_equal(spread, label):
            break
        label = spread
    return np.bincount(label[opaque]).max() / opaque.sum()

"""The procedural world behind the protocols: edits, drawing, truth, disjoint splits."""

import dataclasses
import itertools

import numpy as np
import pytest

from imgdiff.backends.protocols import DrawnPair, Refusal
from imgdiff.backends.world import (
    RenderConfig,
    RenderGenerator,
    Split,
    drawable,
    world_captions,
)
from imgdiff.backends.world_editor import WorldEditor, WorldEditorConfig
from imgdiff.core.errors import ConfigError
from imgdiff.core.records import CaptionPair
from imgdiff.mini.language import parse_caption
from imgdiff.mini.scene import combination_split

PURE = RenderConfig(
    split=Split.test, ignored_share=0, redrawn_share=0, side_effect_share=0, noise=0
)


def _pairs(split, count):
    captions = list(world_captions(split.value, count, 0))
    edits = WorldEditor(WorldEditorConfig(split=split)).edit(
        [c.text for c in captions], list(range(count))
    )
    return [
        CaptionPair(id=c.id, left=c.text, right=e.text, seed=1000 + k)
        for k, (c, e) in enumerate(zip(captions, edits, strict=True))
        if e.text
    ]


def test_captions_are_distinct_and_a_prefix_of_a_longer_list():
    short, long = list(world_captions("test", 50, 3)), list(world_captions("test", 200, 3))
    assert long[:50] == short
    assert len({c.text for c in long}) == 200
    assert list(world_captions("test", 50, 4)) != short


def test_every_edit_swaps_one_object_and_can_be_drawn():
    pairs = _pairs(Split.test, 300)
    assert len(pairs) >= 297
    for pair in pairs:
        left, right = parse_caption(pair.left), parse_caption(pair.right)
        objects = zip(left.objects, right.objects, strict=True)
        assert sum(a.category != b.category for a, b in objects) == 1
        assert drawable(pair.right, "test")


def test_articles_follow_the_new_word():
    for pair in _pairs(Split.train, 300):
        assert " a a" not in pair.right.replace(" a airplane", " a a")
        for vowel in ("airplane", "apple", "umbrella"):
            assert f" a {vowel}" not in pair.right.lower()
        assert " an car" not in pair.right.lower()


def test_foreign_captions_are_refused():
    edits = WorldEditor(WorldEditorConfig()).edit(["Two men ride horses.", "", "🐱"], [0, 1, 2])
    assert {e.refusal for e in edits} == {"caption outside the world's language"}


def test_a_drawn_pair_differs_in_the_edited_object_only():
    for pair in _pairs(Split.test, 40):
        (drawn,) = RenderGenerator(PURE).generate([pair])
        assert isinstance(drawn, DrawnPair)
        assert drawn.truth is not None
        (change,) = drawn.truth.changes
        both = change.left_box.union(change.right_box)
        differing = np.any(np.asarray(drawn.left) != np.asarray(drawn.right), axis=2)
        rows, columns = np.nonzero(differing)
        assert rows.size > 50
        assert both.left - 1 <= columns.min() <= columns.max() <= both.right
        assert both.top - 1 <= rows.min() <= rows.max() <= both.bottom


def test_a_pair_does_not_depend_on_its_neighbours():
    pairs = _pairs(Split.train, 12)
    generator = RenderGenerator(RenderConfig(split=Split.train))
    together = generator.generate(pairs)
    for pair, drawn in zip(reversed(pairs), reversed(together), strict=True):
        (alone,) = RenderGenerator(RenderConfig(split=Split.train)).generate([pair])
        assert alone.left.tobytes() == drawn.left.tobytes()
        assert alone.right.tobytes() == drawn.right.tobytes()
        assert alone.truth == drawn.truth


def test_faults_appear_in_their_shares_and_are_recorded():
    pairs = _pairs(Split.train, 300)
    config = RenderConfig(ignored_share=0.3, redrawn_share=0.3, side_effect_share=0.2)
    notes = [d.truth.note for d in RenderGenerator(config).generate(pairs)]
    shares = {note: notes.count(note) / len(notes) for note in set(notes)}
    assert abs(shares["ignored"] - 0.3) < 0.08
    assert abs(shares["redrawn"] - 0.3) < 0.08
    assert 0.05 < shares["side effect"] < 0.28  # one-object scenes have no second object


def test_worlds_are_disjoint():
    for split in Split:
        others = {Split.validation, Split.test} - {split}
        for pair in _pairs(split, 60):
            (drawn,) = RenderGenerator(dataclasses.replace(PURE, split=split)).generate([pair])
            assert isinstance(drawn, DrawnPair)
            left, right = (
                {combination_split(a.name, b.name) for a, b in itertools.combinations(objects, 2)}
                for objects in (drawn.truth.left_objects, drawn.truth.right_objects)
            )
            assert not (left | right) & others
            assert split in left or len(drawn.truth.left_objects) == 1


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        ("A dog on a hill.", "A cat on a hill.", "caption outside the world's language"),
        ("A dog.", "A dog.", "edit does not replace exactly one object"),
        ("A dog and a cat.", "A fish and a bird.", "edit does not replace exactly one object"),
        ("A dog.", "A dog and a cat.", "edit does not replace exactly one object"),
    ],
)
def test_refusals_have_reasons(left, right, reason):
    (drawn,) = RenderGenerator(PURE).generate([CaptionPair(id="x", left=left, right=right, seed=1)])
    assert isinstance(drawn, Refusal)
    assert drawn.reason == reason


def test_shares_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"generator\.ignored_share=1\.5"):
        RenderConfig(ignored_share=1.5)
    with pytest.raises(ConfigError, match="> 1; lower one"):
        RenderConfig(ignored_share=0.6, redrawn_share=0.6)

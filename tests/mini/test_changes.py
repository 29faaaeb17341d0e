"""Changes of scenes: one thing each, visible, in cells of their own, within the split's world."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.mini.changes import (
    LEAST_RESIZE_PX,
    ChangedScene,
    ChangeKind,
    possible_counts,
    sample_changed_scene,
)
from imgdiff.mini.scene import CELL_PX, Scene, SceneObject, Split, belongs, draw_scene

KINDS = list(ChangeKind)
SEEN_PX = 60  # so many pixels of a changed cell differ by SEEN_LEVELS in some channel
SEEN_LEVELS = 24


def _pairs(count: int, split: Split = Split.test) -> list[ChangedScene]:
    rng = np.random.default_rng(3)
    found = []
    while len(found) < count:
        kinds = [KINDS[int(k)] for k in rng.integers(len(KINDS), size=1 + len(found) % 3)]
        if possible_counts(kinds):
            found.append(sample_changed_scene(kinds, split, rng))
    return found


PAIRS = _pairs(400)


def _cells(pair: ChangedScene) -> list[int]:
    """The cells that changes touch, each as often as it is touched."""
    return [
        cell
        for change in pair.changes
        for cell in {item.cell for item in (change.before, change.after) if item}
    ]


def test_the_records_say_what_differs() -> None:
    for pair in PAIRS:
        gone = {change.before for change in pair.changes if change.before}
        come = {change.after for change in pair.changes if change.after}
        assert set(pair.before.objects) - set(pair.after.objects) == gone
        assert set(pair.after.objects) - set(pair.before.objects) == come
        assert (pair.before.ground, pair.before.ground_seed) == (
            pair.after.ground,
            pair.after.ground_seed,
        )


def _differing(before: SceneObject, after: SceneObject) -> set[str]:
    fields = ("category", "colour", "size", "cell", "size_px", "x", "y", "seed")
    return {name for name in fields if getattr(before, name) != getattr(after, name)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_changes_what_its_kind_says(kind: ChangeKind) -> None:
    allowed = {
        ChangeKind.replaced: {"category", "colour", "seed"},
        ChangeKind.recoloured: {"colour"},
        ChangeKind.moved: {"cell", "x", "y"},
        ChangeKind.resized: {"size", "size_px", "x", "y"},
    }
    needed = {
        ChangeKind.replaced: "category",
        ChangeKind.recoloured: "colour",
        ChangeKind.moved: "cell",
        ChangeKind.resized: "size_px",
    }
    changes = [c for pair in PAIRS for c in pair.changes if c.kind is kind]
    assert len(changes) > 30
    for change in changes:
        assert (change.before is None) == (kind is ChangeKind.added)
        assert (change.after is None) == (kind is ChangeKind.removed)
        if change.before and change.after:
            differing = _differing(change.before, change.after)
            assert needed[kind] in differing <= allowed[kind]


def test_a_resize_is_large_enough_to_see() -> None:
    for pair in PAIRS:
        for change in pair.changes:
            if change.kind is ChangeKind.resized and change.before and change.after:
                assert abs(change.before.size_px - change.after.size_px) >= LEAST_RESIZE_PX


def test_no_cell_is_touched_twice() -> None:
    for pair in PAIRS:
        assert max(Counter(_cells(pair)).values()) == 1
        for scene in (pair.before, pair.after):
            assert len({item.cell for item in scene.objects}) == len(scene.objects) >= 1


def test_what_comes_is_new_or_the_twin_of_something_that_stays() -> None:
    twins = 0
    for pair in PAIRS:
        before = {item.category for item in pair.before.objects}
        stays = Counter(i.category for i in pair.before.objects if i in pair.after.objects)
        for change in pair.changes:
            if change.kind is ChangeKind.replaced and change.after:
                assert change.after.category not in before
            if change.kind is ChangeKind.added and change.after:
                known = change.after.category in before
                twins += known
                assert stays[change.after.category] == int(known)
    assert twins > 3


def test_twins_differ_in_colour_and_at_most_one_of_them_changes() -> None:
    seen = 0
    for pair in PAIRS:
        for scene in (pair.before, pair.after):
            colours: dict[str, list[str]] = {}
            for item in scene.objects:
                colours.setdefault(item.category, []).append(item.colour)
            for names in colours.values():
                assert len(set(names)) == len(names) <= 2
                seen += len(names) == 2
        touched = Counter(c.before.category for c in pair.changes if c.before)
        assert max(touched.values(), default=1) == 1
    assert seen > 20


def _differs(pair: ChangedScene) -> np.ndarray:
    """Where the drawings differ visibly, [128 128]."""
    left, right = (np.asarray(draw_scene(s).image, int) for s in (pair.before, pair.after))
    return np.abs(left - right).max(axis=-1)


def test_changes_are_visible_and_nothing_else_differs() -> None:
    for pair in PAIRS[:120]:
        levels, touched = _differs(pair), set(_cells(pair))
        for cell in range(4):
            top, left = cell // 2 * CELL_PX, cell % 2 * CELL_PX
            part = levels[top : top + CELL_PX, left : left + CELL_PX]
            if cell in touched:
                assert (part > SEEN_LEVELS).sum() > SEEN_PX
            else:
                assert part.max() == 0


@pytest.mark.parametrize("split", [Split.train, Split.validation, Split.test])
def test_both_scenes_obey_the_rule_of_their_world(split: Split) -> None:
    def obeys(scene: Scene) -> bool:
        return belongs([item.category for item in scene.objects], scene.ground, split)

    assert all(obeys(s) for pair in _pairs(40, split) for s in (pair.before, pair.after))


def test_where_there_is_no_room_nothing_is_sampled() -> None:
    moved, removed, added = ChangeKind.moved, ChangeKind.removed, ChangeKind.added
    assert list(possible_counts([removed])) == [2, 3, 4]
    assert list(possible_counts([added])) == [1, 2, 3]
    assert list(possible_counts([removed, added])) == [1, 2, 3]
    assert list(possible_counts([moved, moved])) == [2]
    rng = np.random.default_rng(0)
    for kinds in ([], [moved, moved, moved], [removed] * 4):
        with pytest.raises(DataError, match="no scene of 4 cells has room"):
            sample_changed_scene(kinds, Split.test, rng)

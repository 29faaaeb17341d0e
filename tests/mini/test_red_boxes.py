"""Red boxes in single images: where they lie, and what is asked about them."""

from __future__ import annotations

import numpy as np
import pytest

from imgdiff.core.images import RED
from imgdiff.mini.instructions import FAMILIAR
from imgdiff.mini.red_boxes import RED_BOX, ask, boxed_turn, sample_boxed, with_red_boxes
from imgdiff.mini.scene import Scene, Split, draw_scene, place, sample_scene
from imgdiff.mini.shapes import CATEGORIES

TOLD = sorted(FAMILIAR)
UNTOLD = [name for name in CATEGORIES if name not in FAMILIAR]


def _scene(*objects: tuple[str, int]) -> Scene:
    rng = np.random.default_rng(0)
    drawn = tuple(place(rng, name, "blue", "large", cell) for name, cell in objects)
    return Scene(objects=drawn, ground="plain", ground_seed=0)


def test_boxes_lie_on_known_things_left_one_first() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        scene = sample_scene(rng, Split.train)
        boxed = sample_boxed(scene, rng)
        items = [scene.objects[k] for k in boxed]
        assert all(item.category in FAMILIAR for item in items)
        assert [item.column for item in items] in ([], [0], [1], [0, 1])
        assert bool(boxed) == any(item.category in FAMILIAR for item in scene.objects)
        found.append(len(boxed))
    assert set(found) == {0, 1, 2}


def test_boxes_on_anything() -> None:
    scene = _scene((UNTOLD[0], 3))
    rng = np.random.default_rng(0)
    assert sample_boxed(scene, rng) == ()
    assert sample_boxed(scene, rng, CATEGORIES) == (0,)


def test_questions_about_one_box() -> None:
    scene = _scene((TOLD[0], 0), (TOLD[1], 3))
    rng = np.random.default_rng(0)
    turns = [boxed_turn(scene, (1,), rng) for _ in range(60)]
    assert {turn.skill for turn in turns} == {"box", "box_choice"}
    for turn in turns:
        assert turn.question.startswith(f"What is in the {RED_BOX}?")
        if turn.skill == "box":
            assert turn.answer == f"A large blue {TOLD[1]}."
        else:
            assert f"({turn.answer.lower()}) {TOLD[1]}" in turn.question


def test_questions_about_two_boxes() -> None:
    scene = _scene((TOLD[0], 0), (TOLD[1], 3))
    rng = np.random.default_rng(0)
    turns = [boxed_turn(scene, (0, 1), rng) for _ in range(100)]
    both = {turn.answer for turn in turns if turn.skill == "boxes"}
    assert both == {
        f"The left box shows a large blue {TOLD[0]}, the right box a large blue {TOLD[1]}."
    }
    for turn in turns:
        if turn.skill == "box":
            assert turn.answer.endswith(f" {TOLD[0 if ' left ' in turn.question else 1]}.")


@pytest.mark.parametrize("boxed", [(), (0,)])
def test_half_of_the_questions_are_about_the_boxes(boxed: tuple[int, ...]) -> None:
    scene = _scene((TOLD[0], 0))
    rng = np.random.default_rng(0)
    share = np.mean([RED_BOX in ask(scene, boxed, rng).question for _ in range(300)])
    assert share == pytest.approx(0.5 if boxed else 0.0, abs=0.1)


def test_frames_are_drawn_on_a_copy() -> None:
    scene = _scene((TOLD[0], 0), (TOLD[1], 3))
    drawing = draw_scene(scene)
    before = np.asarray(drawing.image).copy()
    marked = np.asarray(with_red_boxes(drawing.image, drawing.boxes, np.random.default_rng(0)))
    assert np.array_equal(np.asarray(drawing.image), before)
    red = (marked == RED).all(axis=-1)
    assert np.array_equal(marked[~red], before[~red])
    box = drawing.boxes[1]
    middle = int(box.top + box.bottom) // 2
    inner, outer = int(box.left), max(0, int(box.left) - 6)
    assert red[middle, outer : inner + 3].sum() == 3

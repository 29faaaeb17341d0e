"""The world's language: what is written can be read, and says what is there."""

import numpy as np
import pytest

from imgdiff.core.errors import DataError
from imgdiff.mini.instructions import (
    FAMILIAR,
    SKILLS,
    familiar_turn,
    is_familiar,
    sample_turn,
)
from imgdiff.mini.language import (
    article,
    describe,
    difference_sentence,
    parse_caption,
    region_description,
)
from imgdiff.mini.scene import Scene, SceneObject, Split, draw_scene, sample_scene
from imgdiff.mini.shapes import CATEGORIES


def _item(category, colour, size, cell):
    return SceneObject(
        category=category, colour=colour, size=size, cell=cell, size_px=40, x=32, y=32, seed=1
    )


def test_every_caption_parses_to_the_objects_of_its_scene():
    rng = np.random.default_rng(0)
    for split in Split:
        for _ in range(200):
            scene = sample_scene(rng, split)
            sketch = parse_caption(describe(scene, rng))
            by_name = {item.category: item for item in scene.objects}
            assert {p.category for p in sketch.objects} == set(by_name)
            for phrase in sketch.objects:
                item = by_name[phrase.category]
                assert phrase.colour in (None, item.colour)
                assert phrase.size in (None, item.size)
            assert sketch.ground in (None, scene.ground)


@pytest.mark.parametrize(
    "text",
    ["", "A", "A red.", "Two dogs.", "A dog on a hill.", "A crimson dog.", "🐶", "A dog\x00."],
)
def test_foreign_text_is_refused(text):
    with pytest.raises(DataError, match="caption"):
        parse_caption(text)


def test_five_objects_do_not_fit():
    with pytest.raises(DataError, match="5 objects"):
        parse_caption("A dog, a cat, a fish, a bird and a duck.")


def test_known_sentences():
    assert region_description(_item("apple", "red", "small", 0)) == "A small red apple."
    assert article("orange cup") == "an"
    assert (
        difference_sentence("A red apple.", "A blue cup.")
        == "The left image shows a red apple, while the right image shows a blue cup."
    )


def test_answers_are_true():
    scene = Scene(
        objects=(_item("cat", "red", "small", 0), _item("dog", "blue", "large", 3)),
        ground="striped",
        ground_seed=0,
    )
    rng = np.random.default_rng(1)
    turns = [sample_turn(scene, rng) for _ in range(600)]
    assert {t.skill for t in turns} == set(SKILLS)
    for turn in turns:
        if turn.question.startswith("What color is the cat?") and turn.skill == "colour":
            assert "red" in turn.answer.lower()
        if turn.skill == "count":
            assert turn.answer == "Two."
        if turn.question in ("Is there a cat in the picture?", "Do you see a cat?"):
            assert turn.answer == "Yes."
        if turn.question == "Is the cat to the left of the dog?":
            assert turn.answer == "Yes."
        if turn.question == "Is the cat below the dog?":
            assert turn.answer == "No."


def test_two_option_answers_name_the_right_letter():
    scene = Scene(objects=(_item("cat", "red", "small", 2),), ground="plain", ground_seed=0)
    rng = np.random.default_rng(2)
    truths = {"cat", "red", "small", "plain", "bottom left"}
    for _ in range(300):
        turn = sample_turn(scene, rng)
        if turn.skill == "choice":
            asked, answers = turn.question.split(" (a) ")
            options = answers.split("\n")[0].split(" (b) ")
            if asked.startswith("Is there"):
                assert options["AB".index(turn.answer)] == ("Yes" if " cat " in asked else "No")
                continue
            assert options["AB".index(turn.answer)] in truths
            assert options["BA".index(turn.answer)] not in truths


def test_drawing_is_reproducible_and_truthful():
    rng = np.random.default_rng(3)
    for _ in range(20):
        scene = sample_scene(rng, Split.train)
        one, two = draw_scene(scene), draw_scene(scene)
        assert one.image.tobytes() == two.image.tobytes()
        for box, mask in zip(one.boxes, one.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min()) == (box.left, box.top)
            assert (columns.max() + 1, rows.max() + 1) == (box.right, box.bottom)


def test_instructions_name_familiar_things_only():
    rng = np.random.default_rng(4)
    known = sorted(FAMILIAR)[0]
    unknown = next(name for name in CATEGORIES if name not in FAMILIAR)
    objects = (_item(known, "red", "small", 0), _item(unknown, "blue", "large", 3))
    both = Scene(objects=objects, ground="plain", ground_seed=0)
    turns = [familiar_turn(both, rng) for _ in range(400)]
    assert any(known in turn.question for turn in turns)
    text = " ".join(f"{turn.question} {turn.answer}" for turn in turns).lower()
    assert not [name for name in CATEGORIES if name not in FAMILIAR and f" {name}" in text]
    assert is_familiar(both)
    strange = Scene(objects=objects[1:], ground="plain", ground_seed=0)
    assert not is_familiar(strange)
    assert unknown not in familiar_turn(strange, rng).question

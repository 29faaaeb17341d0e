"""Captions of photos in the words of the procedural world."""

from __future__ import annotations

import pytest

from imgdiff.backends.world import Vocabulary, drawable, most_objects, things_of, world_captions
from imgdiff.backends.world_editor import WorldEditorConfig
from imgdiff.backends.world_words import restated
from imgdiff.core.errors import ConfigError
from imgdiff.mini.language import parse_caption
from imgdiff.mini.shapes import CATEGORIES

SMALL, WORLD = Vocabulary.mini_sdxl, Vocabulary.world


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("A cat sits on a mat", "A cat."),
        ("a white bird is flying over a beach", "A white bird."),
        ("A grey kitten on top of an old couch", "A gray cat above a sofa."),
        ("two men under an orange umbrella by a bus", "An orange umbrella and a bus."),
        ("The dog and the cat", "A dog and a cat."),
        ("A SEAGULL OVER A BOAT!", "A bird above a boat."),
        ("a cat under a chair on top of a sofa", "A cat below a chair."),
        ("Cat, a dog; a bird", "A cat and a dog."),
        ("An apple to the left of a cup", "An apple to the left of a cup."),
        ("black and white cat on a wall", "A cat."),
        ("a black dog", "A dog."),
    ],
)
def test_known_objects_stay_with_their_colours_and_places(caption: str, said: str) -> None:
    assert restated(caption, SMALL) == said


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "!!!",
        "A man riding a wave on a surfboard",
        "three cats on a wall",
        "a hot dog on a plate",
        "a city street with a clock tower",
        "people travel by bus",
        "猫がいる",
    ],
)
def test_captions_of_other_things_say_nothing(caption: str) -> None:
    assert restated(caption, SMALL) is None


def test_the_whole_world_knows_more() -> None:
    caption = "a phone, a key, a lamp, a shoe and a camera on a table"
    assert restated(caption, SMALL) is None
    assert restated(caption, WORLD) == "A phone, a key, a lamp and a shoe."


def test_what_is_said_is_in_the_language_of_the_world() -> None:
    for thing in CATEGORIES:
        for form in (f"there is a {thing} here", f"A red {thing} near some people"):
            said = restated(form, WORLD)
            assert said is not None, form
            assert [phrase.category for phrase in parse_caption(said).objects] == [thing]


def test_captions_of_the_small_world_name_its_things_alone() -> None:
    captions = list(world_captions("train", 200, 0, SMALL))
    assert len({caption.text for caption in captions}) == 200
    assert list(world_captions("train", 50, 0, SMALL)) == captions[:50]
    for caption in captions:
        objects = parse_caption(caption.text).objects
        assert 1 <= len(objects) <= most_objects(SMALL)
        assert {item.category for item in objects} <= set(things_of(SMALL))
        assert drawable(caption.text, "train")


def test_asking_for_more_captions_than_there_are_is_told(monkeypatch) -> None:
    monkeypatch.setattr("imgdiff.backends.world._STALE", 20)
    monkeypatch.setattr("imgdiff.backends.world.describe", lambda scene, rng: "A cat.")
    with pytest.raises(ConfigError, match=r"source\.limit=5: .* about 1 captions; ask for fewer"):
        list(world_captions("train", 5, 0, SMALL))


def test_edits_stay_in_the_vocabulary() -> None:
    captions = [caption.text for caption in world_captions("train", 60, 0, SMALL)]
    seeds = list(range(60))
    small = WorldEditorConfig(vocabulary=SMALL, same_group_share=0.0).build()
    edits = small.edit(captions, seeds)
    assert sum(bool(edit.text) for edit in edits) > 55
    for edit in edits:
        if edit.text:
            named = {item.category for item in parse_caption(edit.text).objects}
            assert named <= set(things_of(SMALL))
    whole = WorldEditorConfig(same_group_share=0.0).build()
    assert whole.identity != small.identity
    named = {
        item.category
        for edit in whole.edit(captions, seeds)
        if edit.text
        for item in parse_caption(edit.text).objects
    }
    assert named - set(things_of(SMALL))


def test_a_caption_of_another_split_is_refused() -> None:
    held_out = next(c.text for c in world_captions("test", 50, 0) if not drawable(c.text, "train"))
    (edit,) = WorldEditorConfig().build().edit([held_out], [0])
    assert edit.refusal == "combination held out of this world"

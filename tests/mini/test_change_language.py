"""Every wording about a change: its grammar, and whether what it says is true of the pictures.

The checks read a filled sentence by patterns of their own and look the claims up in the drawings'
boxes and the scenes' records; they share no code with what fills the wordings.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from imgdiff.core.geometry import Box
from imgdiff.mini.change_language import (
    DIFFERENCES,
    INSTRUCTIONS,
    Case,
    as_typed,
    cases_of,
    change_sentence,
    edit_instruction,
    plain_words,
)
from imgdiff.mini.change_phrases import SLOTS, Telling, fill, plural, slots_of
from imgdiff.mini.changes import Change, ChangedScene, ChangeKind, sample_changed_scene
from imgdiff.mini.scene import SCENE_PX, Scene, SceneObject, Split, draw_scene
from imgdiff.mini.shapes import CATEGORIES, COLOURS

FILLS = 12  # of each wording
PLACE = r"(?:at|in|on) the (?:top|bottom|upper|lower)?(?: ?(?:left|right)\b)?(?: corner)?"
BARE_PLACE = r"(?:top|bottom) (?:left|right)"
COLOUR = "|".join(COLOURS)
NOUN = rf"(?:(?:small|large) )?(?:(?:{COLOUR}) )?(?:{'|'.join(CATEGORIES)})\b"
PLACED = rf"{NOUN}(?: {PLACE})?"
PATTERNS = {
    "the": f"the {PLACED}",
    "the_uncoloured": f"the {PLACED}",
    "gone": PLACED,
    "a_gone": f"an? {PLACED}",
    "come": NOUN,
    "a_come": f"an? {NOUN}",
    "where": PLACE,
    "where_before": PLACE,
    "place": BARE_PLACE,
    "place_before": BARE_PLACE,
    "way": "(?:up|down)?(?: and )?(?:to the (?:left|right))?",
    "colour": COLOUR,
    "a_colour": f"an? (?:{COLOUR})",
    "colour_before": COLOUR,
    "category": "|".join(CATEGORIES),
    "plural": "[a-z]+",
    "twin_colour": COLOUR,
    "first": r"\w+ (?:picture|image)",
    "second": r"\w+ (?:picture|image)",
    "picture": "picture|image|photo",
}


def _examples() -> dict[Case, list[tuple[ChangedScene, Change]]]:
    """Changes of every case, in pairs of one to two changes."""
    rng = np.random.default_rng(11)
    found: dict[Case, list[tuple[ChangedScene, Change]]] = {case: [] for case in Case}
    for kind in ChangeKind:
        for number in range(150):
            kinds = [kind] if number % 2 else [kind, ChangeKind.recoloured]
            pair = sample_changed_scene(kinds, Split.test, rng)
            for case in cases_of(pair, pair.changes[0]):
                found[case].append((pair, pair.changes[0]))
    return found


EXAMPLES = _examples()
TABLES = {"difference": DIFFERENCES, "instruction": INSTRUCTIONS}
WORDED = [
    pytest.param(table, case, id=f"{name}-{case.name}")
    for name, table in TABLES.items()
    for case in table
]


def _filled(case: Case, wording: str) -> Iterator[tuple[str, ChangedScene, Change]]:
    rng = np.random.default_rng(5)
    for pair, change in EXAMPLES[case][:FILLS]:
        yield fill(wording, Telling(pair=pair, change=change, rng=rng)), pair, change


@functools.cache
def _boxes(scene: Scene) -> dict[SceneObject, Box]:
    return dict(zip(scene.objects, draw_scene(scene).boxes, strict=True))


def _quarter(box: Box) -> tuple[str, str]:
    """Where the middle of a drawn box is."""
    middle = SCENE_PX / 2
    row = "top" if (box.top + box.bottom) / 2 < middle else "bottom"
    return row, "left" if (box.left + box.right) / 2 < middle else "right"


def _is_at(words: str, box: Box) -> bool:
    """Whether every word about a place is true of the box."""
    row, column = _quarter(box)
    plain = words.replace("upper", "top").replace("lower", "bottom")
    said = set(plain.split()) & {"top", "bottom", "left", "right"}
    return bool(said) and said <= {row, column}


def _meant(words: str, scene: Scene) -> list[SceneObject]:
    """The objects of a scene of which a noun phrase is true."""
    found = re.fullmatch(
        rf"(?:(?:the|an?) )?(?:(small|large) )?(?:({COLOUR}) )?({'|'.join(CATEGORIES)})(?: (.*))?",
        words,
    )
    assert found is not None, words
    size, colour, category, where = found.groups()
    return [
        item
        for item, box in _boxes(scene).items()
        if item.category == category
        and colour in (None, item.colour)
        and size in (None, item.size)
        and (where is None or _is_at(where, box))
    ]


def _way(words: str, before: Box, after: Box) -> bool:
    right, down = after.left - before.left, after.top - before.top
    said = {"left": right < 0, "right": right > 0, "up": down < 0, "down": down > 0}
    return {word for word, true in said.items() if true} == set(words.split()) & set(said)


def _is_true(slot: str, words: str, pair: ChangedScene, change: Change) -> bool:
    """Whether the words in one slot are true of the pair."""
    before, after = change.before, change.after
    old = _boxes(pair.before)[before] if before else None
    new = _boxes(pair.after)[after] if after else None
    if slot.startswith("the"):
        unsaid = slot != "the_uncoloured" or not re.search(rf"\b({COLOUR})\b", words)
        return unsaid and _meant(words, pair.before) == [before]
    if slot.endswith("gone"):
        return _meant(words, pair.before) == [before] and not _meant(words, pair.after)
    if slot.endswith("come"):
        return _meant(words, pair.after) == [after] and not _meant(words, pair.before)
    if slot in ("where_before", "place_before"):
        return old is not None and _is_at(words, old)
    if slot in ("where", "place"):
        return new is not None and _is_at(words, new)
    if slot == "way":
        return old is not None and new is not None and _way(words, old, new)
    return _word_is_true(slot, words, pair, change)


def _word_is_true(slot: str, words: str, pair: ChangedScene, change: Change) -> bool:
    before, after = change.before, change.after
    category = (before or after).category  # type: ignore[union-attr]
    if slot in ("colour", "a_colour"):
        return after is not None and words.split()[-1] == after.colour
    if slot == "colour_before":
        return before is not None and words == before.colour
    if slot == "category":
        return words == category
    if slot == "plural":
        return words == {"bus": "buses", "cherry": "cherries", "fish": "fish"}.get(
            category, plural(category)
        )
    if slot == "twin_colour":
        others = {i for i in (*pair.before.objects, *pair.after.objects) if i.category == category}
        return [i.colour for i in others - {before, after}] == [words]
    side = {"first": ("first", "before", "left"), "second": ("second", "after", "right")}
    return slot == "picture" or words.split()[0] in side[slot]


def _claims(wording: str, text: str) -> list[tuple[str, str]]:
    """(slot, words) of a filled wording."""
    slots = slots_of(wording)
    pattern = re.escape(wording)
    for slot in slots:
        pattern = pattern.replace(re.escape(f"{{{slot}}}"), f"({PATTERNS[slot]})", 1)
    found = re.fullmatch(pattern, text)
    assert found is not None, (pattern, text)
    return list(zip(slots, found.groups(), strict=True))


@pytest.mark.parametrize(("table", "case"), WORDED)
def test_what_every_wording_says_is_true(table: Mapping, case: Case) -> None:
    assert len(EXAMPLES[case]) >= FILLS
    for wording in table[case]:
        for text, pair, change in _filled(case, wording):
            for slot, words in _claims(wording, text):
                assert _is_true(slot, words, pair, change), (text, slot, words, pair)


@pytest.mark.parametrize(("table", "case"), WORDED)
def test_every_wording_is_grammatical(table: Mapping, case: Case) -> None:
    texts = [text for wording in table[case] for text, _, _ in _filled(case, wording)]
    assert len(texts) == FILLS * len(table[case])
    for text in texts:
        assert re.fullmatch(r"[a-z]+(?: [a-z]+)*", text), text
        assert not re.search(r"\b([a-z]+) \1\b", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text
        assert not re.search(r"\b(?:an?|the|another) (?:an?|the|another)\b", text), text
        many = {plural(name) for name in CATEGORIES} - {"fish"}
        for word in re.findall(r"\b(?:an?|another|one|second) ([a-z]+)", text):
            assert word not in many, text
        for word in re.findall(r"\b(?:two|are no|are no more) ([a-z]+)", text):
            assert word in {*many, "fish", "more"}, text


def test_sizes_and_cases_are_told_the_right_way_round() -> None:
    for case, grows in ((Case.enlarged, True), (Case.reduced, False)):
        for pair, change in EXAMPLES[case]:
            old, new = _boxes(pair.before)[change.before], _boxes(pair.after)[change.after]
            assert (new.width * new.height > old.width * old.height) == grows
    for pair, change in EXAMPLES[Case.last_removed]:
        assert change.before.category not in {item.category for item in pair.after.objects}
    for case, side in ((Case.twin_removed, "after"), (Case.twin_added, "before")):
        for pair, change in EXAMPLES[case]:
            name = (change.before or change.after).category
            assert [i.category for i in getattr(pair, side).objects].count(name) == 1


def test_a_sentence_comes_in_many_wordings() -> None:
    assert sum(map(len, DIFFERENCES.values())) == 97
    assert sum(map(len, INSTRUCTIONS.values())) == 75
    for table in (DIFFERENCES, INSTRUCTIONS):
        assert all(len(set(wordings)) == len(wordings) for wordings in table.values())
        assert all(slot in SLOTS for ws in table.values() for w in ws for slot in slots_of(w))
    assert set(DIFFERENCES) == set(Case)
    assert set(Case) - set(INSTRUCTIONS) == {Case.last_removed}


@pytest.mark.parametrize("case", list(Case))
def test_sentences_and_instructions_are_wordings_of_their_case(case: Case) -> None:
    rng = np.random.default_rng(1)
    for pair, change in EXAMPLES[case][:20]:
        cases = cases_of(pair, change)
        for table, text in (
            (DIFFERENCES, change_sentence(pair, change, rng)),
            (INSTRUCTIONS, plain_words(edit_instruction(pair, change, rng))),
        ):
            bare = re.sub(r"^(?:please|can you) | please$", "", text)
            assert any(_matches(w, bare) for c in cases for w in table.get(c, ())), text


def _matches(wording: str, text: str) -> bool:
    try:
        return bool(_claims(wording, text)) or wording == text
    except AssertionError:
        return False


def test_people_type_in_many_manners() -> None:
    rng = np.random.default_rng(2)
    typed = [as_typed("remove the dog", rng) for _ in range(4000)]
    shares = {
        "capital": np.mean([text[0].isupper() for text in typed]),
        "full stop": np.mean([text.rstrip().endswith(".") for text in typed]),
        "question": np.mean([text.rstrip().endswith("?") for text in typed]),
        "polite": np.mean(["please" in text.lower() for text in typed]),
        "blank": np.mean([text != text.strip() for text in typed]),
    }
    expected = {"capital": 0.55, "full stop": 0.39, "question": 0.03, "polite": 0.08, "blank": 0.03}
    assert shares == pytest.approx(expected, abs=0.03)
    assert {plain_words(text) for text in typed} == {
        "remove the dog",
        "please remove the dog",
        "remove the dog please",
        "can you remove the dog",
    }
    assert {"Remove the dog.", "remove the dog", "Can you remove the dog?"} <= set(typed)


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("cat", "cats"),
        ("fish", "fish"),
        ("bus", "buses"),
        ("cherry", "cherries"),
        ("strawberry", "strawberries"),
        ("butterfly", "butterflies"),
        ("key", "keys"),
        ("sofa", "sofas"),
        ("television", "televisions"),
        ("house", "houses"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert plural(noun) == many

"""Changed nouns of caption pairs, and which crop is tested with which."""

import pytest

from imgdiff.core.records import Side
from imgdiff.synth.nouns import ChangedNouns, NounSide, changed_nouns, is_noun, words_to_match


@pytest.mark.parametrize(
    ("left", "right", "only_left", "only_right"),
    [
        (
            "A plane in the sky flying alone.",
            "A boat in the ocean sailing alone.",
            ("plane", "sky"),
            ("boat", "ocean"),
        ),
        ("Two dogs play.", "Two cats play.", ("dog",), ("cat",)),
        ("A dog runs", "Dogs run", (), ()),  # lemmas are compared: "runs" is "run"
        ("a man and a child", "a man and children", (), ()),
        ("a red car", "a blue car", (), ()),
        ("a small red apple", "a small red cherry", ("apple",), ("cherry",)),
        ("A dog-walker", "A cat", ("dogwalker",), ("cat",)),
        ("a fire truck", "a hot air balloon", ("fire", "truck"), ("air", "balloon")),
        ("a dog and a dog", "a cat and a cat", ("dog", "dog"), ("cat", "cat")),
        ("an old blorgh", "an old car", ("blorgh",), ("car",)),
        ("leaves fall", "knives fall", ("leaf",), ("knife",)),
        ("", "", (), ()),
        ("", "a dog", (), ("dog",)),
        ("!!! ... ???", "42 7 1", (), ()),
        ("a  dog\n\non a\tmat", "a dog on a mat", (), ()),
        ("🐶 a dog", "🐶 a cat", ("dog",), ("cat",)),
        ("כלב", "a dog", ("כלב",), ("dog",)),
        ("the man quickly sits", "the man slowly sits", (), ()),
        ("he sits by his boat", "she sits by her boat", (), ()),
        ("A building", "A sailing", ("building",), ()),
    ],
)
def test_changed_nouns(
    left: str, right: str, only_left: tuple[str, ...], only_right: tuple[str, ...]
) -> None:
    assert changed_nouns(left, right) == ChangedNouns(left=only_left, right=only_right)


def test_long_captions_are_quick() -> None:
    left = " ".join(f"word{i}" for i in range(200))
    right = " ".join(f"other{i}" for i in range(200))
    assert changed_nouns(left, right) == ChangedNouns(left=(), right=())  # ids with digits


@pytest.mark.parametrize(
    ("word", "noun"),
    [
        ("plane", True), ("dog", True), ("umbrella", True), ("grass", True), ("light", True),
        ("iphone", True), ("orange", True), ("building", True), ("person", True),
        ("red", False), ("black", False), ("large", False), ("the", False), ("two", False),
        ("flying", False), ("wooden", False), ("quickly", False), ("3", False), ("", False),
        ("with", False), ("his", False), ("parked", False),
    ],
)  # fmt: skip
def test_isolated_nouns(word: str, noun: bool) -> None:
    assert is_noun(word) is noun


LEFT, RIGHT = ("plane",), ("boat",)


@pytest.mark.parametrize(
    ("noun_side", "box_side", "texts"),
    [
        (NounSide.correct, Side.LEFT, (LEFT, RIGHT)),
        (NounSide.correct, Side.RIGHT, (LEFT, RIGHT)),
        (NounSide.head, Side.LEFT, (LEFT, RIGHT)),
        (NounSide.head, Side.RIGHT, (RIGHT, LEFT)),
        (NounSide.pre_2025_03, Side.LEFT, (RIGHT, LEFT)),
        (NounSide.pre_2025_03, Side.RIGHT, (LEFT, RIGHT)),
    ],
)
def test_which_crop_is_tested_with_which_nouns(
    noun_side: NounSide, box_side: Side, texts: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    assert words_to_match(ChangedNouns(left=LEFT, right=RIGHT), noun_side, box_side) == texts


def _released_matching(swap_lists: bool, box_side: Side) -> tuple[tuple[str, ...], ...]:
    """The released procedure spelled out: crops (own, other) against list 1 and list 2."""
    first_list, second_list = (RIGHT, LEFT) if swap_lists else (LEFT, RIGHT)
    if box_side is Side.LEFT:  # crops: left image, right image
        return first_list, second_list
    return second_list, first_list  # crops: right image, left image


@pytest.mark.parametrize("box_side", list(Side))
def test_profiles_agree_with_the_released_procedure(box_side: Side) -> None:
    nouns = ChangedNouns(left=LEFT, right=RIGHT)
    assert words_to_match(nouns, NounSide.head, box_side) == _released_matching(False, box_side)
    assert words_to_match(nouns, NounSide.pre_2025_03, box_side) == _released_matching(
        True, box_side
    )

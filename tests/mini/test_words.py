"""Questions about words alone."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from imgdiff.mini.language import parse_caption
from imgdiff.mini.shapes import CATEGORIES
from imgdiff.mini.words import word_turn

TURNS = [word_turn(np.random.default_rng(number)) for number in range(2000)]


def test_all_kinds_are_asked() -> None:
    counts = Counter(turn.skill for turn in TURNS)
    assert set(counts) == {"like", "word_choice", "writing"}
    assert min(counts.values()) > 300


def test_every_word_is_said() -> None:
    said = {word for turn in TURNS for word in re.findall(r"\w+", turn.answer.lower())}
    assert set(CATEGORIES) <= said


def test_answers_are_right() -> None:
    for turn in TURNS:
        if turn.skill == "writing":
            assert parse_caption(turn.answer).objects
        elif turn.skill == "like":
            asked, other = turn.question.rstrip(".").split()[-1], turn.answer.rstrip(".").split()[1]
            assert CATEGORIES[asked] == CATEGORIES[other]
            assert asked != other
        else:
            found = re.search(r"(\w+)\? \(a\) (\w+) \(b\) (\w+)\n", turn.question)
            assert found is not None
            asked, *options = found.groups()
            right, wrong = options if turn.answer == "A" else options[::-1]
            assert right != wrong
            if turn.question.startswith("Which word"):
                assert right == asked
            else:
                assert CATEGORIES[right] == CATEGORIES[asked] != CATEGORIES[wrong]

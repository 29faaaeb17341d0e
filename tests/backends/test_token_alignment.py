"""Alignment and column maps, against maps written out by hand."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import tiny_sdxl

from imgdiff.backends.token_alignment import (
    PadMap,
    Prompt,
    aligned,
    changed_tokens,
    read_prompt,
    refine_map,
    replace_map,
)

WINDOW = 16


def prompt(text: str, lengths: dict[str, int] | None = None) -> Prompt:
    """Words as tokens; a word listed in `lengths` is cut into so many."""
    words = tuple(text.split())
    ids: list[int] = []
    spans = []
    for word in words:
        count = (lengths or {}).get(word, 1)
        spans.append((len(ids) + 1, len(ids) + count + 1))
        ids += [hash((word, part)) for part in range(count)]
    return Prompt(text=text, words=words, spans=tuple(spans), ids=tuple(ids))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (
            "a plane in the sky flying alone .",
            "a boat in the ocean sailing alone .",
            [0, -1, 2, 3, -1, -1, 6, 7],
        ),
        ("a very large red bus in the street", "a bus in the street", [0, 4, 5, 6, 7]),
        ("a bus", "a very large bus", [0, -1, -1, 1]),
        ("one two", "three four five", [-1, -1, -1]),
        ("a b", "b a", [1, -1]),  # equal scores: an insertion before a match
        ("the cat and the dog", "the dog and the cat", [0, -1, 2, 3, -1]),
        ("", "a b", [-1, -1]),
        ("a b", "", []),
        ("same words here", "same words here", [0, 1, 2]),
    ],
)
def test_changed_words_are_never_aligned(source: str, target: str, expected: list[int]) -> None:
    assert aligned(prompt(source).ids, prompt(target).ids) == expected


def test_an_alignment_keeps_as_many_tokens_as_can_be_kept() -> None:
    dice = random.Random(0)
    for _ in range(200):
        source = tuple(dice.randrange(4) for _ in range(dice.randrange(9)))
        target = tuple(dice.randrange(4) for _ in range(dice.randrange(9)))

        @cache
        def common(i: int, j: int, a: tuple[int, ...] = source, b: tuple[int, ...] = target) -> int:
            if i == len(a) or j == len(b):
                return 0
            here = 1 + common(i + 1, j + 1) if a[i] == b[j] else 0
            return max(here, common(i + 1, j), common(i, j + 1))

        found = aligned(source, target)
        kept = [(i, j) for j, i in enumerate(found) if i >= 0]
        assert all(source[i] == target[j] for i, j in kept)
        assert [i for i, _ in kept] == sorted({i for i, _ in kept})
        assert len(kept) == common(0, 0)


def columns(made) -> list[dict[int, float] | str]:
    """Per target position what it takes of which source position, or that it keeps its own."""
    return [
        {int(i): float(made.mix_KK[i, j]) for i in made.mix_KK[:, j].nonzero()[0]}
        if made.taken_K[j]
        else "own"
        for j in range(len(made.taken_K))
    ]


def test_refine_takes_aligned_columns_and_keeps_new_ones() -> None:
    source, target = prompt("a plane in the sky"), prompt("a large boat in the sky")
    made = columns(refine_map(source, target, WINDOW, PadMap.identity))
    one = [{i: 1.0} for i in range(WINDOW)]
    assert made == [
        one[0], one[1], "own", "own", one[3], one[4], one[5], one[6], *one[8:],
    ]  # fmt: skip


def test_padding_of_a_shorter_target_takes_no_words_unless_as_in_the_reference() -> None:
    source, target = prompt("a very large red bus in the street"), prompt("a bus in the street")
    one = [{i: 1.0} for i in range(WINDOW)]
    head = [one[0], one[1], one[5], one[6], one[7], one[8], one[9]]
    ours = columns(refine_map(source, target, WINDOW, PadMap.identity))
    assert ours == [*head, "own", "own", "own", *one[10:]]
    # The facts' measured case: pads 7, 8 and 9 take `the`, `street` and the end token.
    theirs = columns(refine_map(source, target, WINDOW, PadMap.reference))
    assert theirs == [*head, *one[7:]]


def test_replace_pairs_tokens_or_shares_them() -> None:
    lengths = {"giraffe": 3, "hippopotamus": 2}
    source, target = prompt("a cat sits", lengths), prompt("a giraffe sits", lengths)
    made = columns(replace_map(source, target, 9, PadMap.identity))
    third = {2: pytest.approx(1 / 3)}
    own_pads: list[object] = [{i: 1.0} for i in (7, 8)]
    assert made == [{0: 1.0}, {1: 1.0}, third, third, third, {3: 1.0}, {4: 1.0}, *own_pads]
    source, target = prompt("a giraffe sits", lengths), prompt("a hippopotamus sits", lengths)
    made = columns(replace_map(source, target, 9, PadMap.identity))
    half = {2: 0.5, 3: 0.5, 4: 0.5}
    assert made == [{0: 1.0}, {1: 1.0}, half, half, {5: 1.0}, {6: 1.0}, "own", {7: 1.0}, {8: 1.0}]


def test_the_reference_forgets_the_shift_behind_the_last_replaced_word() -> None:
    lengths = {"giraffe": 3}
    source, target = prompt("a cat sits", lengths), prompt("a giraffe sits", lengths)
    made = replace_map(source, target, 9, PadMap.reference)
    assert columns(made)[5:] == [{5: 1.0}, {6: 1.0}, {7: 1.0}, {8: 1.0}]
    swapped = replace_map(target, source, 9, PadMap.reference)
    # Its loop ends with the source's columns: the last ones of the target take nothing.
    assert columns(swapped)[3:] == [{3: 1.0}, {4: 1.0}, {5: 1.0}, {6: 1.0}, {}, {}]


@pytest.mark.parametrize("pad_map", list(PadMap))
@pytest.mark.parametrize("make", [refine_map, replace_map])
def test_equal_prompts_map_onto_themselves(make, pad_map) -> None:
    same = prompt("a cat on a mat")
    made = make(same, same, WINDOW, pad_map)
    np.testing.assert_array_equal(made.mix_KK, np.eye(WINDOW))
    np.testing.assert_array_equal(made.taken_K, np.ones(WINDOW))


@pytest.mark.parametrize("make", [refine_map, replace_map])
def test_prompts_are_cut_where_the_encoder_cuts_them(make) -> None:
    source = prompt(" ".join(f"w{n}" for n in range(40)))
    target = prompt(" ".join(["other", *(f"w{n}" for n in range(1, 40))]))
    made = make(source, target, WINDOW, PadMap.identity)
    assert made.mix_KK.shape == (WINDOW, WINDOW)
    kept = list(range(2, WINDOW))
    np.testing.assert_array_equal(made.mix_KK[kept, kept], 1.0)
    assert columns(made)[1] == ("own" if make is refine_map else {1: 1.0})


def test_changed_tokens_by_alignment_and_by_word() -> None:
    source, target = prompt("a cat on a mat", {"cat": 2}), prompt("a dog on a red mat")
    assert changed_tokens(source, target, by_word=False) == ([2, 3], [2, 5])
    target = prompt("a dog on a mat")
    assert changed_tokens(source, target, by_word=True) == ([2, 3], [2])


def test_a_prompt_is_read_in_words_and_tokens_of_the_real_tokenizer() -> None:
    tokenizer = tiny_sdxl.tokenizer()
    text = "A big Zebra's hat, a big zebra."
    read = read_prompt(tokenizer, text)
    assert read is not None
    assert tokenizer(text).input_ids[1:-1] == list(read.ids)
    assert [last - first for first, last in read.spans] == [
        len(tokenizer(word, add_special_tokens=False).input_ids) for word in read.words
    ]
    big = [position for k in (1, 5) for position in range(*read.spans[k])]
    assert read.positions_of("BIG", 77) == big
    assert read.positions_of("big zebra", 77) == list(range(read.spans[5][0], read.spans[6][1]))
    assert read.positions_of("hat", 77) == list(range(*read.spans[3]))
    assert read.positions_of("hat", read.spans[3][0] + 1) == []  # beyond what is seen
    assert read.positions_of("dog", 77) == read.positions_of("", 77) == []


class Joining:
    """A tokenizer that joins what white space parts, as CLIP's does not."""

    model_max_length = 77

    def __call__(self, text: str, **_: object) -> object:
        ids = [1, len(text), 2] if _.get("truncation") else [len(text)]
        return type("Encoding", (), {"input_ids": ids})


def test_tokens_that_do_not_follow_words_are_noticed() -> None:
    assert read_prompt(Joining(), "two words") is None

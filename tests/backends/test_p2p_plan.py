"""Step gates, schedules and refusals, against numbers written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_sdxl

from imgdiff.backends.p2p_plan import (
    EMPTY,
    EQUAL,
    NOT_THERE,
    OUTSIDE,
    UNEQUAL_LENGTHS,
    Edit,
    EditSettings,
    PairPlan,
    gate_table,
    plan_pair,
    refused,
    share_of,
)
from imgdiff.backends.protocols import Refusal

LONG = " ".join(["a cat"] * 60)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_sdxl.tokenizer()


def plan(tokenizer, source="a red cup", target="a red hat", **settings) -> PairPlan:
    made = plan_pair(tokenizer, source, target, EditSettings(**{"steps": 50} | settings))
    assert isinstance(made, PairPlan)
    return made


@pytest.mark.parametrize(("share", "rows"), [(1.0, 51), (0.8, 40), (0.0, 0), (0.5, 25)])
def test_the_gate_table_has_a_row_more_than_there_are_steps(share: float, rows: int) -> None:
    table = gate_table(50, 77, share, [])
    assert table.shape == (51, 77)
    np.testing.assert_array_equal(table.sum(axis=0), rows)
    np.testing.assert_array_equal(table[:rows], 1.0)


@pytest.mark.parametrize(
    ("share", "count", "whole"),
    [(0.4, 50, 20), (0.29, 100, 29), (0.4, 1, 0), (0.4, 4, 1), (1.0, 7, 7), (0.999, 50, 49)],
)
def test_shares_are_rounded_down(share: float, count: int, whole: int) -> None:
    assert share_of(share, count) == whole
    assert EditSettings(steps=count, self_replace=share).self_steps == whole


def test_a_word_may_have_a_schedule_and_a_weight_of_its_own(tokenizer) -> None:
    made = plan(
        tokenizer, "a red cup", "a red hat", cross_replace=0.5, word_shares={"red": 0.8},
        word_weights={"Hat": 2.0},
    )  # fmt: skip
    read = tokenizer("a red hat").input_ids
    red = 2  # "a" is one token of the mini tokenizer
    hat = len(read) - 2
    assert made.gates_RK[:, red].sum() == 40
    assert made.gates_RK[:, 1].sum() == made.gates_RK[:, 50].sum() == 25
    assert (made.weights_K[hat], made.weights_K[red], made.weights_K[0]) == (2.0, 1.0, 1.0)
    # Taken columns: weight where the gate is open; own ones: weight, or 1 once it is closed.
    assert made.mix_at(0)[red, red] == 1.0
    assert made.mix_at(30)[red, red] == 1.0
    assert made.mix_at(30)[1, 1] == made.mix_at(40)[red, red] == 0.0
    assert (made.own_at(0)[hat], made.own_at(30)[hat]) == (2.0, 1.0)
    assert (made.own_at(0)[1], made.own_at(30)[1]) == (0.0, 1.0)
    np.testing.assert_array_equal(made.own_at(50), made.own_at(999))


def test_the_changed_words_are_marked(tokenizer) -> None:
    made = plan(tokenizer, "a cup", "a hat", edit=Edit.replace)
    size = [len(tokenizer(word, add_special_tokens=False).input_ids) for word in ("cup", "hat")]
    assert made.source_changed_K.nonzero()[0].tolist() == list(range(2, 2 + size[0]))
    assert made.target_changed_K.nonzero()[0].tolist() == list(range(2, 2 + size[1]))


@pytest.mark.parametrize(
    ("source", "target", "settings", "reason", "detail"),
    [
        ("a cat", "a red cat", {"edit": Edit.replace}, UNEQUAL_LENGTHS, "2, 3"),
        ("a cat", "a dog", {"word_shares": {"cat": 0.5}}, NOT_THERE, "cat"),
        ("a cat", "a dog", {"word_weights": {"confetti": 2.0}}, NOT_THERE, "confetti"),
        (f"{LONG} on a mat", f"{LONG} on a rug", {}, OUTSIDE, "tokens"),
        (" ", "a dog", {}, EMPTY, "source"),
        ("a cat", "", {}, EMPTY, "target"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tokenizer, source, target, settings, reason, detail
) -> None:
    made = plan_pair(tokenizer, source, target, EditSettings(steps=5, **settings))
    assert isinstance(made, Refusal)
    assert made.reason == reason
    assert detail in made.detail


def test_a_long_caption_is_drawn_when_the_encoder_sees_the_change(tokenizer) -> None:
    made = plan(tokenizer, f"a mat {LONG}", f"a rug {LONG}")
    assert made.columns.mix_KK.shape == (77, 77)
    assert made.target_changed_K.nonzero()[0].max() < 8


def test_prompts_without_a_common_word_keep_begin_end_and_padding(tokenizer) -> None:
    made = plan(tokenizer, "red cup", "blue mug")
    assert made.columns.taken_K[0] == made.columns.taken_K[-1] == 1.0
    assert 0 < made.own_at(0).sum() < 12


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a cat", "a cat", EQUAL),
        ("A  cat", "a CAT", EQUAL),  # the encoder sees no difference
        ("", "a cat", EMPTY),
        ("a cat", "a dog", None),
    ],
)
def test_a_pair_needs_two_different_prompts(tokenizer, source, target, reason) -> None:
    found = refused(tokenizer, source, target)
    assert (found.reason if found else None) == reason

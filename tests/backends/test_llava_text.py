"""Our ids and labels are the authors', and ours stay right where theirs give up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from backends.reference_llava import (
    Turn,
    Verdict,
    adversarial_samples,
    everyday_samples,
    preprocess,
    verdict,
)
from small_vicuna import small_tokenizer

from imgdiff.backends.chat_templates import (
    IGNORED,
    Encoded,
    Exchange,
    encode,
    image_token_id,
    render_turns,
    truncated,
)
from imgdiff.backends.llava_weights import with_added_tokens
from imgdiff.core.errors import DataError

PER_IMAGE = 7
EVERYDAY_SAMPLES = 1_200


@pytest.fixture(scope="module")
def theirs() -> Any:
    return small_tokenizer()


@pytest.fixture(scope="module")
def ours() -> Any:
    return with_added_tokens(small_tokenizer())


def coded(tokenizer: Any, turns: list[Turn], with_image: bool) -> Encoded:
    exchanges = [Exchange(*turn) for turn in turns]
    return encode(tokenizer, exchanges, [PER_IMAGE] if with_image else [])


def spoken(turns: list[Turn]) -> list[str]:
    return [f"{answer}</s>" for _, answer in turns if answer]


def test_the_stand_in_behaves_as_llama_2_after_a_stop(theirs: Any) -> None:
    pieces = theirs.convert_ids_to_tokens(theirs("a</s>USER: b").input_ids)
    assert pieces == ["<s>", "▁a", "</s>", "USER", ":", "▁b"]
    alone = theirs.convert_ids_to_tokens(theirs("USER: b ASSISTANT: ").input_ids)
    assert alone == ["<s>", "▁US", "ER", ":", "▁b", "▁ASSISTANT", ":", "▁"]


def test_everyday_samples_are_equal(theirs: Any, ours: Any) -> None:
    image, checked = image_token_id(ours), Counter[bool]()
    for turns, with_image in everyday_samples(EVERYDAY_SAMPLES):
        reference = preprocess(theirs, turns, has_image=with_image)
        assert not reference.mismatch, turns
        mine = coded(ours, turns, with_image)
        assert (mine.input_ids, mine.labels) == reference.expanded(image, PER_IMAGE), turns
        checked[with_image] += 1
    assert sum(checked.values()) >= 1_000
    assert min(checked.values()) >= 300


def test_adversarial_samples_keep_their_labels(theirs: Any, ours: Any) -> None:
    """Ids are the authors' throughout; every answer carries its loss, whatever it says."""
    samples = adversarial_samples()
    assert len(samples) >= 200
    for _, turns, with_image in samples:
        reference = preprocess(theirs, turns, has_image=with_image)
        mine = coded(ours, turns, with_image)
        ids, _ = reference.expanded(image_token_id(ours), PER_IMAGE)
        assert mine.input_ids == ids, turns
        text = render_turns([Exchange(*turn) for turn in turns])
        assert [text.text[a + 1 : b] for a, b in text.answers] == spoken(turns)
        learned = [label for label in mine.labels if label != IGNORED]
        assert len(learned) >= 2 * len(turns), turns
        assert ours.decode(learned).replace(" ", "") == ours.decode(
            [i for turn in spoken(turns) for i in ours(turn, add_special_tokens=False).input_ids]
        ).replace(" ", ""), turns


# What the reference does with the texts of a kind, as counted here and with Llama 2's own
# tokenizer. It loses a sample to </s> and <unk> (the count fails) and to most role words, where the
# others get labels on the user's words.
GIVES_UP = {"stop sign", "unknown token", "role words"}


def test_what_the_authors_do_with_adversarial_samples(theirs: Any, ours: Any) -> None:
    found: dict[str, Counter[Verdict]] = {}
    for kind, turns, with_image in adversarial_samples():
        reference = preprocess(theirs, turns, has_image=with_image)
        mine = coded(ours, turns, with_image)
        _, labels = reference.expanded(image_token_id(ours), PER_IMAGE)
        found.setdefault(kind, Counter())[verdict(labels, mine.labels)] += 1
    assert {kind for kind, counts in found.items() if set(counts) != {Verdict.same}} == GIVES_UP
    assert set(found["stop sign"]) == set(found["unknown token"]) == {Verdict.all_masked}
    assert set(found["role words"]) == set(Verdict)


@pytest.mark.parametrize("question", ["a<image>b", "cat<image>", "<image><image>x", "<image>"])
def test_an_image_inside_a_word(theirs: Any, ours: Any, question: str) -> None:
    turns = [(question, "A dog."), ("Sure?", "Yes.")]
    reference = preprocess(theirs, turns, has_image=True)
    mine = coded(ours, turns, with_image=True)
    assert not reference.mismatch
    expected = reference.expanded(image_token_id(ours), PER_IMAGE)
    assert (mine.input_ids, mine.labels) == expected


def test_an_image_in_an_answer_is_refused_where_the_authors_place_a_second_one(
    theirs: Any, ours: Any
) -> None:
    turns = [("<image>\nWhat is it?", "look <image> here")]
    reference = preprocess(theirs, turns, has_image=True)
    assert reference.ids.count(-200) == 2
    with pytest.raises(DataError, match="the answer holds"):
        coded(ours, turns, with_image=True)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("What?", "")], Verdict.same),  # nothing to learn on either side
        ([("What?", ""), ("Sure?", "Yes.")], Verdict.same),
        ([("What?", "A dog."), ("Sure?", "")], Verdict.all_masked),
        ([("What?", "A dog."), ("", "Yes.")], Verdict.all_masked),
        ([("", "Yes.")], Verdict.all_masked),
    ],
)
def test_empty_messages(theirs: Any, ours: Any, turns: list[Turn], expected: Verdict) -> None:
    reference = preprocess(theirs, turns, has_image=False)
    mine = coded(ours, turns, with_image=False)
    assert mine.input_ids == reference.ids
    assert verdict(reference.labels, mine.labels) is expected
    answers = [i for t in spoken(turns) for i in ours(t, add_special_tokens=False).input_ids]
    assert [label for label in mine.labels if label != IGNORED] == answers


def test_the_blank_after_an_image(ours: Any) -> None:
    """Text after an image is a chunk of its own and begins with `▁`; in one piece it does not."""
    mine = coded(ours, [("<image>\nWhat?", "A dog.")], with_image=True)
    pieces = ours.convert_ids_to_tokens(mine.input_ids)
    last = len(pieces) - 1 - pieces[::-1].index("<image>")
    assert pieces[last + 1 : last + 3] == ["▁", "<0x0A>"]
    whole = render_turns([Exchange("<image>\nWhat?", "A dog.")]).text
    assert len(ours(whole).input_ids) == len(mine.input_ids) - (PER_IMAGE - 1) - 1


@pytest.mark.parametrize("limit", [40, 60, 90, 10_000])
def test_a_text_is_cut_as_the_authors_cut_it(theirs: Any, ours: Any, limit: int) -> None:
    cut = 0
    for turns, _ in [sample for sample in everyday_samples(150) if not sample[1]]:
        reference = preprocess(theirs, turns, has_image=False, max_length=limit)
        mine = truncated(coded(ours, turns, with_image=False), limit, image_token_id(ours))
        assert (mine.input_ids, mine.labels) == (reference.ids, reference.labels)
        cut += len(mine.input_ids) == limit
    assert (cut > 0) == (limit < 10_000)


def test_a_sample_with_an_image_is_cut_after_its_expansion(theirs: Any, ours: Any) -> None:
    image = image_token_id(ours)
    for turns, with_image in [sample for sample in everyday_samples(150) if sample[1]]:
        ids, labels = preprocess(theirs, turns, has_image=True).expanded(image, PER_IMAGE)
        mine = truncated(coded(ours, turns, with_image), 120, image)
        assert (mine.input_ids, mine.labels) == (ids[:120], labels[:120])


def test_no_cut_through_an_image(ours: Any) -> None:
    image = image_token_id(ours)
    whole = coded(ours, [("<image>\nWhat?", "A dog.")], with_image=True)
    end = max(place for place, token in enumerate(whole.input_ids) if token == image) + 1
    assert truncated(whole, end, image).input_ids == whole.input_ids[:end]
    for limit in (1, end - PER_IMAGE, end - 1):
        with pytest.raises(DataError, match=rf"{limit} tokens end before.*at least {end}\."):
            truncated(whole, limit, image)


def test_what_is_short_enough_stays(ours: Any) -> None:
    whole = coded(ours, [("What?", "A dog.")], with_image=False)
    assert truncated(whole, len(whole.input_ids), image_token_id(ours)) == whole
    assert truncated(whole, 1, image_token_id(ours)).supervised == 0

"""Answers that language models give to "replace one object", and what is made of each."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_vicuna import write_vicuna

from imgdiff.backends.configs import EditingModelConfig
from imgdiff.backends.edit_check import compare, same_thing
from imgdiff.backends.llm_editor import LlmEditorConfig, PromptProfile, judge

CAPTION = "A dog is sitting on a red sofa."
CAT = "A cat is sitting on a red sofa."


@pytest.mark.parametrize(
    "answer",
    [
        f"> {CAT}",
        f"# {CAT}",
        f"```\n{CAT}\n```",
        "A **cat** is sitting on a red sofa.",
        "A _cat_ is sitting on a red sofa.",
        'A "cat" is sitting on a red sofa.',
        "A 'cat' is sitting on a red sofa.",
        "A \u201ccat\u201d is sitting on a red sofa.",
        f"a) {CAT}",
        f"(1) {CAT}",
        f"\u2022 {CAT}",
        "A cat is sitting on a red sofa .",
        "A cat is sitting on a red sofa...",
        "A cat is sitting on a red sofa!!!",
        f"--- {CAT}",
        f"{CAT} </s></s>",
        f"I would say so.\n---\n'{CAT}'",
    ],
)
def test_wrappings_come_off(answer: str) -> None:
    assert judge(CAPTION, answer, LlmEditorConfig()).text == CAT


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (f"Sure! Here is the sentence: {CAT}", "chatter"),
        ("Sure, a cat is sitting on a red sofa.", "chatter"),
        (f"{CAT} Let me know if you need more.", "chatter"),
        (f'"{CAT}" (I replaced "dog" with "cat")', "chatter"),
        (f"### Response: {CAT}", "chatter"),
        (f"### Response:\n{CAT}", "chatter"),
        (f"Response:\n\n{CAT}", "chatter"),
        (f"ASSISTANT: {CAT}", "chatter"),
        (f"{CAT}\nUSER: Another one please", "chatter"),
        (f"{CAT}\n### Human:", "chatter"),
        (f"[INST] {CAT} [/INST]", "chatter"),
        (f"<answer>{CAT}</answer>", "chatter"),
        (f"Answer: '{CAT}'", "chatter"),
        (f"Option 1: {CAT}", "chatter"),
        (f"1. {CAT} 2. A bird is sitting on a red sofa.", "chatter"),
        (f"Great! {CAT}", "chatter"),
        (f"{CAT} \U0001f60a", "chatter"),
        ("A [cat] is sitting on a red sofa.", "chatter"),
        ("A cat (animal) is sitting on a red sofa.", "chatter"),
        ("A dog is replaced by a cat sitting on a red sofa.", "chatter"),
        ("A dog replaced by a cat.", "chatter"),
        ("I think a cat is sitting on a red sofa.", "rewritten"),
        ("Okay, a cat is sitting on a red sofa.", "rewritten"),
        ("A dog/cat is sitting on a red sofa.", "rewritten"),
        ("A cat or a bird is sitting on a red sofa.", "rewritten"),
        ("A cat and a bird are sitting on a red sofa.", "rewritten"),
        ("A cat is sitting on a red sofa instead.", "rewritten"),
        ("A cat is sitting on a red", "rewritten"),
        ("A cat is", "rewritten"),
        ("A cat is sitting on a red sofa and", "rewritten"),
        ("A cat is sitting on a chair.", "rewritten"),
        ("A dog is sitting on a red sofa with a cat.", "rewritten"),
        ("A sofa is sitting on a red dog.", "rewritten"),
        ("A dog is sitting under a red sofa.", "rewritten"),
        ("A cat's is sitting on a red sofa.", "rewritten"),
        ("A cat cat is sitting on a red sofa.", "rewritten"),
        ("The a cat is sitting on a red sofa.", "rewritten"),
        ("She is sitting on a red sofa.", "rewritten"),
        ("Un chien est assis sur un canap\u00e9 rouge.", "rewritten"),
        ("A dog is sitting on a blue sofa.", "not an object"),
        ("A dog is lying on a red sofa.", "not an object"),
        ("A cat sits on a red sofa.", "not an object"),
        ("A beautiful is sitting on a red sofa.", "not an object"),
        ("A running is sitting on a red sofa.", "not an object"),
        ("A dog is sitting on a red object.", "not an object"),
        ("A dog is sitting on a red ____.", "not an object"),
        ("An animal is sitting on a red sofa.", "not an object"),
        ("A \u732b is sitting on a red sofa.", "not an object"),
        ("A c\u0336a\u0336t\u0336 is sitting on a red sofa.", "not an object"),
        ("A \U0001f431 is sitting on a red sofa.", "not an object"),
        ("A dogs is sitting on a red sofa.", "same thing"),
        ("Two dogs are sitting on a red sofa.", "same thing"),
        ("A puppy is sitting on a red sofa.", "same thing"),
        ("A dog is sitting on a red couch.", "same thing"),
        (f"{CAT}---{CAPTION}", "unchanged"),
        (f"{CAT} ---", "empty answer"),
        (CAT * 40, "too long"),
        ("cat " * 5000, "too long"),
    ],
)
def test_what_is_refused(answer: str, reason: str) -> None:
    result = judge(CAPTION, answer, LlmEditorConfig())
    assert (result.text, result.refusal) == ("", reason)


@pytest.mark.parametrize(
    ("caption", "answer", "kept"),
    [
        ("A man rides a wave", "A man rides a horse", True),
        ("A man rides a horse", "A man walks a horse", False),
        ("A glass table", "A wooden table", False),
        ("A glass table", "A glass chair", True),
        ("An orange cat", "A lime cat", False),
        ("An orange on a plate", "A lime on a plate", True),
        ("A stop sign", "A street sign", True),
        ("A traffic light", "A traffic cone", True),
        ("A panda bear in a cage", "A brown bear in a cage", True),
        ("A laptop computer on a desk", "A computer monitor on a desk", True),
        ("A vase on a table", "A soda can on a table", True),
        ("A bus on a road", "A school bus on a road", False),
        ("two dogs on a bed", "three dogs on a bed", False),
        ("A man and his dog", "A woman and her dog", True),
        ("A man in a park", "A boy in a park", True),
        ("A woman walks her dog", "A woman walks her a cat", False),
        ("A giraffe looks at the camera .", "A zebra looks at the camera.", True),
        ("A boat , a dog and a man", "A boat, a cat and a man", True),
        ("Two pies on a stove\n.", "Two cakes on a stove\n.", True),
        ("A man throws a ball", "A man throws a frisbee", True),
        ("A man in a kitchen", "A man in a bathroom", True),
    ],
)
def test_names_and_other_words(caption: str, answer: str, kept: bool) -> None:
    assert bool(judge(caption, answer, LlmEditorConfig()).text) is kept


def test_what_was_exchanged() -> None:
    text, changes = compare("A red  dog , on a sofa", "a red Cat, on the sofa")
    assert text == "A red Cat, on the sofa"
    (change,) = changes
    assert (change.gone, change.come, change.before) == (("dog",), ("cat",), "red")


def test_people_are_not_kinds_of_each_other() -> None:
    assert not same_thing(["man"], ["boy"])
    assert not same_thing(["king"], ["queen"])
    assert same_thing(["person"], ["people"])
    assert same_thing(["bike"], ["bicycle"])
    assert same_thing(["poodle"], ["dog"])


def test_a_real_model_is_asked_in_batches_and_judged(tmp_path: Path) -> None:
    """Random weights babble: every answer is refused with a reason, the same in any batch."""
    folder = write_vicuna(tmp_path / "vicuna")
    captions = ["A red ball.", "A blue cup on a green table near a dog.", "...", "A cat."]
    seeds = [3, 2**40, 5, 7]
    for profile in PromptProfile:
        model = EditingModelConfig(
            model=str(folder), max_new_tokens=12, temperature=0.8, top_p=0.6, batch_size=3
        )
        with LlmEditorConfig(model=model, profile=profile).build() as editor:
            together = editor.edit(captions, seeds)
            alone = [editor.edit([c], [s])[0] for c, s in zip(captions, seeds, strict=True)]
        assert together == alone
        assert together[2].refusal == "caption has no letters"
        assert all(bool(each.text) != bool(each.refusal) for each in together)

"""Prompts of the three profiles, and answers a language model may give."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import pytest
from omegaconf import OmegaConf
from PIL import Image

from imgdiff.backends.configs import EditingModelConfig
from imgdiff.backends.llm_editor import (
    LlmEditor,
    LlmEditorConfig,
    PromptProfile,
    clean,
    judge,
    question,
)
from imgdiff.core.errors import ConfigError

CAPTION = "A dog is sitting on a red sofa."


class Parrot:
    """A Chat that gives prepared answers and remembers what it was asked."""

    identity = "parrot"

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.seeds: list[int] = []
        self.entered = 0

    def __enter__(self) -> Parrot:
        self.entered += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.entered -= 1

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        assert list(images) == [None] * len(questions)
        self.seeds = list(seeds or ())
        self.asked += questions
        return self.answers[: len(questions)]


@pytest.mark.parametrize(
    ("profile", "prompt"),
    [
        (
            PromptProfile.paper,
            "Here is a sentence: 'A dog.'. Please only replace one of the objects in this sentence "
            "with another object.",
        ),
        (
            PromptProfile.released_code,
            'Here is a sentence: "A dog.". Please replace one entity in this sentence with another '
            "entity, such as an animal, a vehicle, or a piece of furniture. Please only answer "
            "with the replaced sentence.",
        ),
        (
            PromptProfile.dj_recipe,
            'Here is a sentence: "A dog.". Please replace one entity in this sentence with another '
            "entity, such as an animal, a vehicle, a piece of furniture or other physically "
            "consistent object. Ensure the replaced sentence adheres to physical plausibility. "
            "Please only answer with the replaced sentence.",
        ),
    ],
)
def test_prompts_are_verbatim(profile: PromptProfile, prompt: str) -> None:
    assert question("A dog.", profile) == prompt


def test_quotes_and_braces_in_a_caption_do_not_break_the_prompt() -> None:
    asked = question('A sign says "STOP {now}".', PromptProfile.released_code)
    assert asked.startswith("Here is a sentence: \"A sign says 'STOP {now}'.\". Please")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("A cat is sitting on a red sofa.", "A cat is sitting on a red sofa."),
        ("A cat is sitting on a red sofa", "A cat is sitting on a red sofa."),
        ("a cat is sitting on a red sofa.", "A cat is sitting on a red sofa."),
        ('"A cat is sitting on a red sofa."', "A cat is sitting on a red sofa."),
        ("'A cat is sitting on a red sofa.'", "A cat is sitting on a red sofa."),
        ("“A cat is sitting on a red sofa.”", "A cat is sitting on a red sofa."),
        ("**A cat is sitting on a red sofa.**", "A cat is sitting on a red sofa."),
        ("`A cat is sitting on a red sofa.`", "A cat is sitting on a red sofa."),
        ("- A cat is sitting on a red sofa.", "A cat is sitting on a red sofa."),
        ("1. A cat is sitting on a red sofa.", "A cat is sitting on a red sofa."),
        ("Thinking.\n---\nA cat is sitting on a red sofa.", "A cat is sitting on a red sofa."),
        ("A cat is sitting on a red sofa.</s>", "A cat is sitting on a red sofa."),
        ("<s> A cat is sitting on a red sofa.\nEND", "A cat is sitting on a red sofa."),
        ("A cat is sitting on a red sofa.<|im_end|>", "A cat is sitting on a red sofa."),
        ("  A cat  is sitting on a red sofa.\n\n", "A cat is sitting on a red sofa."),
        ("An elephant is sitting on a red sofa.", "An elephant is sitting on a red sofa."),
        ("Two cats are sitting on a red sofa.", "Two cats are sitting on a red sofa."),
        ("A dog is sitting on a red fire truck.", "A dog is sitting on a red fire truck."),
        ("A DOG IS SITTING ON A RED CAR.", "A dog is sitting on a red CAR."),
        ("A dog is sitting on a red fireplace.", "A dog is sitting on a red fireplace."),
        ("A dog is sitting on a red sofá.", "A dog is sitting on a red sofá."),
    ],
)
def test_good_answers(answer: str, text: str) -> None:
    assert judge(CAPTION, answer, LlmEditorConfig()).text == text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty answer"),
        ("   \n ", "empty answer"),
        ("...", "empty answer"),
        ("</s>", "empty answer"),
        ('""', "empty answer"),
        ("---", "empty answer"),
        ("🐱", "empty answer"),
        (CAPTION, "unchanged"),
        (CAPTION.lower(), "unchanged"),
        (f'"{CAPTION}"', "unchanged"),
        ("A dog is sitting on a red sofa!", "unchanged"),
        ("The dog is sitting on the red sofa.", "unchanged"),
        ("Sure, here is the sentence: A cat is sitting on a red sofa.", "chatter"),
        ("Sure! A cat is sitting on a red sofa.", "chatter"),
        ("Here's the new one: A cat is sitting on a red sofa.", "chatter"),
        ("Replaced sentence: A cat is sitting on a red sofa.", "chatter"),
        ("The modified sentence is: A cat is sitting on a red sofa.", "chatter"),
        ("The dog becomes a cat.", "chatter"),
        ("I replaced the dog with a cat.", "chatter"),
        ("A cat is sitting on a red sofa. I replaced dog with cat.", "chatter"),
        ("A cat is sitting on a red sofa. It looks happy.", "chatter"),
        ("A cat is sitting on a red sofa.\nA bird is sitting on a red sofa.", "chatter"),
        ("A cat is sitting on a red sofa. (dog -> cat)", "chatter"),
        ("A cat is sitting on a red sofa (instead of a dog).", "chatter"),
        ("I'm sorry, I cannot do that.", "chatter"),
        ("As an AI language model, I can not see images.", "chatter"),
        ("Output: A cat is sitting on a red sofa.", "chatter"),
        ("dog → cat", "chatter"),
        ("Which object should change?", "chatter"),
        ('"A cat is sitting on a red sofa." is the answer', "chatter"),
        ('{"output": "A cat is sitting on a red sofa."}', "chatter"),
        ("Original: A dog is sitting on a red sofa. New: A cat.", "chatter"),
        ("A cat is sitting on a red sofa " + "and " * 60, "too long"),
        ("A cat is lying on a red sofa.", "rewritten"),
        ("A cat is sitting on a red car.", "rewritten"),
        ("A cat is sitting on a blue sofa.", "rewritten"),
        ("A dog and a cat are sitting on a red sofa.", "rewritten"),
        ("A dog is sitting.", "rewritten"),
        ("A dog is sitting on a big red sofa.", "rewritten"),
        ("Birds fly over the quiet sea at night", "rewritten"),
        ("cat", "rewritten"),
        ("Ein Hund sitzt auf einem roten Sofa.", "rewritten"),
        ("一只猫坐在红色的沙发上", "rewritten"),
        ("A dog is sitting on a very long and winding country road at night.", "rewritten"),
    ],
)
def test_answers_that_fall(answer: str, reason: str) -> None:
    result = judge(CAPTION, answer, LlmEditorConfig())
    assert (result.text, result.refusal) == ("", reason)


@pytest.mark.parametrize(
    ("caption", "answer", "text"),
    [
        ("A fireplace in a room", "A stove in a room", "A stove in a room"),
        ("A man next to a fireplace", "A dog next to a fireplace", "A dog next to a fireplace"),
        ("a dog and a dog", "a cat and a cat", "a cat and a cat"),
        (
            'A sign that says "STOP" on a pole.',
            "A clock that says 'STOP' on a pole.",
            'A clock that says "STOP" on a pole.',
        ),
        ("A note on the original door", "A note on the original car", "A note on the original car"),
        ("A man. He smiles.", "A woman. She smiles.", "A woman. She smiles."),
        ("What is that? A dog", "What is that? A cat", "What is that? A cat"),
        ("Time: 3pm, a dog", "Time: 3pm, a cat", "Time: 3pm, a cat"),
        ("a man\u2019s hat", "a man's shoe", "a man\u2019s shoe"),
    ],
)
def test_the_caption_decides_what_is_usual(caption: str, answer: str, text: str) -> None:
    assert judge(caption, answer, LlmEditorConfig()).text == text


@pytest.mark.parametrize(
    ("answer", "text", "reason"),
    [
        ("A cat is lying on a car. It smiles.", "A cat is lying on a car. It smiles.", ""),
        (CAPTION, CAPTION, ""),
        ("A dog by a fireplace", "", "chatter"),  # as released: "replac" anywhere
        ("Nothing has become clear", "", "chatter"),
        ("The replaced sentence:\n---\nA dog.", "", "chatter"),
        ("Here:\n---\n'A dog.'</s>", "'A dog.'", ""),
        ("", "", "empty answer"),
    ],
)
def test_unchecked_keeps_what_the_released_code_keeps(answer: str, text: str, reason: str) -> None:
    result = judge(CAPTION, answer, LlmEditorConfig(checked=False))
    assert (result.text, result.refusal) == (text, reason)


def test_only_the_text_after_the_last_rule_counts() -> None:
    assert clean("a --- b --- 'c d'") == "c d"


def test_quotes_inside_an_answer_stay() -> None:
    assert clean('"STOP" is on a sign saying "GO"') == '"STOP" is on a sign saying "GO"'


def test_the_editor_asks_once_for_all_and_keeps_places() -> None:
    chat = Parrot(["A cat.", "Sure!"])
    editor = LlmEditor(LlmEditorConfig(), chat)
    with editor:
        assert chat.entered == 1
        results = editor.edit(["A dog.", "?!", "A cow."], [1, 2, 3])
    assert chat.entered == 0
    assert [r.text or r.refusal for r in results] == ["A cat.", "caption has no letters", "chatter"]
    assert chat.asked == [question(text, PromptProfile.paper) for text in ("A dog.", "A cow.")]
    assert chat.seeds == [1, 3]
    assert editor.edit(["..."], [1])[0].refusal == "caption has no letters"


def test_identity_names_model_and_settings() -> None:
    chat = Parrot([])
    one = LlmEditor(LlmEditorConfig(), chat).identity
    other = LlmEditor(LlmEditorConfig(profile=PromptProfile.dj_recipe), chat).identity
    assert "parrot" in one
    assert one != other


def test_the_checkpoint_is_named_by_its_own_key() -> None:
    config = LlmEditorConfig(model=EditingModelConfig(model="some/where"))
    needed = config.needed()
    assert (needed.key, needed.model) == ("editor.model.model", "some/where")


def test_it_composes() -> None:
    made = OmegaConf.merge(
        OmegaConf.structured(LlmEditorConfig), {"profile": "dj_recipe", "model": {"top_p": 0.6}}
    )
    config = OmegaConf.to_object(made)
    assert isinstance(config, LlmEditorConfig)
    assert config.profile is PromptProfile.dj_recipe
    assert (config.model.top_p, config.model.max_new_tokens) == (0.6, 128)


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"editor\.max_changed_words=0: must be at least 1"):
        LlmEditorConfig(max_changed_words=0)
    with pytest.raises(ConfigError, match=r"editor\.max_words=0: must be at least 1"):
        LlmEditorConfig(max_words=0)

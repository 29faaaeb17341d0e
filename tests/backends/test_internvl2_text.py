"""InternVL2's templates: text, images, ids, labels, and the reference's rule on many samples."""

# ruff: noqa: RUF001 - full-width marks are part of the texts
from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import internvl2_reference as reference
import pytest
from internvl2_toy import KINDS, internvl2_toy

from imgdiff.backends.chat_templates import IGNORED, Exchange
from imgdiff.backends.internvl2_text import (
    HERMES_2,
    INTERNLM2_CHAT,
    TEMPLATES,
    encode,
    render_turns,
    show_images,
    template_named,
    token_id,
)
from imgdiff.backends.internvl2_tokenizer import open_tokenizer
from imgdiff.core.errors import BackendError, DataError

BY_KIND = {"internlm2": INTERNLM2_CHAT, "qwen2": HERMES_2}
SYSTEM = f"<|im_start|>system\n{reference.SYSTEM}<|im_end|>"


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    parent: Path = tmp_path_factory.mktemp("toys")
    return {kind: open_tokenizer(internvl2_toy(parent, kind)) for kind in KINDS}


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


def _learned(tokenizer: Any, labels: list[int]) -> str:
    return tokenizer.decode([label for label in labels if label != IGNORED])


def test_text_of_two_turns_has_no_new_line_between() -> None:
    turns = [Exchange("<image>\nWhat is it?", "A cat."), Exchange("Sure?", "Yes.")]
    expected = (
        f"{SYSTEM}<|im_start|>user\n<image>\nWhat is it?<|im_end|><|im_start|>assistant\nA cat."
        "<|im_end|><|im_start|>user\nSure?<|im_end|><|im_start|>assistant\nYes.<|im_end|>"
    )
    for template in TEMPLATES.values():
        rendered = render_turns(turns, template)
        assert rendered.text == expected
        answers = [rendered.text[a:b] for a, b in rendered.answers]
        assert answers == ["A cat.<|im_end|>", "Yes.<|im_end|>"]


def test_templates_differ_in_opening_and_stripping() -> None:
    assert set(TEMPLATES) == {"internlm2-chat", "Hermes-2"}
    assert (INTERNLM2_CHAT.opening, HERMES_2.opening) == ("<s>", "")
    turns = [Exchange(" a ", " b\n")]
    assert render_turns(turns, INTERNLM2_CHAT).text.endswith(
        "user\na<|im_end|><|im_start|>assistant\nb<|im_end|>"
    )
    assert render_turns(turns, HERMES_2).text.endswith(
        "user\n a <|im_end|><|im_start|>assistant\n b\n<|im_end|>"
    )
    assert "InternVL, 是" in INTERNLM2_CHAT.system  # an ASCII comma and a blank


@pytest.mark.parametrize("name", ["internvl2_5", "phi3-chat", "", None, 3])
def test_other_templates_are_refused(name: object) -> None:
    with pytest.raises(BackendError, match=r"template=.*internlm2-chat or Hermes-2"):
        template_named(name)


@pytest.mark.parametrize(
    ("questions", "images", "first"),
    [
        (["What?"], 1, "<image>\nWhat?"),
        (["What?"], 2, "<image>\nWhat?"),  # one marker; the count is checked afterwards
        (["What?"], 0, "What?"),
        ([""], 1, "<image>\n"),
        (["<image>What?"], 1, "<image>What?"),
        (["What?", "And <image>?"], 1, "What?"),
        (["What? <IMAGE>"], 1, "<image>\nWhat? <IMAGE>"),
    ],
)
def test_an_image_that_no_question_shows_comes_first(
    questions: list[str], images: int, first: str
) -> None:
    turns = [Exchange(question, "a") for question in questions]
    shown = show_images(turns, images)
    assert shown[0] == Exchange(first, "a")
    assert shown[1:] == tuple(turns[1:])
    assert show_images([], images) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_image_is_framed_and_expanded(tokenizers: dict[str, Any], kind: str) -> None:
    coded = encode(tokenizers[kind], [Exchange("What?", "No.")], [3], BY_KIND[kind])
    pieces = _pieces(tokenizers[kind], coded.input_ids)
    start = pieces.index("<img>")
    assert pieces[start : start + 5] == ["<img>", *["<IMG_CONTEXT>"] * 3, "</img>"]
    assert pieces[: 2 if kind == "internlm2" else 1][-1] == "<|im_start|>"
    assert pieces.count("<s>") == (1 if kind == "internlm2" else 0)
    assert _learned(tokenizers[kind], coded.labels) == "No.<|im_end|>"


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_is_the_beginning_of_the_training_ids(tokenizers: dict[str, Any], kind: str) -> None:
    turns = [Exchange("What is it?", "A cat."), Exchange("Sure?", "Yes, it is.")]
    whole = encode(tokenizers[kind], turns, [2], BY_KIND[kind])
    asked = [turns[0], Exchange("Sure?")]
    prompt = encode(tokenizers[kind], asked, [2], BY_KIND[kind])
    length = len(prompt.input_ids)
    assert whole.input_ids[:length] == prompt.input_ids
    assert tokenizers[kind].decode(whole.input_ids[length:]) == "Yes, it is.<|im_end|>"
    assert all(label >= 0 for label in whole.labels[length:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reserved", ["<|im_end|>", "<|im_start|>", "<IMG_CONTEXT>"])
def test_reserved_words_of_a_message_stay_text(
    tokenizers: dict[str, Any], kind: str, reserved: str
) -> None:
    """They neither end a turn nor claim an image; answer and text come back whole."""
    tokenizer, template = tokenizers[kind], BY_KIND[kind]
    turns = [Exchange(f"Is {reserved}{reserved} it?", f"{reserved}a {reserved}")]
    coded = encode(tokenizer, turns, [2], template)
    plain = encode(tokenizer, [Exchange("Is it?", "a b")], [2], template)
    special = token_id(tokenizer, reserved)
    assert coded.input_ids.count(special) == plain.input_ids.count(special)
    assert _learned(tokenizer, coded.labels) == f"{reserved}a {reserved}<|im_end|>"
    assert f"Is {reserved}{reserved} it?" in tokenizer.decode(coded.input_ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("turns", "counts", "message"),
    [
        ([Exchange("<image> a", "b")], [], r"shows 1 image\(s\) but 0 were given"),
        ([Exchange("a", "b")], [1, 1], r"shows 1 image\(s\) but 2 were given"),
        ([Exchange("<image>", "b"), Exchange("<image>", "b")], [1], "shows 2"),
        ([Exchange("<image>", "an <image>")], [1, 1], "turn 1: the answer holds '<image>'"),
        ([Exchange("a", "b"), Exchange("c", "<image>")], [1], "turn 2: the answer holds"),
        ([Exchange("a"), Exchange("c", "d")], [], "turn 1 has no answer, yet turns follow"),
        ([], [1], r"shows 0 image\(s\) but 1"),
        ([Exchange("a", "b"), Exchange("c \ud83d", "d")], [], r"turn 2 holds '\\ud83d', one half"),
        ([Exchange("a", "\udc00")], [], r"turn 1 holds '\\udc00'.*Repair"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tokenizers: dict[str, Any], kind: str, turns: list[Exchange], counts: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode(tokenizers[kind], turns, counts, BY_KIND[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_empty_messages(tokenizers: dict[str, Any], kind: str) -> None:
    tokenizer, template = tokenizers[kind], BY_KIND[kind]
    text = render_turns([Exchange("", ""), Exchange("", "x")], template).text
    bare = "<|im_start|>user\n<|im_start|>assistant\n"
    assert text == f"{SYSTEM}{bare}{bare}x<|im_end|>"
    coded = encode(tokenizer, [Exchange("a", "b"), Exchange("c", "")], [], template)
    assert _learned(tokenizer, coded.labels) == "b<|im_end|>"  # the first keeps its loss
    assert encode(tokenizer, [Exchange("a", "")], [], template).supervised == 0


def test_a_foreign_tokenizer_is_refused() -> None:
    from imgdiff.mini.build.llama_tokenizer import build_tokenizer

    with pytest.raises(BackendError, match=r"no <img> token.*tokenizer files"):
        encode(build_tokenizer(pieces=420), [Exchange("a", "b")], [1], INTERNLM2_CHAT)


WORDS = (
    "What is different between the two images There is a red cat on the left Yes No it isn't 2 17 "
    "3.5 (a) left, right; dog! ! ?! ... 左边有一只猫 右边没有！ 猫。 🐱 👩‍👩‍👧 é naïve ﬁ A\u0301 "
    "x=1; {y} <b> </s2> | im_end # `code` https://a.b/c?d=e \t --- \n \n\n :\n İ ß"
).split(" ")  # fmt: skip


def _message(rng: random.Random, *, trimmed: bool) -> str:
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
    text = rng.choice(["", "", "", "\n", "  ", "\n\n", " \n"]) + text if not trimmed else text
    return text if text.strip() else "a"


def _sample(rng: random.Random, *, trimmed: bool) -> tuple[list[tuple[str, str]], list[int]]:
    turns = [
        (_message(rng, trimmed=trimmed), _message(rng, trimmed=trimmed))
        for _ in range(rng.randint(1, 4))
    ]
    counts = [rng.randint(1, 5) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    if len(counts) == 2 or (counts and rng.random() < 0.5):
        shown = "".join(rng.choice(["<image>\n", "Image: <image> "]) for _ in counts)
        turns[0] = (shown + turns[0][0], turns[0][1])
    return turns, counts


@pytest.mark.parametrize("trimmed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_labels_follow_the_reference(
    tokenizers: dict[str, Any], kind: str, trimmed: bool
) -> None:
    """1,000 multi-turn samples each; the reference masks none of them."""
    tokenizer, template = tokenizers[kind], BY_KIND[kind]

    def tokenise(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    rules: dict[str, Callable[[str], tuple[list[int], list[int]]]] = {
        "internlm2": lambda text: reference.internlm_ids(text, tokenise, tokenizer.bos_token_id),
        "qwen2": lambda text: reference.mpt_ids(text, tokenise),
    }
    rng = random.Random(f"{kind}-{trimmed}")
    for _ in range(1000):
        turns, counts = _sample(rng, trimmed=trimmed)
        ids, labels = rules[kind](reference.prompt(turns, counts, strips=template.strips))
        coded = encode(tokenizer, [Exchange(*turn) for turn in turns], counts, template)
        assert coded.input_ids == ids, turns
        assert coded.labels == labels, turns
        assert any(label != IGNORED for label in labels)


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_reference_loses_a_sample(tokenizers: dict[str, Any], kind: str) -> None:
    """The restated rule does mask whole samples; ours keeps them."""
    tokenizer, template = tokenizers[kind], BY_KIND[kind]

    def tokenise(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    turns = [("What?", "A cat."), ("Sure <|im_end|> so?", ""), ("Why?", "No.")]
    text = reference.prompt(turns, [], strips=template.strips)
    if kind == "qwen2":
        labels = reference.mpt_ids(text, tokenise)[1]
        assert set(labels) == {IGNORED}
    coded = encode(tokenizer, [Exchange(*turn) for turn in turns], [], template)
    assert _learned(tokenizer, coded.labels) == "A cat.<|im_end|>No.<|im_end|>"

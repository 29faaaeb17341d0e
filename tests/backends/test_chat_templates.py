"""The vicuna_v1 template: text, image placement, chunks, labels."""

from __future__ import annotations

from typing import Any

import pytest

from imgdiff.backends.chat_templates import (
    IGNORED,
    LLAVA_V1,
    TEMPLATES,
    VICUNA_V1,
    Exchange,
    encode,
    encode_prompt,
    image_token_id,
    place_image,
    render_turns,
)
from imgdiff.core.errors import BackendError, DataError
from imgdiff.mini.build.llama_tokenizer import build_tokenizer

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
IMAGE = "<image>\n"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return build_tokenizer()


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


def test_text_of_two_turns() -> None:
    turns = [Exchange(f"{IMAGE}What is it?", "A cat."), Exchange("Sure?", "Yes.")]
    assert render_turns(turns).text == (
        f"{SYSTEM} USER: <image>\nWhat is it? ASSISTANT: A cat.</s>USER: Sure? ASSISTANT: Yes.</s>"
    )


def test_prompt_ends_where_the_answer_begins() -> None:
    text = render_turns([Exchange("What is it?")]).text
    assert text == f"{SYSTEM} USER: What is it? ASSISTANT:"


def test_spans_cover_answer_and_stop() -> None:
    rendered = render_turns([Exchange("Is it?", "Yes."), Exchange("So?", "No.")])
    assert [rendered.text[a:b] for a, b in rendered.answers] == [" Yes.</s>", " No.</s>"]


def test_templates_differ_in_the_system_prompt() -> None:
    assert VICUNA_V1.system == SYSTEM
    assert "curious human" in LLAVA_V1.system
    assert render_turns([Exchange("a")], LLAVA_V1).text.startswith(LLAVA_V1.system + " USER: a")
    assert set(TEMPLATES) == {"vicuna_v1", "llava_v1"}


@pytest.mark.parametrize(
    ("message", "placed"),
    [
        ("What is it?", "What is it?"),
        ("  spaces stay  ", "  spaces stay  "),
        ("<image>\nWhat is it?", "<image>\nWhat is it?"),
        ("What is it?\n<image>", "<image>\nWhat is it?"),
        ("Look <image> here ", "<image>\nLook  here"),
        ("<image><image>\nTwo?", "<image>\nTwo?"),  # several collapse to one
        ("<image>", "<image>"),
        ("\n <image> \n", "<image>"),
        ("<Image>\nno marker", "<Image>\nno marker"),
        ("", ""),
    ],
)
def test_image_placement(message: str, placed: str) -> None:
    assert place_image(message) == placed


def test_labels_of_two_turns(tokenizer: Any) -> None:
    turns = [Exchange(f"{IMAGE}What is it?", "A small cat."), Exchange("Sure?", "Yes.")]
    coded = encode(tokenizer, turns, [5])
    supervised = [i for i, label in zip(coded.input_ids, coded.labels, strict=True) if label >= 0]
    expected = ["▁A", "▁small", "▁cat", ".", "</s>", "▁Yes", ".", "</s>"]
    assert _pieces(tokenizer, supervised) == expected
    assert coded.supervised == len(expected)
    kept = [label for label in coded.labels if label != IGNORED]
    assert kept == supervised


def test_chunks_are_tokenised_apart(tokenizer: Any) -> None:
    ids = encode_prompt(tokenizer, f"{IMAGE}What is it?", [3])
    pieces = _pieces(tokenizer, ids)
    first = pieces.index("<image>")
    assert pieces[0] == "<s>"
    assert pieces.count("<s>") == 1
    # the reference's `▁ [IMG] ▁ <0x0A> What`: a blank before the image and one after it
    assert pieces[first - 1 : first + 5] == ["▁", *["<image>"] * 3, "▁", "<0x0A>"]
    assert pieces[-1] == ":"


def test_prompt_is_the_beginning_of_the_training_text(tokenizer: Any) -> None:
    prompt = encode_prompt(tokenizer, f"{IMAGE}What is it?", [4])
    coded = encode(tokenizer, [Exchange(f"{IMAGE}What is it?", "A cat.")], [4])
    assert coded.input_ids[: len(prompt)] == prompt
    assert coded.labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert coded.supervised == len(coded.input_ids) - len(prompt)


def test_history_is_part_of_the_prompt(tokenizer: Any) -> None:
    history = [Exchange(f"{IMAGE}What is it?", "A cat.")]
    prompt = encode_prompt(tokenizer, "Sure?", [4], history=history)
    whole = encode(tokenizer, [*history, Exchange("Sure?", "Yes.")], [4])
    assert whole.input_ids[: len(prompt)] == prompt


NASTY = [
    ("plain", "What?", "A cat.", " A cat.</s>"),
    ("stop sign in the answer", "What?", "a</s>b", " a</s>b</s>"),
    ("role words in the answer", "What?", "USER: x ASSISTANT: y", " USER: x ASSISTANT: y</s>"),
    ("role words in the question", "say ASSISTANT: no", "no", " no</s>"),
    ("stop sign in the question", "a</s>b", "c", " c</s>"),
    ("unknown token", "<unk>?", "<unk>", " <unk></s>"),
    ("padding token", "<pad>?", "<pad>", " <pad></s>"),
    ("begin token", "<s>?", "<s>", " <s></s>"),
    ("bytes", "é漢🙂?", "🙂 漢é", " 🙂 漢é</s>"),
    ("line ends", "a\nb\r\n", "x\n\ny\n", " x\n\ny\n</s>"),
    ("blanks", "  a  ", "  b  ", "   b  </s>"),
    ("byte spelling", "<0x0A>", "<0x41>", " <0x41></s>"),
    ("digits", "1 2", "12.50", " 12.50</s>"),
    ("long", "a " * 500, "b " * 500, " " + "b " * 500 + "</s>"),
    ("direction marks", "\u202eabc", "\u200bx", " \u200bx</s>"),
]


@pytest.mark.parametrize(
    ("question", "answer", "span"), [n[1:] for n in NASTY], ids=[n[0] for n in NASTY]
)
def test_nasty_texts(tokenizer: Any, question: str, answer: str, span: str) -> None:
    turns = [Exchange(IMAGE + question, answer), Exchange(question, answer)]
    rendered = render_turns(turns)
    assert [rendered.text[a:b] for a, b in rendered.answers] == [span, span]
    coded = encode(tokenizer, turns, [2])
    assert len(coded.input_ids) == len(coded.labels)
    assert coded.input_ids.count(image_token_id(tokenizer)) == 2
    assert coded.labels[-1] == tokenizer.eos_token_id
    kept = [label for label in coded.labels if label != IGNORED]
    half = len(kept) // 2
    assert kept[:half] == kept[half:]  # both turns are supervised alike
    alone = tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert half >= len(alone)


@pytest.mark.parametrize("answer", [None, ""])
def test_nothing_to_learn_from_no_answer(tokenizer: Any, answer: str | None) -> None:
    coded = encode(tokenizer, [Exchange("What?", answer)])
    assert coded.supervised == 0
    assert render_turns([Exchange("What?", answer)]).text.endswith("ASSISTANT:")


def test_empty_question_is_its_role_alone() -> None:
    assert render_turns([Exchange("", "Yes.")]).text == f"{SYSTEM} USER:ASSISTANT: Yes.</s>"


@pytest.mark.parametrize(
    ("turns", "counts", "message"),
    [
        ([Exchange("What?", "x")], [4], r"shows 0 image\(s\) but 1 were given"),
        ([Exchange(f"{IMAGE}What?", "x")], [], r"shows 1 image\(s\) but 0"),
        ([Exchange(f"{IMAGE}{IMAGE}Two?", "x")], [4, 4], r"shows 1 image\(s\) but 2"),
        ([Exchange("What?", "see <image>")], [4], r"turn 1: the answer holds '<image>'"),
    ],
)
def test_images_must_match(
    tokenizer: Any, turns: list[Exchange], counts: list[int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        encode(tokenizer, turns, counts)


def test_two_images_in_two_messages(tokenizer: Any) -> None:
    turns = [Exchange(f"{IMAGE}One?", "a"), Exchange(f"{IMAGE}Two?", "b")]
    ids = encode(tokenizer, turns, [2, 3]).input_ids
    marks = [index for index, i in enumerate(ids) if i == image_token_id(tokenizer)]
    assert len(marks) == 5
    assert marks[2] - marks[1] > 1


def test_tokenizer_without_an_image_token() -> None:
    from transformers import LlamaTokenizer

    bare = LlamaTokenizer(vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4}, merges=[])
    with pytest.raises(BackendError, match="no <image> token"):
        encode(bare, [Exchange(f"{IMAGE}a", "a")], [2])

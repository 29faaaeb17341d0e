"""What an answer chooses, and above all what it does not.

The letters of the tables were set by hand: None wherever a careful reader would hesitate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imgdiff.eval.answers import choice_letter

TABLE = Path(__file__).parent.parent / "goldens" / "answers.jsonl"
ROWS = [json.loads(line) for line in TABLE.read_text("utf-8").splitlines()]
ANIMALS = {"a": "cat", "b": "dog"}
SIDES = {"a": "Left", "b": "Right"}
POSES = {"a": "Standing", "b": "Not standing"}
TRUCK = {"a": "Yes", "b": "No"}
FOUR = {"a": "red", "b": "green", "c": "blue", "d": "dark blue"}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A", "a"),
        ("b", "b"),
        ("B.", "b"),
        ("b)", "b"),
        ("(b)", "b"),
        ("( b )", "b"),
        ("[B]", "b"),
        ("{B}", "b"),
        ("**B**", "b"),
        ("**(B)** dog", "b"),
        ("(B)dog", "b"),
        ("$\\boxed{B}$", "b"),
        ("\uff08\uff42\uff09", "b"),  # full-width brackets and letter
        ("  \n B \n", "b"),
        ("A. cat", "a"),
        ("a) cat", "a"),
        ("A: cat", "a"),
        ("B - dog", "b"),
        ("B dog", "b"),
        ("a cat", "a"),
        ("B, because the dog is brown", "b"),
        ("B\n\nExplanation: (a) is wrong.", "b"),
        ("The answer is (a).", "a"),
        ("The answer is A", "a"),
        ("the answer is: b", "b"),
        ("The correct answer is option B.", "b"),
        ("Answer: B", "b"),
        ("Answer: (b) dog", "b"),
        ("Option A", "a"),
        ("I choose (a)", "a"),
        ("I pick B.", "b"),
        ("B is correct", "b"),
        ("(a) is the right one? No: (b) is correct.", "b"),
        ("(a) shows a cat and (b) a dog. So the answer is (b).", "b"),
        ("It is on the sofa on the left (b)", "b"),
        ("The panda is standing, so (b)", "b"),
        ("not (a) but (b)", "b"),
        ("The answer is (a), not (b).", "a"),
        ("dog", "b"),
        ("Dog.", "b"),
        ("A dog", "b"),
        ("It is a black dog.", "b"),
        ("There is a CAT at the top left.", "a"),
        ("A black dog", "b"),
        ("", None),
        ("   ", None),
        ("?", None),
        ("C", None),
        ("(c)", None),
        ("Both", None),
        ("AB", None),
        ("A and B", None),
        ("A or B", None),
        ("A, B", None),
        ("A/B", None),
        ("(a) or (b)", None),
        ("(a) and (b)", None),
        ("Answer: (a) or (b)", None),
        ("The answer is (a). No, the answer is (b).", None),
        ("The answer is not (a).", None),
        ("It is not (a)", None),
        ("(a) dog", None),
        ("B. cat", None),
        ("The answer is a bird", None),
        ("A photo of a bird facing left", None),
        ("a bird", None),
        ("A black bird", None),
        ("A cat and a dog", None),
        ("It could be a cat", None),
        ("It is not a cat", None),
        ("I cannot tell whether it is a cat", None),
        ("Sorry, I can't see a dog", None),
        ("catalogue", None),
        ("hotdog", None),
        ("What is at the top left? (a) cat (b) dog", None),
        ("An abacus", None),
        ("(b", "b"),
        ("(b) is not correct", None),
        ("B is wrong", None),
        ("(a) is incorrect, so (b)", "b"),
        ("Option A is wrong.", None),
        ("<b>B</b>", "b"),
        ("The dog isn't a cat", None),
        ("not " * 5000 + "a cat", None),
        ("ASSISTANT: ", None),
        ("a a a a a a", None),
        ("\0\0", None),
        ("🐱", None),
    ],
)
def test_two_animals(answer: str, letter: str | None) -> None:
    assert choice_letter(answer, ANIMALS) == letter


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("A photo of a cat facing left", SIDES, "a"),
        ("(B)Left", SIDES, None),
        ("Right now it faces left", SIDES, None),
        ("Yes, there is a truck in the picture.", TRUCK, "a"),
        ("No.", TRUCK, "b"),
        ("No, there is no truck.", TRUCK, "b"),
        ("There is no doubt that a truck is there", TRUCK, None),
        ("Nothing", TRUCK, None),
        ("yesterday", TRUCK, None),
        ("No. 5", TRUCK, None),
        ("Yes and no", TRUCK, None),
        ("yes or no", TRUCK, None),
        ("Yes, no doubt", TRUCK, "a"),
        ("No, no truck", TRUCK, "b"),
        ("Standing", POSES, "a"),
        ("Not standing", POSES, "b"),
        ("He is not standing.", POSES, "b"),
        ("(b) Not standing", POSES, "b"),
        ("He is never standing", POSES, None),
        ("dark blue", FOUR, "d"),
        ("It is blue", FOUR, "c"),
        ("D. dark blue", FOUR, "d"),
        ("D. blue", FOUR, None),
        ("the answer is c", FOUR, "c"),
        ("blue or green", FOUR, None),
        ("reddish", FOUR, None),
    ],
)
def test_other_options(answer: str, options: dict[str, str], letter: str | None) -> None:
    assert choice_letter(answer, options) == letter


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_the_reviewed_table(row: dict[str, object]) -> None:
    assert choice_letter(row["answer"], row["options"]) == row["letter"]  # type: ignore[arg-type]


WORDS = ("cup", "plate", "fork", "knife", "spoon")
FORMS: dict[str, Callable[[str, str], str]] = {
    "small": lambda letter, _: letter,
    "capital": lambda letter, _: letter.upper(),
    "dot": lambda letter, _: f"{letter.upper()}.",
    "bracket": lambda letter, _: f"{letter.upper()})",
    "brackets": lambda letter, _: f"({letter})",
    "square": lambda letter, _: f"[{letter.upper()}]",
    "text": lambda letter, text: f"({letter}) {text}",
    "dot text": lambda letter, text: f"{letter.upper()}. {text.capitalize()}",
    "colon text": lambda letter, text: f"{letter.upper()}: {text}",
    "line text": lambda letter, text: f"{letter.upper()}\n{text}",
    "option": lambda letter, _: f"Option {letter.upper()}",
    "answer": lambda letter, _: f"Answer: {letter.upper()}",
    "statement": lambda letter, _: f"The correct answer is ({letter})",
    "bare statement": lambda letter, _: f"The answer is {letter.upper()}",
    "stated text": lambda letter, text: f"The answer is {letter.upper()}. {text}",
    "verdict": lambda letter, _: f"({letter}) is correct",
    "pick": lambda letter, _: f"I would choose {letter.upper()}",
    "end": lambda letter, text: f"There is a {text} on the table, so the answer is ({letter})",
    "its text": lambda _, text: text,
    "article": lambda _, text: f"A {text}",
    "sentence": lambda _, text: f"There is a {text} on the table",
    "box": lambda letter, _: rf"$\boxed{{{letter.upper()}}}$",
    "json": lambda letter, _: json.dumps({"answer": letter}),
    "tag": lambda letter, _: f"<think>a, b or c?</think><answer>{letter.upper()}</answer>",
    "full width": lambda letter, _: "\uff08" + chr(ord(letter) + 0xFEE0) + "\uff09",
    "question": lambda letter, _: f"Is it a cup or a plate? ({letter})",
}
ENDINGS = (
    "{}",
    "{} ",
    "{}\n\n",
    " {}",
    "{}.",
    "**{}**",
    "`{}`",
    "{}</s>",
    "{}<|im_end|>",
    "\u200f{}",
)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_usual_forms_give_their_letter(count: int, form: str, ending: str) -> None:
    """And swapping two options with their letters swaps the result."""
    options = dict(zip("abcde"[:count], WORDS, strict=False))
    for letter, text in options.items():
        answer = ending.format(FORMS[form](letter, text))
        assert choice_letter(answer, options) == letter, answer
    swapped = {**options, "a": options["b"], "b": options["a"]}
    if form in ("its text", "article", "sentence"):
        assert choice_letter(ending.format(FORMS[form]("", "cup")), swapped) == "b"


def test_blanks_at_the_ends_change_nothing() -> None:
    for row in ROWS:
        answer = row["answer"]
        for changed in (
            f"{answer} \n\t",
            f"\n  {answer}",
            f"\ufeff{answer}\u200b",
            f"{answer}</s>",
        ):
            assert choice_letter(changed, row["options"]) == row["letter"], row["id"]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("style", ["({}) {}", "{}. {}", "{}: {}", "{}) {}"])
@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_repeated_list_of_options_says_nothing(count: int, style: str, between: str) -> None:
    options = dict(zip("abcde"[:count], WORDS, strict=False))
    listed = between.join(style.format(letter.upper(), text) for letter, text in options.items())
    assert choice_letter(listed, options) is None
    assert choice_letter(f"What is it?\n{listed}", options) is None
    for letter in options:
        assert choice_letter(f"{listed}\n({letter})", options) == letter
        assert choice_letter(f"What is it? {listed}\nAnswer: {letter}", options) == letter


def test_the_order_of_the_options_means_nothing() -> None:
    for row in ROWS:
        echoes = sum(text.lower() in row["answer"].lower() for text in row["options"].values()) > 1
        if not echoes:  # a list of the options is known by its order
            backwards = dict(reversed(row["options"].items()))
            assert choice_letter(row["answer"], backwards) == row["letter"], row["id"]


def test_text_without_letter_and_option_chooses_nothing() -> None:
    rng = np.random.default_rng(0)
    vocabulary = (
        "the answer is not in this picture there are two large brown birds on water , . ! : ( ) ? "
        "an option of so or and both correct yes no final it I think because at 7 11 \n - / \\ { }"
    ).split(" ")
    for _ in range(3000):
        text = " ".join(rng.choice(vocabulary, size=rng.integers(1, 25)))
        assert choice_letter(text, ANIMALS) is None, text


def test_any_characters_are_read() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1500):
        codes = rng.integers(0, sys.maxunicode + 1, size=rng.integers(1, 30))
        near = rng.choice(
            list("aAbB().,:;?!\n\\{}[]<>/\"'*_#$-+& \u0661\u1369\u00b2\u2474"), size=20
        )
        mixed = [*map(chr, codes), *near]
        rng.shuffle(mixed)
        assert choice_letter("".join(mixed), ANIMALS) in (None, "a", "b")


@pytest.mark.timeout(60)  # seconds for all; quadratic growth would take far longer
def test_long_answers_are_read_to_their_end() -> None:
    for unit in (
        "(",
        ")",
        "[",
        "<",
        "{",
        "((a",
        "word ",
        "\n",
        "\\",
        '"',
        ">#",
        "so the my ",
        "one two ",
    ):
        filler = unit * (20_000 // len(unit))
        assert choice_letter(filler, ANIMALS) is None or "a" in unit
        assert choice_letter(f"{filler}\nFinal answer: (b)", ANIMALS) == "b", unit
    assert choice_letter("word " * 5000 + "(b)", ANIMALS) == "b"
    assert choice_letter("B\n" + "word " * 5000, ANIMALS) == "b"
    assert choice_letter("the answer is (a) " * 500, ANIMALS) == "a"
    assert choice_letter("the answer is (a) " * 500 + "the answer is (b)", ANIMALS) is None
    assert choice_letter("<think>" * 3000 + "(b)", ANIMALS) is None
    assert choice_letter("(" * 100_000, ANIMALS) is None
    assert choice_letter("B" + " " * 200_000, ANIMALS) is None  # too long to be read


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("black and white dog", None),
        ("It is a black and white dog.", None),
        ("the black or white dog", None),
        ("a dog, black and white", None),
        ("big and white dog", "b"),
        ("It is the white dog.", "b"),
        ("a black dog", "a"),
    ],
)
def test_words_shared_by_two_options_name_neither(answer: str, letter: str | None) -> None:
    assert choice_letter(answer, {"a": "a black dog", "b": "a white dog"}) == letter

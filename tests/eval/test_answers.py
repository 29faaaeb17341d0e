"""What an answer chooses, and above all what it does not."""

from __future__ import annotations

import pytest

from imgdiff.eval.answers import choice_letter

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
        ("(a) is the right one? No: (b) is correct.", None),
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
        ("(b", None),
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
        ("Yes and no", TRUCK, None),
        ("yes or no", TRUCK, None),
        ("Yes, no doubt", TRUCK, None),
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

"""The rules of a row: a table of nasty rows, and what becomes of `<image>`."""

from __future__ import annotations

from typing import Any

import pytest
from plan_parts import ASK, PLAIN, SAY

from imgdiff.core.errors import DataError
from imgdiff.train.samples import Defect, parse_row
from imgdiff.train.source_config import Pairs


def human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        (None, "not an object", "NoneType, must be an object"),
        ([], "not an object", "list, must be an object"),
        ({}, "no conversations", "alternates"),
        ({"conversations": "x"}, "no conversations", "."),
        ({"conversations": {"from": "human"}}, "no conversations", "."),
        ({"conversations": [ASK, {"from": "gpt"}]}, "no conversations", "."),
        ({"conversations": [ASK, {"from": "gpt", "value": 3}]}, "no conversations", "."),
        ({"conversations": [ASK, {"from": None, "value": "x"}]}, "no conversations", "."),
        ({"conversations": []}, "no alternation", "."),
        ({"conversations": [ASK]}, "no alternation", "'human'"),
        ({"conversations": [SAY]}, "no alternation", "."),
        ({"conversations": [ASK, ASK]}, "no alternation", "."),
        ({"conversations": [ASK, SAY, SAY]}, "no alternation", "."),
        ({"conversations": [ASK, SAY, ASK]}, "no alternation", "."),
        ({"conversations": [SAY, SAY, ASK, SAY]}, "no alternation", "."),
        ({"conversations": [*PLAIN, {"from": "system", "value": "x"}, SAY]}, "no alternation", "."),
        ({"conversations": [ASK, {"from": "robot", "value": "x"}]}, "unknown role", "'robot'"),
        ({"conversations": [ASK, {"from": "GPT", "value": "x"}]}, "unknown role", "'GPT'"),
        ({"conversations": [human("?"), {"from": "gpt", "value": " \n"}]}, "no answer", "empty"),
        ({"conversations": PLAIN, "video": "a.mp4"}, "video", "not supported"),
        ({"conversations": PLAIN, "image": ""}, "image field", "''"),
        ({"conversations": PLAIN, "image": 3}, "image field", "3"),
        ({"conversations": PLAIN, "image": ["a", None]}, "image field", "None"),
        ({"conversations": PLAIN, "image": {"bytes": 1}}, "image field", "need a path"),
        ({"conversations": [ASK, SAY]}, "image tokens", "1 <image> in 1 .* 0 image"),
        ({"conversations": [ASK, SAY, ASK, SAY], "image": "a"}, "image tokens", "2 <image> in 2"),
        ({"conversations": [human("<image>" * 3), SAY], "image": ["a", "b"]}, "image tokens", "3"),
        ({"conversations": [ASK, SAY], "image": ["a", "b", "c"]}, "image tokens", "3 image"),
        ({"conversations": [human("x"), human("<image>")]}, "no alternation", "."),
        ({"conversations": [ASK, {"from": "gpt", "value": "<image>"}], "image": "a"},
         "image in an answer", "only a question"),
        ({"conversations": [human("\ud83d"), SAY]}, "not Unicode", "half a character"),
        ({"conversations": PLAIN, "id": "\udc00"}, "not Unicode", "."),
        ({"conversations": PLAIN, "image": "\udc00"}, "not Unicode", "."),
    ],
)  # fmt: skip
def test_a_bad_row_is_a_defect_with_its_reason(row: Any, reason: str, message: str) -> None:
    with pytest.raises(Defect, match=message) as caught:
        parse_row(3, row, Pairs.concatenate)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("questions", "images", "pairs", "shown"),
    [
        (["What?"], 0, "concatenate", ["What?"]),
        (["What?"], 1, "concatenate", ["<image>\nWhat?"]),
        (["What?", "And?"], 1, "concatenate", ["<image>\nWhat?", "And?"]),
        (["What? <image>"], 1, "concatenate", ["What? <image>"]),
        (["A", "<image>\nB"], 1, "concatenate", ["A", "<image>\nB"]),
        (["<image>\n<image>\nB <image>"], 1, "concatenate", ["<image>\nB "]),
        (["Differ?"], 2, "concatenate", ["<image>\nDiffer?"]),
        (["<image>\nDiffer?"], 2, "concatenate", ["<image>\nDiffer?"]),
        (["<image>\n<image>\nDiffer?"], 2, "concatenate", ["<image>\nDiffer?"]),
        (["<image>\nA", "<image>\nB"], 2, "concatenate", ["<image>\nA", "B"]),
        (["Differ?"], 2, "separate", ["<image>\n<image>\nDiffer?"]),
        (["<image>\nA", "<image>\nB"], 2, "separate", ["<image>\nA", "<image>\nB"]),
        (["<image><image><image>"], 3, "concatenate", ["<image><image><image>"]),
    ],
)
def test_images_in_the_text(
    questions: list[str], images: int, pairs: str, shown: list[str]
) -> None:
    turns = [turn for question in questions for turn in (human(question), SAY)]
    row: dict[str, Any] = {"conversations": turns, "image": ["a", "b", "c"][:images]}
    draft = parse_row(0, row, Pairs(pairs))
    assert list(draft.texts[::2]) == shown
    assert draft.images == ("a", "b", "c")[:images]


def test_pairs_that_stay_two_need_two_tokens() -> None:
    with pytest.raises(Defect, match="1 <image>"):
        parse_row(0, {"conversations": [ASK, SAY], "image": ["a", "b"]}, Pairs.separate)


def test_good_rows_of_every_kind() -> None:
    plain = [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]
    assert parse_row(7, {"conversations": plain}, Pairs.separate).id == "7"
    assert parse_row(7, {"conversations": plain, "id": 0}, Pairs.separate).id == "0"
    for first in (SAY, {"from": "system", "value": "Be kind."}):
        draft = parse_row(0, {"conversations": [first, *plain]}, Pairs.separate)
        assert draft.texts == ("Hi", "Hello")
    half = [*plain, human("And?"), {"from": "gpt", "value": ""}]
    assert parse_row(0, {"conversations": half}, Pairs.separate).texts[2:] == ("And?", "")


def test_words_and_bytes() -> None:
    turns = [human("<image>\nWhat  is\tit?"), {"from": "gpt", "value": "Zwei Fl\u00fcsse \ufdfa"}]
    draft = parse_row(0, {"conversations": turns, "image": "a"}, Pairs.separate)
    assert draft.words == 4 + 3
    question, answer = (turn["value"] for turn in turns)
    # U+FDFA is 3 bytes, and 33 in the form that some tokenizers take.
    assert draft.text_bytes == len(question) + len(answer.encode()) + 30


def test_errors_are_of_the_house() -> None:
    assert not issubclass(Defect, DataError)  # a verdict on a row becomes one only by policy

"""Small finished evaluations for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgdiff.eval.records import CaptionAnswer, ChoiceAnswer, Run

OPTIONS = {"a": "Open", "b": "Closed"}


def caption_answer(id: str, answer: str, **changes: Any) -> CaptionAnswer:
    values: dict[str, Any] = {
        "id": id, "kind": "", "images": (), "prompt": "What changed?", "answer": answer,
        "references": ("a car left", "the car is gone"),
        "scores": {"bleu_4": 0.1, "rouge_l": 0.4, "cider_d": 1.5},
    }  # fmt: skip
    return CaptionAnswer(**(values | changes))


def caption_run(answers: Sequence[CaptionAnswer] = (), label: str = "ours", **changes: Any) -> Run:
    held: dict[str, Any] = {
        "benchmark": "spot_the_diff", "procedural": False, "protocol": "merged", "split": "test",
        "label": label, "n": 1270,
        "scores": {"bleu_4": 0.0834, "meteor": None, "rouge_l": 0.2735, "cider_d": 0.43157},
        "intervals": {
            "bleu_4": {"low": 0.0746, "high": 0.0925}, "cider_d": {"low": 0.38, "high": 0.48},
        },
        "unavailable": {"meteor": "no Java on this machine"},
        "diagnostics": {
            "distinct_captions": 11, "empty_captions": 2, "mean_length": 9.96,
            "length_ratio": 0.8754,
            "most_frequent": [{"caption": "a <b>person</b> walks", "count": 635}],
            "constant_caption": {
                "caption": "there is a person", "scores": {"bleu_4": 0.09, "cider_d": 0.2972},
            },
        },
        "left_out": [{"reason": "the image is missing", "count": 2, "ids": ["7", "9"]}],
        "tokenizer": "ptb",
        "settings": {"batch_size": 16},
    }  # fmt: skip
    return Run(folder=Path("outputs") / label, scores=held | changes, answers=tuple(answers))


def choice_answer(number: int, chosen: str | None, **changes: Any) -> ChoiceAnswer:
    """Question `number` from 1 of a set whose right letters are a, b, a, b, ..."""
    correct = "ab"[(number + 1) % 2]
    values: dict[str, Any] = {
        "id": str(number), "pair": str((number + 1) // 2), "kind": "",
        "question": "Open or closed?", "options": OPTIONS, "images": (), "prompt": "",
        "answer": f"({chosen})", "chosen": chosen,
        "correct": correct, "corrected": correct,
    }  # fmt: skip
    return ChoiceAnswer(**(values | changes))


def choice_run(letters: str, label: str = "ours", **changes: Any) -> Run:
    """One letter per question, `-` for an unparsed answer."""
    answers = [
        choice_answer(number, None if letter == "-" else letter)
        for number, letter in enumerate(letters, start=1)
    ]
    held: Mapping[str, Any] = {
        "benchmark": "mmvp", "procedural": False, "protocol": "letter", "split": "",
        "label": label, "n": len(answers), "pairs": len(answers) // 2,
        "scores": {"pair_accuracy": 0.27333, "accuracy": 0.6, "unparsed": 0.05},
        "intervals": {
            "pair_accuracy": {"low": 0.2082, "high": 0.3496},
            "accuracy": {"low": 0.54, "high": 0.65},
            "unparsed": {"low": 0.03, "high": 0.08},
        },
        "corrected": {
            "scores": {"pair_accuracy": 0.28667},
            "intervals": {"pair_accuracy": {"low": 0.22, "high": 0.3635}},
        },
        "chosen": {"a": letters.count("a"), "b": letters.count("b")},
        "by_kind": {},
        "left_out": [],
        "settings": {},
    }  # fmt: skip
    return Run(folder=Path("outputs") / label, scores={**held, **changes}, answers=tuple(answers))

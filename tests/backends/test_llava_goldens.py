"""LLaVA-1.5's prompts, ids, masks and loss are those on record (scripts/goldens.py)."""

from __future__ import annotations

import pytest
from llava_goldens import BATCH, CONVERSATIONS, GOLDENS, loss, text

from imgdiff.core.files import read_json


def test_text_ids_and_masks() -> None:
    assert text() == read_json(GOLDENS / "llava-text.json")


def test_every_conversation_with_an_answer_has_loss() -> None:
    for name, found in read_json(GOLDENS / "llava-text.json").items():
        answered = any(turn.answer for turn in CONVERSATIONS[name][1])
        assert ("#" in found["supervised"]) == answered, name
        assert len(found["supervised"]) == len(found["ids"].split()), name


def test_loss() -> None:
    recorded = read_json(GOLDENS / "llava-loss.json")
    found = loss()
    assert found["loss"] == pytest.approx(recorded["loss"], abs=1e-5)
    assert (found["tokens"], found["supervised_tokens"]) == (
        recorded["tokens"],
        recorded["supervised_tokens"],
    )
    assert len(BATCH) == 3

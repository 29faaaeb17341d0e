"""Asking a checkpoint at the terminal: one question, a pair, a conversation, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgdiff.backends.chat_templates import Exchange
from imgdiff.backends.configs import VlmConfig
from imgdiff.backends.vlm import VlmChat
from imgdiff.core.console import console
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.images import open_rgb, side_by_side
from imgdiff.launch import compose_typed
from imgdiff.train.chat import run as chatting
from imgdiff.train.chat.config import ChatConfig, register
from imgdiff.train.config import Tuning, TuningConfig
from imgdiff.train.run import run as train

ASK = "What is different?"


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "blue")]
    for path in paths:
        Image.new("RGB", (40, 30), path.stem).save(path)
    return [str(path) for path in paths]


def expected(checkpoint: Path, image: Image.Image | None, turns: list[Exchange]) -> str:
    config = VlmConfig(model=str(checkpoint), max_new_tokens=5, batch_size=1, image_batch_size=1)
    return VlmChat(config).reply(image, turns)


def asked(checkpoint: Path, **settings: Any) -> list[str]:
    return chatting.run(ChatConfig(checkpoint=str(checkpoint), max_new_tokens=5, **settings))


def test_one_image_a_pair_and_none(
    checkpoint: Path, pair: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = (open_rgb(Path(name)) for name in pair)
    turns = [Exchange(ASK)]
    (one,) = asked(checkpoint, image=pair[0], question=ASK)
    assert one == expected(checkpoint, left, turns)
    assert capsys.readouterr().out == f"{one}\n"
    (both,) = asked(checkpoint, image=pair[0], image2=pair[1], question=ASK)
    assert both == expected(checkpoint, side_by_side([left, right]), turns)
    assert side_by_side([left, right]).width == 40 + 20 + 40
    assert asked(checkpoint, question=ASK) == [expected(checkpoint, None, turns)]


def test_a_lora_run_can_be_asked(settings: Callable[..., Any], pair: list[str]) -> None:
    tuning = TuningConfig(kind=Tuning.lora, rank=4, alpha=8)
    folder = train(settings(tuning=tuning, learning_rate=1e-2))
    assert asked(folder, image=pair[0], question=ASK) == [
        expected(folder, open_rgb(Path(pair[0])), [Exchange(ASK)])
    ]


def typing(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """A terminal at which these lines are typed, and then Ctrl-D."""
    waiting = iter(lines)

    def line(_: object) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(console, "input", line)


def test_a_conversation_remembers(
    checkpoint: Path, pair: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typing(monkeypatch, ASK, "  ", "<image> and <image>", "Which colour?", "exit", "never asked")
    answers = asked(checkpoint, image=pair[0])
    image = open_rgb(Path(pair[0]))
    first = expected(checkpoint, image, [Exchange(ASK)])
    assert answers[0] == first
    assert answers[-1] == expected(
        checkpoint, image, [*_before(answers), Exchange("Which colour?")]
    )


def _before(answers: list[str]) -> list[Exchange]:
    questions = [ASK, "<image> and <image>"]
    return [Exchange(q, a) for q, a in zip(questions, answers[:-1], strict=False)]


def test_what_cannot_be_asked_is_explained(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typing(monkeypatch, "<image> what?", "Hello")
    answers = asked(checkpoint)
    assert answers == [expected(checkpoint, None, [Exchange("Hello")])]
    assert "not asked: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image2": "b.png", "question": "x"}, r"image2=b\.png is the right image"),
        ({"question": " "}, r"question is empty"),
        ({"question": "x", "max_new_tokens": 0}, r"max_new_tokens=0"),
        ({}, r"question is not set, and there is no terminal"),
        (
            {"checkpoint": "random:llava-hf/llava-v1.6-vicuna-13b-hf", "question": "x"},
            r"checkpoint=random:.*random weights are for dry runs",
        ),
        ({"checkpoint": "nowhere", "question": "x"}, r"checkpoint=nowhere.*imgdiff\.train"),
    ],
)
def test_refusals(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    with pytest.raises(ConfigError, match=message):
        chatting.run(ChatConfig(**({"checkpoint": str(checkpoint)} | changes)))


def test_an_unreadable_image_is_refused_before_weights(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VlmChat, "__init__", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(DataError, match=r"nowhere\.png: no such image"):
        asked(checkpoint, image="nowhere.png", question=ASK)


def test_the_yaml_composes_and_agrees_with_the_defaults() -> None:
    register()
    assert compose_typed("chat", ChatConfig) == ChatConfig()
    with pytest.raises(ConfigError, match=r"unknown key qestion\. Did you mean question"):
        compose_typed("chat", ChatConfig, ["qestion=x"])


@pytest.mark.parametrize("name", ["preview", "export", "chat"])
def test_help_is_answered_without_deep_learning(name: str, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{name}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('imgdiff.train.{name}', run_name='__main__')\n"
        "finally:\n"
        "    found = {'torch', 'transformers', 'lightning', 'peft'} & set(sys.modules)\n"
        "    assert not found, found\n"
    )
    root = str(Path(__file__).parent.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"python -m imgdiff.train.{name} [group=option]")

"""One question, or a conversation at the terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from imgdiff.core.console import console, printable, say
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.images import open_rgb, side_by_side
from imgdiff.train.chat.config import ChatConfig
from imgdiff.train.trained import trained_folder

if TYPE_CHECKING:
    from PIL import Image

    from imgdiff.backends.chat_templates import Exchange

    Reply = Callable[[list[Exchange]], str]

ENDS = ("exit", "quit")
PROMPT = Text("you> ", style="bold cyan")


def run(config: ChatConfig) -> list[str]:
    """Ask the question, or questions as they are typed; the answers, which are shown too.

    Settings and images are looked at before the weights are loaded. ConfigError where there is
    neither a question nor a terminal.
    """
    if config.question is None and not sys.stdin.isatty():
        raise ConfigError(
            'question is not set, and there is no terminal to type it at. Add question="..." to '
            "the command."
        )
    trained_folder(config.checkpoint)
    image = shown_image(config)

    from imgdiff.backends.chat_templates import Exchange
    from imgdiff.backends.vlm import VlmChat

    reply = functools.partial(VlmChat(config.asked()).reply, image)
    if config.question is None:
        return converse(reply)
    answer = reply([Exchange(config.question)])
    console.print(Text(printable(answer)), soft_wrap=True)
    return [answer]


def shown_image(config: ChatConfig) -> Image.Image | None:
    """The image; of two, the pair side by side as the training data has it. DataError names a file
    that cannot be read.
    """
    names = [name for name in (config.image, config.image2) if name is not None]
    images = [open_rgb(Path(name).expanduser()) for name in names]
    if not images:
        return None
    return images[0] if len(images) == 1 else side_by_side(images)


def converse(reply: Reply) -> list[str]:
    """Questions from the terminal until `exit`, Ctrl-D or Ctrl-C; each knows what was said before.

    A question that cannot be asked (one that writes `<image>` too often) is explained and dropped.
    """
    from imgdiff.backends.chat_templates import Exchange

    say("Type a question; exit or Ctrl-D ends.")
    history: list[Exchange] = []
    while (question := _typed()) is not None:
        if not question:
            continue
        try:
            answer = reply([*history, Exchange(question)])
        except DataError as error:
            console.print(Text(printable(f"not asked: {error}"), style="yellow"))
            continue
        history.append(Exchange(question, answer))
        console.print(Text(printable(answer)), soft_wrap=True)
    return [str(turn.answer) for turn in history]


def _typed() -> str | None:
    """The next question without blanks around it; None at the end."""
    try:
        question = console.input(PROMPT).strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    return None if question.lower() in ENDS else question

"""A model that answers by a rule, and counts what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from typing_extensions import Self

from imgdiff.eval.config import AskedConfig


class Oracle:
    """A `Chat`: `rule` makes the answer of an image and a question."""

    def __init__(self, rule: Callable[[Image.Image, str], str], fail_after: int = 10**9) -> None:
        self.rule, self.fail_after = rule, fail_after
        self.asked: list[tuple[tuple[int, int], str]] = []
        self.limits: set[int | None] = set()
        self.entered = 0
        self.identity = "oracle"

    def __enter__(self) -> Self:
        self.entered += 1
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        return None

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        if len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        assert all(image is not None and image.mode == "RGB" for image in images)
        shown = [image for image in images if image is not None]
        self.asked += [(image.size, text) for image, text in zip(shown, questions, strict=True)]
        self.limits.add(max_new_tokens)
        return [self.rule(image, text) for image, text in zip(shown, questions, strict=True)]


def constant(answer: str, fail_after: int = 10**9) -> Oracle:
    return Oracle(lambda image, question: answer, fail_after)


@dataclass(kw_only=True, slots=True)
class OracleConfig(AskedConfig):
    """The settings of an oracle; `name` stands for its weights."""

    name: str = "v1"
    oracle: Any = field(default=None)

    def identity(self) -> str:
        return f"oracle:{self.name}"

    def build(self) -> Any:
        return self.oracle

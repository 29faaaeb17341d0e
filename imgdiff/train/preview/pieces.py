"""Token ids as pieces of text that a person can read, each with what the loss makes of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from imgdiff.backends.chat_templates import IGNORED

_BROKEN = "\ufffd"  # what a part of a character decodes to
_MOST_PARTS = 8  # tokens of one character, at most


class Role(str, enum.Enum):
    """What a token is to the model."""

    context = "context"  # read, not predicted
    supervised = "supervised"  # its prediction carries loss
    image = "image"  # a position that image features come in at


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A token; or the few that make one character, or all of one image, of one role."""

    text: str
    role: Role
    tokens: int


def pieces_of(
    ids: Sequence[int], labels: Sequence[int], tokenizer: Any, image_id: int
) -> tuple[Piece, ...]:
    """The pieces of a sample, in order; together they have as many tokens as there are ids."""
    spoken = _Spoken(tokenizer)
    pieces: list[Piece] = []
    for role, run in _runs(ids, labels, image_id):
        if role is Role.image:
            pieces.append(Piece(text="", role=role, tokens=len(run)))
        else:
            pieces += (
                Piece(text=text, role=role, tokens=tokens) for text, tokens in spoken.parts(run)
            )
    return tuple(pieces)


def _runs(
    ids: Sequence[int], labels: Sequence[int], image_id: int
) -> Iterator[tuple[Role, list[int]]]:
    """Neighbouring ids of one role."""
    run: list[int] = []
    before: Role | None = None
    for token, label in zip(ids, labels, strict=True):
        role = Role.supervised if label != IGNORED else Role.context
        role = Role.image if token == image_id else role
        if before is not None and role is not before:
            yield before, run
            run = []
        before = role
        run.append(token)
    if before is not None:
        yield before, run


class _Spoken:
    """The text of ids, one at a time, blanks included."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # A decoder drops the blank that a text begins with: so every text begins with this one.
        coded = tokenizer("a", add_special_tokens=False, return_offsets_mapping=True)
        self._anchor = [int(token) for token in coded["input_ids"]]
        self._start = len(self._decoded([]))

    def parts(self, ids: Sequence[int]) -> Iterator[tuple[str, int]]:
        """(text, number of tokens); the tokens of one character together."""
        waiting: list[int] = []
        for token in ids:
            waiting.append(token)
            text = self._decoded(waiting)[self._start :]
            if _BROKEN not in text or len(waiting) == _MOST_PARTS:
                yield text, len(waiting)
                waiting = []
        if waiting:
            yield self._decoded(waiting)[self._start :], len(waiting)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(
            self._tokenizer.decode(
                [*self._anchor, *ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )

"""Chat templates: turns to text, token ids and labels; one code path for generation and training.

Plain Python over a tokenizer object. The text, the place of the image and the supervised tokens
are those of LLaVA's `vicuna_v1` (conversation.py, train.py `preprocess_multimodal` and
`preprocess_v1`); labels follow character offsets instead of re-tokenised lengths, which gives the
same labels on ordinary text and right ones where the reference masks a whole sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from imgdiff.core.errors import BackendError, DataError

IMAGE_TOKEN = "<image>"
IGNORED = -100  # the label of a token without loss


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that opens every sequence, if the model has one."""

    def __call__(
        self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool
    ) -> Mapping[str, Any]:
        """`input_ids` and `offset_mapping` of one text."""

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """Id of one piece."""


class Exchange(NamedTuple):
    """A question and its answer; None asks for one."""

    question: str
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Template:
    """Words around the turns. `stop` ends every answer."""

    name: str
    system: str
    user: str = "USER"
    assistant: str = "ASSISTANT"
    stop: str = "</s>"


VICUNA_V1 = Template(
    name="vicuna_v1",
    system=(
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
)
LLAVA_V1 = Template(  # what MMVP's own script uses
    name="llava_v1",
    system=(
        "A chat between a curious human and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the human's questions."
    ),
)
TEMPLATES = {template.name: template for template in (VICUNA_V1, LLAVA_V1)}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The text of a conversation and the character spans that carry loss (answer and stop)."""

    text: str
    answers: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids with expanded image tokens, and one label per id (IGNORED: no loss)."""

    input_ids: list[int]
    labels: list[int]

    @property
    def supervised(self) -> int:
        """How many tokens carry loss."""
        return sum(label != IGNORED for label in self.labels)


def place_image(message: str) -> str:
    """A message with its image first: every `<image>` removed, one and a new line put in front.

    Several `<image>` in one message collapse to one, as in the reference; a message without one
    is returned as it is.
    """
    if IMAGE_TOKEN not in message:
        return message
    rest = message.replace(IMAGE_TOKEN, "").strip()
    return f"{IMAGE_TOKEN}\n{rest}".strip()


def render_turns(turns: Sequence[Exchange], template: Template = VICUNA_V1) -> Rendered:
    """The conversation as one text. An empty message renders as its role and a colon alone.

    An answer that holds `<image>` raises DataError: an image cannot be answered with.
    """
    text = template.system + " "
    spans: list[tuple[int, int]] = []
    for number, (question, answer) in enumerate(turns, start=1):
        placed = place_image(question)
        text += f"{template.user}: {placed} " if placed else f"{template.user}:"
        text += f"{template.assistant}:"
        if not answer:
            continue
        if IMAGE_TOKEN in answer:
            raise DataError(
                f"turn {number}: the answer holds {IMAGE_TOKEN!r}; only a question can show an "
                "image. Remove it from the answer."
            )
        start = len(text)
        text += f" {answer}{template.stop}"
        spans.append((start, len(text)))
    return Rendered(text=text, answers=tuple(spans))


def image_token_id(tokenizer: Tokenizer) -> int:
    """Id of `<image>`, or BackendError where the tokenizer has none."""
    found = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    if found is None or found == getattr(tokenizer, "unk_token_id", None):
        raise BackendError(
            f"this tokenizer has no {IMAGE_TOKEN} token; use the tokenizer of a LLaVA checkpoint "
            f"or add {IMAGE_TOKEN} to it as a special token"
        )
    return found


def encode(
    tokenizer: Tokenizer,
    turns: Sequence[Exchange],
    image_token_counts: Sequence[int] = (),
    template: Template = VICUNA_V1,
    image_id: int | None = None,
) -> Encoded:
    """Ids and labels of a conversation; the k-th `<image>` becomes `image_token_counts[k]` ids.

    The text is tokenised in chunks around the images (as the reference does, so a word piece
    never joins text across an image), the opening token comes once. A token carries loss iff its
    characters lie between `ASSISTANT:` and the end of that turn's `</s>`. Nothing is truncated.
    A number of images that differs from the counts raises DataError. `image_id` stands for an
    image where the tokenizer itself does not know `<image>`.
    """
    rendered = render_turns(turns, template)
    _check_encodable(rendered.text)
    chunks = rendered.text.split(IMAGE_TOKEN)
    if len(chunks) - 1 != len(image_token_counts):
        raise DataError(
            f"the text shows {len(chunks) - 1} image(s) but {len(image_token_counts)} were given; "
            f"write one {IMAGE_TOKEN} per image, each in a message of its own"
        )
    opening = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids, labels = list(opening), [IGNORED] * len(opening)
    start = 0
    for index, chunk in enumerate(chunks):
        if index:
            count = image_token_counts[index - 1]
            ids += [image_token_id(tokenizer) if image_id is None else image_id] * count
            labels += [IGNORED] * count
        chunk_ids, chunk_labels = _encode_chunk(tokenizer, chunk, start, rendered.answers)
        ids += chunk_ids
        labels += chunk_labels
        start += len(chunk) + len(IMAGE_TOKEN)
    return Encoded(input_ids=ids, labels=labels)


def truncated(encoded: Encoded, max_tokens: int, image_id: int) -> Encoded:
    """The first `max_tokens` ids and labels of a conversation whose images are expanded.

    As in the reference, which cuts after expansion (llava_arch.py), even inside an answer. Ids
    equal to `image_id` are positions of image features: a cut into or before them raises
    DataError, for a part of an image cannot be shown.
    """
    ids = encoded.input_ids
    shown = max((place + 1 for place, token in enumerate(ids) if token == image_id), default=0)
    if shown > max_tokens:
        raise DataError(
            f"{max_tokens} tokens end before the last image does: it takes at least {shown}. "
            "Raise max_tokens or shorten the text before the image"
        )
    return Encoded(input_ids=ids[:max_tokens], labels=encoded.labels[:max_tokens])


def encode_prompt(
    tokenizer: Tokenizer,
    question: str,
    image_token_counts: Sequence[int] = (),
    template: Template = VICUNA_V1,
    history: Sequence[Exchange] = (),
) -> list[int]:
    """Ids that end in `ASSISTANT:`, ready for generation."""
    turns = [*history, Exchange(question)]
    return encode(tokenizer, turns, image_token_counts, template).input_ids


def _encode_chunk(
    tokenizer: Tokenizer, chunk: str, start: int, answers: Sequence[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Ids and labels of text that begins at character `start` of the whole."""
    coded = tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
    ids = [int(token) for token in coded["input_ids"]]
    offsets_T2 = np.asarray(coded["offset_mapping"], dtype=np.int64).reshape(-1, 2) + start
    return ids, np.where(_inside(offsets_T2, answers), ids, IGNORED).tolist() if ids else []


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"half of a surrogate pair at character {error.start} "
            f"({text[max(0, error.start - 20) : error.start]!r}): no tokenizer takes it. Correct "
            "the text."
        ) from None


def _inside(offsets_T2: Any, spans: Sequence[tuple[int, int]]) -> Any:
    """Whether each token lies in one of the spans, which are in order and do not touch."""
    if not spans:
        return np.zeros(len(offsets_T2), dtype=bool)
    starts, ends = np.asarray(spans).T
    last = np.searchsorted(starts, offsets_T2[:, 0], side="right") - 1
    return (last >= 0) & (offsets_T2[:, 1] <= ends[last])

"""InternVL2's chat text: turns to text, token ids and labels, for training and asking alike.

Text, place of the images and supervised tokens are those of OpenGVLab/InternVL (internvl_chat:
conversation.py; train/dataset.py `preprocess_internlm` and `preprocess_mpt`; train/
internvl_chat_finetune.py). Labels follow character offsets instead of re-tokenised lengths: the
same on ordinary text, and right where the reference masks a whole sample.

Where it differs from the reference, on purpose:

* `<|im_start|>`, `<|im_end|>` and `<IMG_CONTEXT>` written in a message are encoded as ordinary
  text. In the reference they end a turn, or claim an image, and the sample then loses its loss
  without a word. (`<img>`, `<box>`, `<ref>` and other special tokens stay what they are.)
* An answer that holds `<image>` is refused; there the image would be put into the answer.
* An image that only a later question shows stays there; the reference puts it first and leaves
  the later `<image>` as text.
* An empty answer takes the loss of its own turn only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from imgdiff.backends.chat_templates import IGNORED, IMAGE_TOKEN, Encoded, Exchange, Tokenizer
from imgdiff.core.errors import BackendError, DataError

START, STOP = "<|im_start|>", "<|im_end|>"
IMAGE_OPENS, IMAGE_PART, IMAGE_CLOSES = "<img>", "<IMG_CONTEXT>", "</img>"
_USER, _ASSISTANT = f"{START}user\n", f"{START}assistant\n"
_RESERVED = re.compile("|".join(map(re.escape, (START, STOP, IMAGE_PART))))
# "You are the Shusheng multimodal model, ... a helpful and harmless assistant", comma included.
_SYSTEM = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "  # noqa: RUF001
    "是一个有用无害的人工智能助手。"
)


@dataclass(frozen=True, kw_only=True)
class ChatTemplate:
    """What differs between the families. `opening` starts the ids ("": nothing does)."""

    name: str
    opening: str
    strips: bool  # whether blanks around a message are dropped
    system: str = _SYSTEM


INTERNLM2_CHAT = ChatTemplate(name="internlm2-chat", opening="<s>", strips=True)  # InternVL2-8B
HERMES_2 = ChatTemplate(name="Hermes-2", opening="", strips=False)  # InternVL2-1B
TEMPLATES = {template.name: template for template in (INTERNLM2_CHAT, HERMES_2)}


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as one text, its images still `<image>`.

    `answers` are the character spans that carry loss (answer and `<|im_end|>`). No token may cross
    a place of `seams`: they keep reserved words of messages apart, so that they stay text.
    """

    text: str
    answers: tuple[tuple[int, int], ...]
    seams: tuple[int, ...]


def template_named(name: object) -> ChatTemplate:
    """The template of this name, or BackendError that lists those there are."""
    found = TEMPLATES.get(name) if isinstance(name, str) else None
    if found is None:
        raise BackendError(
            f"template={name!r}: InternVL2 checkpoints here speak {' or '.join(TEMPLATES)}. Use "
            "InternVL2-1B or InternVL2-8B; the other sizes and versions have other templates."
        )
    return found


def show_images(turns: Sequence[Exchange], images: int) -> tuple[Exchange, ...]:
    """The turns; where there are images and no question says `<image>`, the first one now does."""
    if not images or not turns or any(IMAGE_TOKEN in turn.question for turn in turns):
        return tuple(turns)
    first = turns[0]._replace(question=f"{IMAGE_TOKEN}\n{turns[0].question}")
    return (first, *turns[1:])


def render_turns(turns: Sequence[Exchange], template: ChatTemplate) -> Rendered:
    """The conversation as the authors write it: no new line after `<|im_end|>`.

    An empty message is its role alone, without `<|im_end|>`. DataError where an answer holds
    `<image>`, or is None although a turn follows, and where a message is no valid Unicode text.
    """
    text = f"{START}system\n{template.system}{STOP}"
    answers: list[tuple[int, int]] = []
    seams: list[int] = []
    for number, turn in enumerate(turns, start=1):
        _check_text(turn, number)
        _check_answer(turn.answer, number, last=number == len(turns))
        question, answer = (
            message.strip() if template.strips else message
            for message in (turn.question, turn.answer or "")
        )
        text += _USER
        seams += _seams(question, len(text))
        text += f"{question}{STOP}" if question else ""
        text += _ASSISTANT
        seams += _seams(answer, len(text))
        if answer:
            answers.append((len(text), len(text) + len(answer) + len(STOP)))
            text += f"{answer}{STOP}"
    return Rendered(text=text, answers=tuple(answers), seams=tuple(seams))


def encode(
    tokenizer: Tokenizer,
    turns: Sequence[Exchange],
    image_token_counts: Sequence[int],
    template: ChatTemplate,
) -> Encoded:
    """Ids and labels of a conversation; a last answer of None ends them where generation begins.

    The k-th `<image>` becomes `<img>`, `image_token_counts[k]` times `<IMG_CONTEXT>` and `</img>`.
    A token carries loss iff its characters lie in an answer or the `<|im_end|>` after it; one that
    joins the new line of `<|im_start|>assistant` with the answer's first blanks does not (as in
    the reference). Nothing is truncated. DataError where the number of `<image>` differs from the
    counts, and as in `render_turns`.
    """
    rendered = render_turns(show_images(turns, len(image_token_counts)), template)
    images = [found.span() for found in re.finditer(IMAGE_TOKEN, rendered.text)]
    if len(images) != len(image_token_counts):
        raise DataError(
            f"the text shows {len(images)} image(s) but {len(image_token_counts)} were given; "
            f"write {IMAGE_TOKEN} once in the questions for each image"
        )
    ids = [token_id(tokenizer, template.opening)] if template.opening else []
    labels = [IGNORED] * len(ids)
    text_start = 0
    for (start, end), count in zip(images, image_token_counts, strict=True):
        _append_text(tokenizer, rendered, (text_start, start), ids, labels)
        shown = _image_ids(tokenizer, count)
        ids += shown
        labels += [IGNORED] * len(shown)
        text_start = end
    _append_text(tokenizer, rendered, (text_start, len(rendered.text)), ids, labels)
    return Encoded(input_ids=ids, labels=labels)


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a special token, or BackendError where the tokenizer does not know it."""
    found = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == getattr(tokenizer, "unk_token_id", None):
        raise BackendError(
            f"this tokenizer has no {token} token; use the tokenizer files that belong to the "
            "InternVL2 checkpoint"
        )
    return int(found)


def _check_text(turn: Exchange, number: int) -> None:
    try:
        f"{turn.question}{turn.answer}".encode()
    except UnicodeEncodeError as error:
        broken = error.object[error.start]
        raise DataError(
            f"turn {number} holds {broken!r}, one half of a character, which no tokenizer takes. "
            "Repair or remove the sample."
        ) from None


def _check_answer(answer: str | None, number: int, *, last: bool) -> None:
    if answer is None and not last:
        raise DataError(f"turn {number} has no answer, yet turns follow. Only the last one may ask")
    if IMAGE_TOKEN in (answer or ""):
        raise DataError(
            f"turn {number}: the answer holds {IMAGE_TOKEN!r}; only a question can show an image. "
            "Remove it from the answer."
        )


def _seams(message: str, start: int) -> list[int]:
    """Places behind the first character of every reserved word of a message at `start`."""
    return [start + found.start() + 1 for found in _RESERVED.finditer(message)]


def _image_ids(tokenizer: Tokenizer, count: int) -> list[int]:
    opens, part, closes = (token_id(tokenizer, t) for t in (IMAGE_OPENS, IMAGE_PART, IMAGE_CLOSES))
    return [opens, *[part] * count, closes]


def _append_text(
    tokenizer: Tokenizer,
    rendered: Rendered,
    span: tuple[int, int],
    ids: list[int],
    labels: list[int],
) -> None:
    """Add ids and labels of the characters of `span`, which holds no image."""
    first, last = span
    for start, end in pairwise([first, *(s for s in rendered.seams if first < s < last), last]):
        coded = tokenizer(
            rendered.text[start:end], add_special_tokens=False, return_offsets_mapping=True
        )
        for token, (left, right) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
            ids.append(int(token))
            inside = _inside(start + left, start + right, rendered.answers)
            labels.append(int(token) if inside else IGNORED)


def _inside(left: int, right: int, spans: Sequence[tuple[int, int]]) -> bool:
    return any(start <= left and right <= end for start, end in spans)

"""One row of instruction data: the rules it must keep, and the sample it becomes.

Format: LLaVA's (`llava/train/train.py`): id, image, conversations of from/value.
Rules on `<image>`:

* no image: the text holds none;
* an image and no `<image>` in the text: `<image>` and a new line are put before the first question
  (as InternVL does; once per image);
* one image: all `<image>` stand in one message and count as one (as LLaVA does);
* two images that are concatenated: at most two `<image>`, of which the first stays;
* otherwise as many `<image>` as images; none in an answer.

Two rows may have one id: a row is known by its source and number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from imgdiff.backends.chat_templates import IMAGE_TOKEN, Exchange
from imgdiff.core.errors import DataError
from imgdiff.core.images import DIVIDER_PX, open_rgb, side_by_side
from imgdiff.train.source_config import Pairs

HUMAN, MODEL = ("human", "user"), ("gpt", "assistant")
_HUMAN, _MODEL = frozenset(HUMAN), frozenset(MODEL)
_KNOWN = _HUMAN | _MODEL | {"system"}
PAIR = 2
Size = tuple[int, int]  # width, height in pixels
_SHAPE = "'conversations' alternates {'from': 'human', 'value': ...} and {'from': 'gpt', ...}."


class Defect(Exception):
    """Why a row cannot be used: a reason to count by, and the whole sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """What one `<image>` shows: an image file, or a pair of them side by side.

    `size` is upright (after EXIF), of the whole; (0, 0) where it was not looked at.
    """

    paths: tuple[Path, ...]
    size: Size

    def open(self) -> Image.Image:
        """RGB pixels. DataError names the file where it cannot be read any more or has changed."""
        images = [self._open(path) for path in self.paths]
        image = images[0] if len(images) == 1 else side_by_side(images)
        if self.size != (0, 0) and image.size != self.size:
            names = " + ".join(str(path) for path in self.paths)
            raise DataError(
                f"{names}: is {image.size} pixels, and was {self.size} when the data was checked. "
                "Restore the file, or delete the table in the cache folder and start anew."
            )
        return image

    @staticmethod
    def _open(path: Path) -> Image.Image:
        try:
            return open_rgb(path)
        except DataError as error:
            raise DataError(
                f"{error}. It passed the check before the run: restore the file, or check with "
                "images=decode and start anew."
            ) from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One conversation with the pictures that its `<image>` show, in order."""

    id: str
    source: int
    turns: tuple[Exchange, ...]
    pictures: tuple[Picture, ...]


class Draft(NamedTuple):
    """A row that keeps the rules of text; its images are still to be looked at."""

    id: str
    texts: tuple[str, ...]  # question, answer, question, answer ...
    images: tuple[str, ...]
    words: int  # as LLaVA counts lengths: pieces between blanks, of questions and answers
    text_bytes: int  # at most so many UTF-8 bytes, whichever Unicode form a tokenizer takes
    # The same of the first question alone, where it shows all images and is answered; else -1.
    opening_bytes: int


def parse_row(number: int, row: Any, pairs: Pairs) -> Draft:
    """The draft of a decoded row, or Defect."""
    if not isinstance(row, dict) and not isinstance(row, Mapping):
        raise Defect("not an object", f"{type(row).__name__}, must be an object ({_SHAPE})")
    images = _images(row)
    texts = _shown(_texts(row.get("conversations")), len(images), pairs)
    try:
        sizes = [_most_bytes(text) for text in texts]
        name = str(row["id"]) if row.get("id") is not None else str(number)
        "".join((name, *images)).encode()
    except UnicodeEncodeError as error:
        raise Defect(
            "not Unicode", f"a text holds half a character ({error.reason}). Correct the row."
        ) from None
    words = sum([len(text.split()) for text in texts])
    pictures = 1 if len(images) == PAIR and pairs is Pairs.concatenate else len(images)
    opens = texts[0].count(IMAGE_TOKEN) == pictures and bool(texts[1].strip())
    return Draft(
        id=name,
        texts=texts,
        images=images,
        words=words,
        text_bytes=sum(sizes),
        opening_bytes=sizes[0] if opens else -1,
    )


def _most_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFKC", text))
    return max(len(form.encode()) for form in forms)


def _images(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row.get("video"):
        raise Defect("video", "'video' is not supported. Remove the row, or export its frames.")
    value = row.get("image")
    if value is None:
        return ()
    names = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise Defect(
            "image field",
            f"'image' is {value!r}, must be a path or a list of paths. Embedded images need a "
            "path to a file.",
        )
    return tuple(names)


def _texts(messages: Any) -> tuple[str, ...]:
    """Question and answer in turn; an opening message that is not the user's is left out."""
    if not isinstance(messages, (list, tuple)):
        raise Defect("no conversations", f"no usable 'conversations'. {_SHAPE}")
    roles, texts = [], []
    for item in messages:
        # Dictionaries first: there are millions of them, and asking for a Mapping takes long.
        if not isinstance(item, dict) and not isinstance(item, Mapping):
            raise Defect("no conversations", f"no usable 'conversations'. {_SHAPE}")
        role, text = item.get("from"), item.get("value")
        if not isinstance(role, str) or not isinstance(text, str):
            raise Defect("no conversations", f"no usable 'conversations'. {_SHAPE}")
        roles.append(role)
        texts.append(text)
    if not _KNOWN.issuperset(roles):
        unknown = min(set(roles) - _KNOWN)
        raise Defect("unknown role", f"role {unknown!r} is not known. {_SHAPE}")
    if roles and roles[0] not in HUMAN:
        del roles[0], texts[0]
    alternate = _HUMAN.issuperset(roles[::2]) and _MODEL.issuperset(roles[1::2])
    if not alternate or len(roles) % 2 or not roles:
        raise Defect("no alternation", f"{roles} do not alternate. {_SHAPE}")
    if not any(map(str.strip, texts[1::2])):
        raise Defect("no answer", "every answer is empty: nothing to learn. Remove the row.")
    return tuple(texts)


def _shown(texts: tuple[str, ...], images: int, pairs: Pairs) -> tuple[str, ...]:
    """The texts with exactly as many `<image>` as pictures."""
    shown = [text.count(IMAGE_TOKEN) for text in texts]
    if any(shown[1::2]):
        raise Defect(
            "image in an answer",
            f"an answer holds {IMAGE_TOKEN}; only a question can show an image. Remove it.",
        )
    total, messages = sum(shown), len(shown) - shown.count(0)
    joined = images == PAIR and pairs is Pairs.concatenate
    pictures = 1 if joined else images
    if images and not total:
        return (f"{IMAGE_TOKEN}\n" * pictures + texts[0], *texts[1:])
    fits = total == pictures
    if pictures == 1:
        fits = total <= images if joined else messages == 1
    if not fits:
        raise Defect(
            "image tokens",
            f"{total} {IMAGE_TOKEN} in {messages} message(s), but {images} image(s). Write one "
            f"{IMAGE_TOKEN} per image, that of one image in one message.",
        )
    return _first_only(texts) if pictures == 1 and total > 1 else texts


def _first_only(texts: Sequence[str]) -> tuple[str, ...]:
    """All `<image>` but the first taken out, each with the new line behind it."""
    kept = []
    seen = False
    for text in texts:
        head, token, tail = ("", "", text) if seen else text.partition(IMAGE_TOKEN)
        seen = seen or bool(token)
        if seen:
            tail = tail.replace(f"{IMAGE_TOKEN}\n", "").replace(IMAGE_TOKEN, "")
        kept.append(f"{head}{token}{tail}")
    return tuple(kept)


def pictures_of(paths: Sequence[Path], sizes: Sequence[Size], pairs: Pairs) -> tuple[Picture, ...]:
    """The pictures of a row's images: one each, or one of a pair side by side."""
    if len(paths) == PAIR and pairs is Pairs.concatenate:
        known = all(size != (0, 0) for size in sizes)
        width = sum(size[0] for size in sizes) + DIVIDER_PX
        whole = (width, max(size[1] for size in sizes)) if known else (0, 0)
        return (Picture(paths=tuple(paths), size=whole),)
    return tuple(Picture(paths=(path,), size=size) for path, size in zip(paths, sizes, strict=True))

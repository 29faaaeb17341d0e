"""One picture per sample: what the model sees beside what it reads, in the page's colours."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from imgdiff.train.preview.pieces import Role
from imgdiff.train.preview.shown import Shown
from imgdiff.train.preview.terminal import written

Colour = tuple[int, int, int]
# Ink and two grounds: neighbouring tokens alternate. The same as in preview.css.
COLOURS: dict[Role, tuple[Colour, Colour, Colour]] = {
    Role.context: ((75, 82, 92), (255, 255, 255), (241, 243, 246)),
    Role.supervised: ((6, 68, 28), (178, 233, 190), (138, 214, 157)),
    Role.image: ((16, 52, 110), (205, 224, 252), (205, 224, 252)),
}
INK: Colour = (28, 32, 38)
FAINT: Colour = (110, 118, 128)
PAPER: Colour = (255, 255, 255)
IMAGE_PX = 480  # width of the left half
TEXT_PX = 820  # width of the right half
MARGIN_PX = 24
SMALL_PX, NORMAL_PX, LARGE_PX = 14, 16, 20  # of the font
LINE_PX = 25
_NEAREST = Image.Resampling.NEAREST
NEW_LINE = "\u21b5"
UNKNOWN = "\u25a1"  # for what the font has no sign for; the page shows all


@dataclass
class _Pen:
    """Writes from left to right between two margins, and knows how far down it is."""

    draw: ImageDraw.ImageDraw
    left: int
    right: int
    top: float
    x: float = 0.0

    def line(self, text: str, size_px: int, ink: Colour) -> None:
        """Text of its own lines, broken at blanks."""
        font = _font(size_px)
        self.x = self.left
        for word in text.split(" "):
            width = font.getlength(f"{word} ")
            if self.x + width > self.right and self.x > self.left:
                self._feed()
            self.draw.text((self.x, self.top), word, font=font, fill=ink)
            self.x += width
        self._feed()

    def token(self, text: str, ink: Colour, ground: Colour) -> None:
        """One token on its ground; a new line in it is shown and made."""
        font = _font(NORMAL_PX)
        for part in _parts(_drawable(text), font, self.right - self.left):
            width = font.getlength(part.rstrip("\n"))
            if self.x + width > self.right and self.x > self.left:
                self._feed()
            box = (self.x, self.top, self.x + width, self.top + LINE_PX - 3)
            self.draw.rectangle(box, fill=ground)
            self.draw.text((self.x, self.top + 2), part.rstrip("\n"), font=font, fill=ink)
            self.x += width
            if part.endswith("\n"):
                self._feed()

    def _feed(self) -> None:
        self.x = self.left
        self.top += LINE_PX


def card(sample: Shown) -> Image.Image:
    """The picture of a sample; as high as its longer half."""
    seen = [_scaled(picture) for picture in sample.pictures]
    left = MARGIN_PX + IMAGE_PX + MARGIN_PX
    size = (left + TEXT_PX + MARGIN_PX, 1)
    height = max(_written(sample, Image.new("RGB", size), left), _images_px(seen)) + MARGIN_PX
    canvas = Image.new("RGB", (size[0], int(height)), PAPER)
    _written(sample, canvas, left)
    top = MARGIN_PX
    for picture, file in zip(seen, sample.files, strict=True):
        canvas.paste(picture, (MARGIN_PX, top))
        top += picture.height
        pen = _Pen(ImageDraw.Draw(canvas), MARGIN_PX, MARGIN_PX + IMAGE_PX, top + 4)
        pen.line(_drawable(file), SMALL_PX, FAINT)
        top += 2 * LINE_PX
    return canvas


def _written(sample: Shown, canvas: Image.Image, left: int) -> float:
    """Write the right half; how far down it reaches."""
    pen = _Pen(ImageDraw.Draw(canvas), left, left + TEXT_PX, MARGIN_PX)
    pen.line(_drawable(f"{sample.number}. {sample.source}: {sample.id}"), LARGE_PX, INK)
    pen.line(sample.position, SMALL_PX, FAINT)
    pen.line(sample.figures, SMALL_PX, FAINT)
    pen.x = pen.left
    for role in (Role.supervised, Role.image, Role.context):
        ink, _, ground = COLOURS[role]
        pen.token(f" {role.value} ", ink, ground)
        pen.x += LINE_PX / 2
    pen.x, pen.top = pen.left, pen.top + 2 * LINE_PX
    for number, piece in enumerate(sample.pieces):
        ink, *grounds = COLOURS[piece.role]
        pen.token(written(piece), ink, grounds[number % 2])
    return pen.top + LINE_PX


def _images_px(seen: Sequence[Image.Image]) -> int:
    return MARGIN_PX + sum(picture.height + 2 * LINE_PX for picture in seen)


def _scaled(picture: Image.Image) -> Image.Image:
    """At most as wide as the left half; a smaller one is enlarged by whole pixels, which hides
    nothing.
    """
    if picture.width <= IMAGE_PX:
        factor = IMAGE_PX // picture.width
        return picture.resize((picture.width * factor, picture.height * factor), _NEAREST)
    height = max(1, round(picture.height * IMAGE_PX / picture.width))
    return picture.resize((IMAGE_PX, height), Image.Resampling.LANCZOS)


@functools.lru_cache(maxsize=8)
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size_px)


def _parts(text: str, font: Any, width: float) -> Iterator[str]:
    """Stretches that fit into a line and end where the text says; most tokens are one."""
    for line in text.splitlines(keepends=True):
        start = 0
        for end in range(1, len(line) + 1):
            if font.getlength(line[start:end].rstrip("\n")) > width:
                yield line[start : end - 1]
                start = end - 1
        yield line[start:]


def _drawable(text: str) -> str:
    """The text with a sign for a new line, and without what the font cannot draw."""
    mark = NEW_LINE if _has(NEW_LINE) else "\\n"
    shown = "".join(letter if letter == "\n" or _has(letter) else UNKNOWN for letter in text)
    return shown.replace("\n", f"{mark}\n")


@functools.lru_cache(maxsize=4096)
def _has(letter: str) -> bool:
    """Whether the font has a sign for it: one that it lacks is drawn as a private one is."""
    if letter.isspace():
        return letter == " "
    font = _font(NORMAL_PX)
    lacking = font.getmask("\ue123")
    drawn = font.getmask(letter)
    return bool(drawn.size != lacking.size or bytes(drawn) != bytes(lacking))

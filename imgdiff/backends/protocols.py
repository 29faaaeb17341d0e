"""One batch call per backend; plain types in and out; no torch here.

Every backend has an `identity` (model id, revision or content hash, dtype, preprocessing version)
and holds its weights only inside `with`. A result never depends on the batch it was computed in.
A verb (`Embeds`) is what an opened model can do, the noun (`Embedder`) the backend that holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image
from typing_extensions import Self

from imgdiff.core.geometry import Box
from imgdiff.core.masks import AnyMask, Mask
from imgdiff.core.records import CaptionPair, PairTruth


@runtime_checkable
class Backend(Protocol):
    """A handle that is light until entered."""

    @property
    def identity(self) -> str:
        """What must be equal for two results to be comparable."""

    def __enter__(self) -> Self:
        """Load the weights."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the weights."""


@dataclass(frozen=True, kw_only=True)
class Edited:
    """An edited caption, or the reason there is none (`text` empty)."""

    text: str
    refusal: str = ""


@runtime_checkable
class CaptionEditor(Backend, Protocol):
    """Replaces one object of a caption by another."""

    def edit(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Edited]:
        """One result per caption, drawn from its own seed."""


@dataclass(frozen=True, kw_only=True)
class DrawnPair:
    """Two RGB images of one size, their captions, and the truth where it is known."""

    left: Image.Image
    right: Image.Image
    left_caption: str
    right_caption: str
    truth: PairTruth | None = None


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a pair could not be drawn: a short fixed reason and free detail."""

    reason: str
    detail: str = ""


@runtime_checkable
class DrawsPairs(Protocol):
    """Draws the image pair of a caption pair; depends on the pair and its seed only."""

    def generate(self, pairs: Sequence[CaptionPair]) -> list[DrawnPair | Refusal]:
        """One result per caption pair."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographed:
    """A photo and one annotated object of it: its category, tight box and mask.

    `alike` marks the other objects of its category; `same_kind` is the share of the box that they
    cover.
    """

    image: Image.Image
    name: str
    box: Box
    mask: Mask
    alike: Mask
    same_kind: float


@runtime_checkable
class Photographer(Backend, Protocol):
    """Shows the photo of an annotated object."""

    def photograph(self, pairs: Sequence[CaptionPair]) -> list[Photographed | Refusal]:
        """One result per caption pair that names a photo object."""


@runtime_checkable
class PairGenerator(Backend, DrawsPairs, Protocol):
    """The backend that `DrawsPairs`."""


@runtime_checkable
class Segments(Protocol):
    """Finds everything that could be an object."""

    def segment(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """Boxes per image, xyxy pixels of that image, in the detector's order."""


@runtime_checkable
class Segmenter(Backend, Segments, Protocol):
    """The backend that `Segments`."""


@runtime_checkable
class Masks(Protocol):
    """Outlines what it found."""

    def masks(
        self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]
    ) -> list[list[AnyMask]]:
        """The mask of each box, from the detection that gave it; a mask may be empty.

        The boxes are such as `segment` returned for that image (rounding is allowed for).
        """


@runtime_checkable
class Masker(Segmenter, Masks, Protocol):
    """The backend that `Segments` and `Masks`."""


@runtime_checkable
class Inpaints(Protocol):
    """Paints over what a mask marks, as if it had never been there."""

    def inpaint(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[AnyMask],
        seeds: Sequence[int],
        avoid: Sequence[AnyMask | None],
    ) -> list[Image.Image]:
        """Each image painted anew inside its mask, at its own size; the rest may change as well.

        A mask marks at least one pixel and not all; result k depends on item k alone. `avoid`
        marks others of the same kind, which must not be copied into the hole (None: not known).
        """


@runtime_checkable
class Inpainter(Backend, Inpaints, Protocol):
    """The backend that `Inpaints`."""


@runtime_checkable
class Embeds(Protocol):
    """Images and texts as unit vectors of one space."""

    def embed_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """One unit row per image."""

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """One unit row per text."""


@runtime_checkable
class Embedder(Backend, Embeds, Protocol):
    """The backend that `Embeds`."""


@runtime_checkable
class Matches(Protocol):
    """How well a text describes an image."""

    def match(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        """For each image the scores of its own texts, in order (each image is encoded once)."""


@runtime_checkable
class Matcher(Backend, Matches, Protocol):
    """The backend that `Matches`."""


@runtime_checkable
class Chats(Protocol):
    """Answers a question about at most one image each; answer k depends on item k alone."""

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """One answer per (image, question), stripped; a sampling model needs a seed for each.

        `max_new_tokens` replaces the limit of the model's own settings.
        """


@runtime_checkable
class Chat(Backend, Chats, Protocol):
    """The backend that `Chats`."""

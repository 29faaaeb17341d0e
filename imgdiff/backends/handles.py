"""What `build()` of a learned backend returns: light until entered, then the model's own calls.

A handle knows its identity without a model library. Entering it opens the model, whose module may
import what it likes; leaving it lets the model go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image
from typing_extensions import Self

from imgdiff.backends.protocols import (
    Backend,
    Chats,
    DrawnPair,
    DrawsPairs,
    Embeds,
    Inpaints,
    Masks,
    Matches,
    Refusal,
    Segments,
)
from imgdiff.core.errors import BackendError
from imgdiff.core.geometry import Box
from imgdiff.core.masks import AnyMask
from imgdiff.core.records import CaptionPair

Model = TypeVar("Model")


class Weightless:
    """A backend without weights: entering and leaving load nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class Around:
    """A backend that stands on another one, and is entered and left with it."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inner.__exit__(kind, error, trace)


class Handle(Generic[Model]):
    """A `Backend` around a model that `opening` loads; `naming` says its identity without it."""

    def __init__(self, naming: Callable[[], str], opening: Callable[[], Model]) -> None:
        self._naming = naming
        self._opening = opening
        self._opened: Model | None = None

    @property
    def identity(self) -> str:
        """What must be equal for two results to be comparable; BackendError where it is absent."""
        return self._naming()

    def __enter__(self) -> Self:
        """Load the weights; BackendError where they are not on this machine."""
        self._opened = self._opening()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the weights."""
        self._opened = None

    def _model(self) -> Model:
        if self._opened is None:
            raise BackendError(
                f"{type(self).__name__} holds its weights inside `with` only; enter it first"
            )
        return self._opened


@runtime_checkable
class SegmentsAndMasks(Segments, Masks, Protocol):
    """A model with both verbs."""


class SegmenterHandle(Handle[SegmentsAndMasks]):
    """A `Segmenter` and `Masker`."""

    def segment(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """As `Segments.segment`."""
        return self._model().segment(images)

    def masks(
        self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]
    ) -> list[list[AnyMask]]:
        """As `Masks.masks`."""
        return self._model().masks(images, boxes)


class InpainterHandle(Handle[Inpaints]):
    """An `Inpainter`."""

    def inpaint(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[AnyMask],
        seeds: Sequence[int],
        avoid: Sequence[AnyMask | None],
    ) -> list[Image.Image]:
        """As `Inpaints.inpaint`."""
        return self._model().inpaint(images, masks, seeds, avoid)


class EmbedderHandle(Handle[Embeds]):
    """An `Embedder`."""

    def embed_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """As `Embeds.embed_images`."""
        return self._model().embed_images(images)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """As `Embeds.embed_texts`."""
        return self._model().embed_texts(texts)


class MatcherHandle(Handle[Matches]):
    """A `Matcher`."""

    def match(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        """As `Matches.match`."""
        return self._model().match(images, texts)


class ChatHandle(Handle[Chats]):
    """A `Chat`."""

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """As `Chats.chat`."""
        return self._model().chat(images, questions, seeds, max_new_tokens)


class PairGeneratorHandle(Handle[DrawsPairs]):
    """A `PairGenerator`."""

    def generate(self, pairs: Sequence[CaptionPair]) -> list[DrawnPair | Refusal]:
        """As `DrawsPairs.generate`."""
        return self._model().generate(pairs)

"""What a stage may use: scores from the store, and backends that load when first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int32
from PIL import Image
from typing_extensions import Self

from imgdiff.backends.gpu_memory import limit_gpu_memory
from imgdiff.backends.photographs import PhotographConfig
from imgdiff.backends.protocols import (
    Backend,
    CaptionEditor,
    Chat,
    Embedder,
    Inpainter,
    Masker,
    Matcher,
    PairGenerator,
    Photographer,
    Segmenter,
)
from imgdiff.backends.runtime import limit_torch_threads
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import open_rgb
from imgdiff.core.records import ImagePair, Side
from imgdiff.core.store import Entries, Store
from imgdiff.core.tables import ArrayCells, JsonCells
from imgdiff.synth.config import SynthConfig
from imgdiff.synth.run_profile import RunProfile

T = TypeVar("T")


@runtime_checkable
class _Buildable(Protocol):
    def build(self) -> Any:
        """A light handle."""


class Backends:
    """The pipeline's backends by role. At most one is loaded at a time: the last one asked for."""

    def __init__(self, config: SynthConfig) -> None:
        self._configs: dict[str, _Buildable] = {
            "editor": config.editor,
            "generator": config.generator,
            "embedder": config.embedder,
            "segmenter": config.segmenter,
            "matcher": config.matcher,
            "describer": config.describer,
        }
        if config.edit.removes:
            self._configs |= _of_removal(config)
        self._memory_limit = config.memory_limit
        self._handles: dict[str, Backend] = {}
        # What needs a checkpoint holds weights; the others import no deep learning.
        self._learned = {role for role, made in self._configs.items() if hasattr(made, "needed")}
        self._resident: tuple[str, Any] | None = None
        self._stack = ExitStack()
        self.loaded: list[str] = []  # roles whose weights were read, in order, for the run's report
        self.profile = RunProfile()

    def identity(self, role: str) -> str:
        """Identity of a role without loading its weights."""
        return self._handle(role).identity

    def learned(self, role: str) -> bool:
        """Whether a model with weights plays this role."""
        return role in self._learned

    def _handle(self, role: str) -> Backend:
        if role not in self._handles:
            self._handles[role] = self._configs[role].build()
        return self._handles[role]

    def _enter(self, role: str) -> Any:
        if self._resident is None or self._resident[0] != role:
            self._stack.close()
            self._resident = None
            if role in self._learned:
                limit_torch_threads()
                limit_gpu_memory(self._memory_limit)
                self.loaded.append(role)
            with self.profile.loading():
                entered = self._stack.enter_context(self._handle(role))
            self._resident = (role, entered)
        return self._resident[1]

    @property
    def editor(self) -> CaptionEditor:
        """The loaded caption editor."""
        editor: CaptionEditor = self._enter("editor")
        return editor

    @property
    def generator(self) -> PairGenerator:
        """The loaded pair generator."""
        generator: PairGenerator = self._enter("generator")
        return generator

    @property
    def embedder(self) -> Embedder:
        """The loaded embedder."""
        embedder: Embedder = self._enter("embedder")
        return embedder

    @property
    def matcher(self) -> Matcher:
        """The loaded matcher."""
        matcher: Matcher = self._enter("matcher")
        return matcher

    @property
    def describer(self) -> Chat:
        """The loaded describer."""
        describer: Chat = self._enter("describer")
        return describer

    def segments(self, role: str) -> Segmenter:
        """The loaded segmenter of this role: `segmenter`, or `masker` for removal."""
        segmenter: Segmenter = self._enter(role)
        return segmenter

    @property
    def masker(self) -> Masker:
        """The loaded segmenter of removal, which also outlines."""
        masker: Masker = self._enter("masker")
        return masker

    @property
    def photographer(self) -> Photographer:
        """The source of photos with an annotated object."""
        photographer: Photographer = self._enter("photographer")
        return photographer

    @property
    def inpainter(self) -> Inpainter:
        """The loaded inpainter."""
        inpainter: Inpainter = self._enter("inpainter")
        return inpainter

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._resident = None


def _of_removal(config: SynthConfig) -> dict[str, _Buildable]:
    """The backends that only removal asks."""
    confidence = config.removal.confidence
    made: dict[str, _Buildable] = {"inpainter": config.inpainter, "masker": config.segmenter}
    if confidence is not None:
        made["masker"] = replace(config.segmenter, confidence=confidence)
    if config.removes_annotated:
        made["photographer"] = PhotographConfig(composite=config.generator)
    return made


class Tools:
    """Store access for one shard."""

    def __init__(self, config: SynthConfig, store: Store, backends: Backends, shard: int) -> None:
        self.config = config
        self.backends = backends
        self.shard = shard
        self._store = store

    def values(
        self,
        kind: str,
        role: str | None,
        keyed: Iterable[tuple[str, T]],
        compute: Callable[[Sequence[T]], Sequence[Any]],
        *settings: object,
    ) -> list[Any]:
        """One value per item, computed where the store lacks it.

        `settings` are what else changes the value, besides the role (None: no backend is asked).
        """
        cell = self.fingerprint(role, *settings)
        return self._store.values(kind, cell, self.shard, keyed, self._counted(role, compute))

    def arrays(
        self,
        kind: str,
        role: str,
        keyed: Iterable[tuple[str, T]],
        compute: Callable[[Sequence[T]], Sequence[Any]],
        *,
        width: int,
        digits: int,
    ) -> list[Float64[np.ndarray, "_ _"]]:
        """As `values`, for arrays of rows of `width` numbers kept at so many decimals."""
        cell = self.fingerprint(role, digits)
        return self._store.arrays(
            kind, cell, self.shard, keyed, self._counted(role, compute), width=width, digits=digits
        )

    def entries(
        self,
        kind: str,
        role: str,
        asked: Sequence[Entries],
        compute: Callable[[Sequence[tuple[Any, int]]], Sequence[Any]],
        *,
        width: int,
        digits: int,
    ) -> list[Float64[np.ndarray, "_ _"]]:
        """Arrays in which at least the wanted rows are known (see `Store.entries`)."""
        cell = self.fingerprint(role, digits)
        return self._store.entries(
            kind, cell, self.shard, asked, self._counted(role, compute), width=width, digits=digits
        )

    def _counted(
        self, role: str | None, compute: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> Callable[[Sequence[Any]], Sequence[Any]]:
        """`compute`, whose inputs count as model calls in the profile."""

        def counted(items: Sequence[Any]) -> Sequence[Any]:
            if role is not None and self.backends.learned(role):
                self.backends.profile.asked(len(items))
            return compute(items)

        return counted

    def known(self, kind: str, role: str, keys: Sequence[str], *settings: object) -> list[Any]:
        """What the store has under these keys, None where it has nothing; nothing is computed."""
        cell = self.fingerprint(role, *settings)
        cells = self._store.table(kind, cell, self.shard, JsonCells()).cells
        return [cells.get(key) for key in keys]

    def known_units(
        self, kind: str, role: str, keys: Sequence[str], digits: int
    ) -> list[Int32[np.ndarray, " _"] | None]:
        """As `known` of arrays, flat and in whole units of the last digit."""
        cell = self.fingerprint(role, digits)
        cells = self._store.table(kind, cell, self.shard, ArrayCells()).cells
        return [cells.get(key) for key in keys]

    def fingerprint(self, role: str | None, *settings: object) -> str:
        """Fingerprint of one kind of cell."""
        parts = settings if role is None else (self.backends.identity(role), *settings)
        return fingerprint(*parts)

    def image_folder(self, kind: str, role: str, *settings: object) -> Path:
        """Where this shard's images of one kind of cell live (inside the store)."""
        folder = self._store.folder(kind, self.fingerprint(role, *settings))
        return folder / f"{self.shard:06d}"

    def relative(self, path: Path) -> str:
        """A path as the store remembers it."""
        return path.relative_to(self._store.root).as_posix()

    def under(self, config: SynthConfig) -> Tools:
        """The same shard, store and backends under other rules."""
        return Tools(config, self._store, self.backends, self.shard)

    @property
    def root(self) -> Path:
        """The store's root folder."""
        return self._store.root

    def open_side(self, seen: tuple[ImagePair, Side]) -> Image.Image:
        """One image of a pair, from the store."""
        images, side = seen
        return open_rgb(self.root / (images.left_path, images.right_path)[side])

    def open_pair(self, images: ImagePair) -> tuple[Image.Image, Image.Image]:
        """Both images of a pair, from the store."""
        root = self._store.root
        return open_rgb(root / images.left_path), open_rgb(root / images.right_path)

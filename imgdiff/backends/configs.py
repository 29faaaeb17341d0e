"""Settings of the backends that hold models, and their identities.

Light: model libraries are imported by what `build()` returns, when it is entered.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from imgdiff.backends.checkpoints import Needed, content_identity, is_random, locate
from imgdiff.backends.handles import (
    ChatHandle,
    EmbedderHandle,
    MatcherHandle,
    SegmenterHandle,
    SegmentsAndMasks,
)
from imgdiff.backends.protocols import Chats, Embeds, Matches
from imgdiff.core.errors import BackendError, ConfigError


class ChannelOrder(str, enum.Enum):
    """`rgb`: the detector sees true colours. `swapped`: red and blue exchanged, as released."""

    rgb = "rgb"
    swapped = "swapped"


@dataclass(kw_only=True, slots=True)
class FastSamConfig:
    """FastSAM as a segmenter. The defaults suit the mini checkpoint and 128-px images.

    The published pipeline (generate_bbox.py): FastSAM-x.pt, image_size 1024, confidence 0.05,
    box_iou 0.5, channel_order swapped, and the 20 px and 300 boxes that ultralytics fixes.
    """

    USUAL_BATCH: ClassVar[int] = 16  # also on a CPU, where batch_size is null

    model: str = "mini:fastsam"
    image_size: int = 128  # longer side, pixels; rounded up to the stride
    confidence: float = 0.25  # boxes at or below it are dropped
    box_iou: float = 0.5  # of two boxes that overlap more, the less sure one is dropped
    channel_order: ChannelOrder = ChannelOrder.rgb
    border_snap_px: int = 0  # box edges nearer than this to the image border move onto it
    batch_size: int | None = USUAL_BATCH  # images per pass; no result depends on it
    max_detections: int = 300  # boxes per image

    MODEL_KEY: ClassVar[str] = "segmenter.model"
    VERSION: ClassVar[int] = 1  # of everything in fastsam.py that changes boxes

    def __post_init__(self) -> None:
        _check_model(self.MODEL_KEY, self.model)
        _check_batch("segmenter.batch_size", self.batch_size)
        for key in ("image_size", "max_detections"):
            if getattr(self, key) < 1:
                raise ConfigError(f"segmenter.{key}={getattr(self, key)}: must be at least 1")
        for key in ("confidence", "box_iou"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise ConfigError(f"segmenter.{key}={getattr(self, key)}: must lie in [0, 1]")
        if self.border_snap_px < 0:
            raise ConfigError(
                f"segmenter.border_snap_px={self.border_snap_px}: must be >= 0; 0 turns it off"
            )

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        release = "a file of the releases of github.com/ultralytics/assets"
        source = release if self.model.endswith(".pt") else ""
        return Needed(key=self.MODEL_KEY, model=self.model, size="0.14 GB", source=source)

    def weights_file(self) -> Path:
        """The one `.pt` file of the model (a file, or in a folder), or BackendError."""
        path = locate(self.MODEL_KEY, self.model)
        files = [path] if path.is_file() or is_random(path) else sorted(path.glob("*.pt"))
        if len(files) == 1 and files[0].suffix == ".pt":
            return files[0]
        found = ", ".join(file.name for file in files) or "none"
        raise BackendError(
            f"{self.MODEL_KEY}={self.model}: expected one FastSAM checkpoint (.pt) at {path}, "
            f"found {found}. Name the file, e.g. {self.MODEL_KEY}=/path/to/FastSAM-x.pt."
        )

    def identity(self) -> str:
        """Checkpoint contents and every setting that moves a box; the batch size does not."""
        file = self.weights_file()
        return (
            f"fastsam:{file.name}@{content_identity(file)}:float32:v{self.VERSION}"
            f":size={self.image_size}:confidence={self.confidence}:iou={self.box_iou}"
            f":order={self.channel_order.value}:snap={self.border_snap_px}"
            f":max={self.max_detections}"
        )

    def build(self) -> SegmenterHandle:
        """The backend; loads nothing before it is entered."""
        return SegmenterHandle(self.identity, self._open)

    def _open(self) -> SegmentsAndMasks:
        from imgdiff.backends.fastsam import FastSam

        return FastSam(self)


class Dtype(str, enum.Enum):
    """Number type of a model on a GPU; a CPU always computes in float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"

    def effective(self) -> str:
        """The number type in use, as an identity writes it. float32 needs no look at the device."""
        if self is Dtype.float32:
            return self.value
        from imgdiff.backends.loading import effective_dtype

        return str(effective_dtype(self)).removeprefix("torch.")


@dataclass(kw_only=True, slots=True)
class ClipConfig:
    """CLIP as an embedder. The published pipeline: openai/clip-vit-base-patch32."""

    USUAL_BATCH: ClassVar[int] = 32  # also on a CPU, where batch_size is null

    model: str = "mini:clip"
    batch_size: int | None = USUAL_BATCH  # images or texts per pass; no result depends on it
    dtype: Dtype = Dtype.float32

    MODEL_KEY: ClassVar[str] = "embedder.model"
    VERSION: ClassVar[int] = 1  # of everything in clip.py that changes a vector

    def __post_init__(self) -> None:
        _check_model(self.MODEL_KEY, self.model)
        _check_batch("embedder.batch_size", self.batch_size)

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        dtype = self.dtype.value
        return Needed(key=self.MODEL_KEY, model=self.model, size="0.6 GB", dtype=dtype)

    def identity(self) -> str:
        """Checkpoint contents, effective number type, version of the preprocessing."""
        content = content_identity(locate(self.MODEL_KEY, self.model))
        return f"clip:{content}:{self.dtype.effective()}:v{self.VERSION}"

    def build(self) -> EmbedderHandle:
        """The backend; loads nothing before it is entered."""
        return EmbedderHandle(self.identity, self._open)

    def _open(self) -> Embeds:
        from imgdiff.backends.clip import ClipEmbedder

        return ClipEmbedder(self)


class MatchScore(str, enum.Enum):
    """`itc`: cosine of image and text (the paper's thresholds). `itm`: probability of a match."""

    itc = "itc"
    itm = "itm"


@dataclass(kw_only=True, slots=True)
class BlipConfig:
    """BLIP as a matcher. The published pipeline: Salesforce/blip-itm-large-coco with `itc`."""

    USUAL_BATCH: ClassVar[int] = 32  # also on a CPU, where batch_size is null

    model: str = "mini:blip"
    score: MatchScore = MatchScore.itc
    batch_size: int | None = USUAL_BATCH  # images, texts or pairs per pass; speed and memory only
    dtype: Dtype = Dtype.float32

    MODEL_KEY: ClassVar[str] = "matcher.model"
    VERSION: ClassVar[int] = 2  # of everything in blip.py that changes a score

    def __post_init__(self) -> None:
        _check_model(self.MODEL_KEY, self.model)
        _check_batch("matcher.batch_size", self.batch_size)

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        dtype = self.dtype.value
        return Needed(key=self.MODEL_KEY, model=self.model, size="1.9 GB", dtype=dtype)

    def identity(self) -> str:
        """Checkpoint contents, score, effective number type, version of the preprocessing."""
        content = content_identity(locate(self.MODEL_KEY, self.model))
        return f"blip-{self.score.value}:{content}:{self.dtype.effective()}:v{self.VERSION}"

    def build(self) -> MatcherHandle:
        """The backend; loads nothing before it is entered."""
        return MatcherHandle(self.identity, self._open)

    def _open(self) -> Matches:
        from imgdiff.backends.blip import BlipMatcher

        return BlipMatcher(self)


class ChatTemplate(str, enum.Enum):
    """`vicuna_v1`: LLaVA-1.5 and LLaVA-NeXT. `llava_v1`: "curious human", as MMVP's own script."""

    vicuna_v1 = "vicuna_v1"
    llava_v1 = "llava_v1"


@dataclass(kw_only=True, slots=True)
class VlmConfig:
    """LLaVA-1.5, LLaVA-NeXT or a Llama text model, in Hugging Face format, as a chat.

    The published pipeline: llava-hf/llava-v1.6-vicuna-13b-hf in float16, 64 tokens for a region and
    128 for a difference. Such a model wants small batches on one GPU (8 questions, 1 image).
    """

    USUAL_BATCH: ClassVar[int] = 64  # also on a CPU, where batch_size is null

    model: str = "mini:describer"
    template: ChatTemplate = ChatTemplate.vicuna_v1
    max_new_tokens: int = 64
    batch_size: int | None = USUAL_BATCH  # questions per pass, of equal length; speed only
    image_batch_size: int = 16  # images per pass, of equal shape; no result depends on it
    temperature: float = 0.0  # 0 is greedy; above it every question needs a seed
    top_p: float = 1.0  # share of probability that sampling draws from
    dtype: Dtype = Dtype.float32

    MODEL_KEY: ClassVar[str] = "chat.model"  # where a config names the model, for messages
    VERSION: ClassVar[int] = 1  # of everything in vlm.py that changes an answer

    def __post_init__(self) -> None:
        key = self.MODEL_KEY.rpartition(".")[0]
        _check_model(self.MODEL_KEY, self.model)
        _check_batch(f"{key}.batch_size", self.batch_size)
        if self.image_batch_size < 1:
            raise ConfigError(f"{key}.image_batch_size={self.image_batch_size}: must be at least 1")
        if self.max_new_tokens < 1:
            raise ConfigError(
                f"{key}.max_new_tokens={self.max_new_tokens}: must be at least 1; 64 is usual"
            )
        if not 0.0 <= self.temperature < math.inf:
            raise ConfigError(
                f"{key}.temperature={self.temperature}: must be a number >= 0; 0 is greedy"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(f"{key}.top_p={self.top_p}: must lie in (0, 1]; 1 keeps all tokens")

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        size, dtype = "26.7 GB for 13B in float16", self.dtype.value
        return Needed(key=self.MODEL_KEY, model=self.model, size=size, dtype=dtype)

    def identity(self) -> str:
        """Checkpoint contents, number type, template, decoding, version of the preprocessing."""
        content = content_identity(locate(self.MODEL_KEY, self.model))
        how = "greedy" if self.temperature == 0 else f"t{self.temperature}p{self.top_p}"
        return (
            f"vlm:{content}:{self.dtype.effective()}:{self.template.value}:"
            f"{how}:{self.max_new_tokens}:v{self.VERSION}"
        )

    def build(self) -> ChatHandle:
        """The backend; loads nothing before it is entered."""
        return ChatHandle(self.identity, self._open)

    def _open(self) -> Chats:
        from imgdiff.backends.vlm import VlmChat

        return VlmChat(self)


@dataclass(kw_only=True, slots=True)
class DescriberConfig(VlmConfig):
    """The chat that describes regions and differences; greedy."""

    MODEL_KEY: ClassVar[str] = "describer.model"


@dataclass(kw_only=True, slots=True)
class EditingModelConfig(VlmConfig):
    """The chat that edits captions."""

    max_new_tokens: int = 128

    MODEL_KEY: ClassVar[str] = "editor.model.model"


def _check_model(key: str, model: str) -> None:
    if not model.strip():
        raise ConfigError(
            f"{key}={model!r}: names no checkpoint; give mini:NAME, a folder or a hub name"
        )


def _check_batch(key: str, size: int | None) -> None:
    if size is not None and size < 1:
        raise ConfigError(
            f"{key}={size}: must be at least 1, or null for what the GPU's memory holds"
        )

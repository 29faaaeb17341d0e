"""CLIP (arXiv 2103.00020) as an `Embedder`, through transformers' `CLIPModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from typing_extensions import Self

from imgdiff.backends.checkpoints import content_identity, fixed_batches, locate
from imgdiff.backends.configs import ClipConfig
from imgdiff.backends.loading import (
    clean,
    device,
    dtype_name,
    effective_dtype,
    loading,
    require_files,
)
from imgdiff.core.errors import BackendError
from imgdiff.core.images import to_rgb

KEY = "embedder.model"
VERSION = 1  # of everything below that changes a vector
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    model: Any
    tokenizer: Any
    processor: Any


class ClipEmbedder:
    """Any `CLIPModel` checkpoint with its own tokenizer and image processor; an `Embedder`.

    Texts are padded and cut to the length that the model has positions for (77 in CLIP).
    """

    def __init__(self, config: ClipConfig) -> None:
        self._config = config
        self._loaded: _Loaded | None = None

    @property
    def identity(self) -> str:
        """Checkpoint contents, effective number type, version of the preprocessing."""
        folder = locate(KEY, self._config.model)
        return f"clip:{content_identity(folder)}:{dtype_name(self._config.dtype)}:v{VERSION}"

    def __enter__(self) -> Self:
        """Load the weights; BackendError where they are not on this machine."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        folder = locate(KEY, self._config.model)
        require_files(KEY, self._config.model, folder, "config.json", "preprocessor_config.json")
        with loading(KEY, self._config.model):
            model = CLIPModel.from_pretrained(folder, dtype=effective_dtype(self._config.dtype))
            self._loaded = _Loaded(
                model=model.eval().to(device()),
                tokenizer=CLIPTokenizer.from_pretrained(folder),
                processor=CLIPImageProcessorPil.from_pretrained(folder),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the weights."""
        self._loaded = None

    def embed_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """One unit row per image, preprocessed as the checkpoint says (centre crop included)."""
        return self._embed(images, self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """One unit row per text; what lies beyond the model's length is cut off."""
        return self._embed(texts, self._text_features)

    def _parts(self) -> _Loaded:
        if self._loaded is None:
            raise BackendError("ClipEmbedder holds its weights inside `with` only; enter it first")
        return self._loaded

    def _embed(
        self, items: Sequence[T], features_of: Callable[[list[T]], Tensor]
    ) -> Float[np.ndarray, "N D"]:
        rows = [np.zeros((0, self._parts().model.config.projection_dim), dtype=np.float32)]
        for batch, count in fixed_batches(items, self._config.batch_size):
            with torch.inference_mode():
                features_BD = torch.nn.functional.normalize(features_of(batch).float(), dim=-1)
            rows.append(features_BD.cpu().numpy()[:count])
        return np.concatenate(rows)

    def _image_features(self, images: list[Image.Image]) -> Tensor:
        parts = self._parts()
        rgb = [to_rgb(image) for image in images]
        pixels = parts.processor(images=rgb, return_tensors="pt")["pixel_values"]
        out = parts.model.vision_model(pixel_values=pixels.to(device(), parts.model.dtype))
        features: Tensor = parts.model.visual_projection(out.pooler_output)
        return features

    def _text_features(self, texts: list[str]) -> Tensor:
        parts = self._parts()
        tokens = parts.tokenizer(
            [clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=parts.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(device())
        out = parts.model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        features: Tensor = parts.model.text_projection(out.pooler_output)
        return features

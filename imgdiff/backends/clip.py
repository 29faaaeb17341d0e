"""CLIP (arXiv 2103.00020) as an `Embedder`, through transformers' `CLIPModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends.batching import BatchSize, in_batches
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.configs import ClipConfig
from imgdiff.backends.loading import (
    clean,
    device,
    effective_dtype,
    loading,
    require_files,
)
from imgdiff.backends.pixels import PixelReader
from imgdiff.backends.random_checkpoints import open_model, tokenizer_folder

T = TypeVar("T")


class ClipEmbedder:
    """Any `CLIPModel` checkpoint with its own tokenizer and image processor; it `Embeds`.

    Texts are padded and cut to the length that the model has positions for (77 in CLIP). What
    changes a vector here raises `ClipConfig.VERSION`.
    """

    def __init__(self, config: ClipConfig) -> None:
        """Load the weights; BackendError where they are not on this machine."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        self._batch_size = BatchSize("embedder.batch_size", config.batch_size)
        folder = locate(config.MODEL_KEY, config.model)
        needed = ("config.json", "preprocessor_config.json")
        require_files(config.MODEL_KEY, config.model, folder, *needed)
        with loading(config.MODEL_KEY, config.model):
            model = open_model(CLIPModel, folder, effective_dtype(config.dtype))
            self._model: Any = model.eval().to(device())
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(tokenizer_folder(folder))
            self._pixels = PixelReader(CLIPImageProcessorPil.from_pretrained(folder))

    def embed_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """One unit row per image, preprocessed as the checkpoint says (centre crop included)."""
        return self._embed(images, self._image_features)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """One unit row per text; what lies beyond the model's length is cut off."""
        return self._embed(texts, self._text_features)

    def _embed(
        self, items: Sequence[T], features_of: Callable[[list[T]], Tensor]
    ) -> Float[np.ndarray, "N D"]:
        def unit_rows(batch: list[T]) -> Float[np.ndarray, "B D"]:
            with torch.inference_mode():
                features_BD = torch.nn.functional.normalize(features_of(batch).float(), dim=-1)
            rows_BD: Float[np.ndarray, "B D"] = features_BD.cpu().numpy()
            return rows_BD

        none = np.zeros((0, self._model.config.projection_dim), dtype=np.float32)
        return np.vstack([none, *in_batches(items, self._batch_size, unit_rows)])

    def _image_features(self, images: list[Image.Image]) -> Tensor:
        pixels = self._pixels(images)
        out = self._model.vision_model(pixel_values=pixels.to(device(), self._model.dtype))
        features: Tensor = self._model.visual_projection(out.pooler_output)
        return features

    def _text_features(self, texts: list[str]) -> Tensor:
        tokens = self._tokenizer(
            [clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(device())
        out = self._model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        features: Tensor = self._model.text_projection(out.pooler_output)
        return features

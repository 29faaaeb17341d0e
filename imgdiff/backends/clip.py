"""CLIP (arXiv 2103.00020) as an `Embedder`, through transformers' `CLIPModel`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends.batching import batch_size, in_batches, in_prepared_batches
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


class ClipEmbedder:
    """Any `CLIPModel` checkpoint with its own tokenizer and image processor; it `Embeds`.

    Texts are padded and cut to the length that the model has positions for (77 in CLIP). What
    changes a vector here raises `ClipConfig.VERSION`.
    """

    def __init__(self, config: ClipConfig) -> None:
        """Load the weights; BackendError where they are not on this machine."""
        from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

        key, asked, usual = "embedder.batch_size", config.batch_size, config.USUAL_BATCH
        self._image_batch = batch_size(key, asked, usual)
        self._text_batch = batch_size(key, asked, usual)
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
        rows = in_prepared_batches(images, self._image_batch, self._pixels, self._image_rows)
        return self._stacked(rows)

    def embed_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """One unit row per text; what lies beyond the model's length is cut off."""
        return self._stacked(in_batches(texts, self._text_batch, self._text_rows))

    def _stacked(self, rows: Iterable[Float[np.ndarray, " D"]]) -> Float[np.ndarray, "N D"]:
        none = np.zeros((0, self._model.config.projection_dim), dtype=np.float32)
        return np.vstack([none, *rows])

    @torch.inference_mode()
    def _image_rows(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[np.ndarray, "B D"]:
        out = self._model.vision_model(pixel_values=pixels.to(device(), self._model.dtype))
        return _unit_rows(self._model.visual_projection(out.pooler_output))

    @torch.inference_mode()
    def _text_rows(self, texts: list[str]) -> Float[np.ndarray, "B D"]:
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
        return _unit_rows(self._model.text_projection(out.pooler_output))


def _unit_rows(features_BD: Float[Tensor, "B D"]) -> Float[np.ndarray, "B D"]:
    rows_BD: Float[np.ndarray, "B D"]
    rows_BD = torch.nn.functional.normalize(features_BD.float(), dim=-1).cpu().numpy()
    return rows_BD

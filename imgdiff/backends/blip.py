"""BLIP (arXiv 2201.12086) as a `Matcher`, through transformers' `BlipForImageTextRetrieval`.

The paper's "image-text matching" thresholds are cosines of the contrastive head (score `itc`,
transformers' `use_itm_head=False`); the matching head's probability is the score `itm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from imgdiff.backends.batching import batch_size, in_batches, in_prepared_batches
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.configs import BlipConfig, MatchScore
from imgdiff.backends.loading import (
    clean,
    device,
    effective_dtype,
    loading,
    require_files,
)
from imgdiff.backends.pixels import PixelReader
from imgdiff.backends.random_checkpoints import open_model, tokenizer_folder
from imgdiff.core.errors import BackendError

# A pass, of a size that is found: half of what a stage opens at once, since the last one is padded.
MOST_IMAGES = 64
TEXT_LENGTHS = (16, 64, 512)  # a text is padded to the first that holds it, whatever its neighbours


class BlipMatcher:
    """Any `BlipForImageTextRetrieval` checkpoint; it `Matches`.

    Each image and each distinct text is encoded once per call. What changes a score here raises
    `BlipConfig.VERSION`.
    """

    def __init__(self, config: BlipConfig) -> None:
        """Load the weights; BackendError where they are not on this machine."""
        from transformers import BertTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

        self._config = config
        self._batch_size = batch_size(
            "matcher.batch_size", config.batch_size, config.USUAL_BATCH, MOST_IMAGES
        )
        folder = locate(config.MODEL_KEY, config.model)
        needed = ("config.json", "preprocessor_config.json")
        require_files(config.MODEL_KEY, config.model, folder, *needed)
        with loading(config.MODEL_KEY, config.model):
            dtype = effective_dtype(config.dtype)
            model = open_model(BlipForImageTextRetrieval, folder, dtype)
            self._model: Any = fused(model.eval().to(device()))
            self._tokenizer: Any = BertTokenizer.from_pretrained(tokenizer_folder(folder))
            self._pixels = PixelReader(BlipImageProcessorPil.from_pretrained(folder))
        self._most_tokens = int(model.config.text_config.max_position_embeddings)

    def match(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        """For each image the scores of its own texts: `itc` in [-1, 1], `itm` in [0, 1].

        A text beyond the model's length is cut off. BackendError where the two lists differ in
        length.
        """
        if len(images) != len(texts):
            raise BackendError(f"match got {len(images)} images but texts for {len(texts)}")
        if self._config.score is MatchScore.itc:
            return self._cosines(images, texts)
        return self._probabilities(images, texts)

    def _cosines(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        project = self._model.vision_proj
        with torch.inference_mode():
            images_ND = [_unit(project(state[0])) for state in self._image_states(images)]
        distinct = list(dict.fromkeys(text for own in texts for text in own))
        text_rows = dict(zip(distinct, self._text_features(distinct), strict=True))
        # float64 sums, so that the rounded cosine of a pair is the same in every company
        return [
            np.array([np.sum(row * text_rows[text]) for text in own], dtype=np.float32)
            for row, own in zip(images_ND, texts, strict=True)
        ]

    def _image_states(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """Token states of each image [P W], on the device."""

        def states_of(pixels: Tensor) -> Tensor:
            with torch.inference_mode():
                out = self._model.vision_model(pixel_values=pixels.to(device(), self._model.dtype))
            states_BPW: Tensor = out.last_hidden_state
            return states_BPW

        return list(in_prepared_batches(images, self._batch_size, self._pixels, states_of))

    def _text_features(self, texts: Sequence[str]) -> list[Float[np.ndarray, " D"]]:
        """Unit vector of each text from the contrastive head, in the given order."""
        rows: dict[int, Float[np.ndarray, " D"]] = {}
        for length, indices in self._by_length(texts).items():

            def unit_rows(batch: list[int], length: int = length) -> list[Any]:
                tokens = self._tokens([texts[index] for index in batch], length)
                with torch.inference_mode():
                    out = self._model.text_encoder(**tokens)
                    features_BD = self._model.text_proj(out.last_hidden_state[:, 0])
                return [_unit(feature) for feature in features_BD]

            made = in_batches(indices, self._batch_size, unit_rows)
            rows |= dict(zip(indices, made, strict=True))
        return [rows[index] for index in range(len(texts))]

    def _by_length(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Indices of the texts by the padded length of each."""
        groups: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            ids = self._tokenizer(clean(text), truncation=True, max_length=self._most_tokens)[
                "input_ids"
            ]
            fitting = (length for length in TEXT_LENGTHS if len(ids) <= length)
            length = min(next(fitting, self._most_tokens), self._most_tokens)
            groups.setdefault(length, []).append(index)
        return groups

    def _tokens(self, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        tokens = self._tokenizer(
            [clean(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        return {name: tokens[name].to(device()) for name in ("input_ids", "attention_mask")}

    def _probabilities(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        states = self._image_states(images)
        scores = [np.zeros(len(own), dtype=np.float32) for own in texts]
        pairs = [(image, place) for image, own in enumerate(texts) for place in range(len(own))]
        groups = self._by_length([texts[image][place] for image, place in pairs])
        for length, indices in groups.items():

            def probabilities(batch: list[tuple[int, int]], length: int = length) -> Any:
                tokens = self._tokens([texts[i][place] for i, place in batch], length)
                states_BPW = torch.stack([states[i] for i, _ in batch])
                return self._matched(tokens, states_BPW)

            asked = [pairs[index] for index in indices]
            matched = in_batches(asked, self._batch_size, probabilities)
            for (image, place), value in zip(asked, matched, strict=True):
                scores[image][place] = value
        return scores

    def _matched(
        self, tokens: dict[str, Tensor], states_BPW: Float[Tensor, "B P W"]
    ) -> Float[np.ndarray, " B"]:
        """Probability of a match of each (text, image) pair."""
        model = self._model
        with torch.inference_mode():
            out = model.text_encoder(**tokens, encoder_hidden_states=states_BPW)
            logits_B2 = model.itm_head(out.last_hidden_state[:, 0]).float()
            return np.asarray(logits_B2.softmax(dim=-1)[:, 1].cpu().numpy())


def fused(model: Any) -> Any:
    """The model with fused attention in its image encoder, in place.

    transformers' BLIP has explicit probabilities only: 577 x 577 of each head and layer at 384 px,
    which take more time than the products around them. Cosines differ by about 1e-7.
    """
    for layer in model.vision_model.encoder.layers:
        layer.self_attn.forward = MethodType(_attend, layer.self_attn)
    return model


def _attend(
    attention: Any, hidden_states: Float[Tensor, "B P W"], **_: Any
) -> tuple[Float[Tensor, "B P W"], None]:
    """`BlipAttention.forward` without dropout; there are no probabilities to return."""
    heads = attention.qkv(hidden_states).unflatten(-1, (3, attention.num_heads, -1))
    query, key, value = heads.permute(2, 0, 3, 1, 4)
    out = scaled_dot_product_attention(query, key, value, scale=attention.scale)
    return attention.projection(out.transpose(1, 2).flatten(2)), None


def _unit(vector: Float[Tensor, " D"]) -> Float[np.ndarray, " D"]:
    """The vector in float64 at length 1."""
    values = vector.float().cpu().numpy().astype(np.float64)
    return np.asarray(values / max(float(np.sqrt(np.sum(values * values))), 1e-12))

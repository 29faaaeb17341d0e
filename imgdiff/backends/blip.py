"""BLIP (arXiv 2201.12086) as a `Matcher`, through transformers' `BlipForImageTextRetrieval`.

The paper's "image-text matching" thresholds are cosines of the contrastive head (score `itc`,
transformers' `use_itm_head=False`); the matching head's probability is the score `itm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from typing_extensions import Self

from imgdiff.backends.checkpoints import content_identity, fixed_batches, locate
from imgdiff.backends.configs import BlipConfig, MatchScore
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

KEY = "matcher.model"
VERSION = 1  # of everything below that changes a score
TEXT_LENGTHS = (16, 64, 512)  # a text is padded to the first that holds it, whatever its neighbours


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    model: Any
    tokenizer: Any
    processor: Any

    @property
    def most_tokens(self) -> int:
        limit: int = self.model.config.text_config.max_position_embeddings
        return limit


class BlipMatcher:
    """Any `BlipForImageTextRetrieval` checkpoint; a `Matcher`.

    Each image and each distinct text is encoded once per call.
    """

    def __init__(self, config: BlipConfig) -> None:
        self._config = config
        self._loaded: _Loaded | None = None

    @property
    def identity(self) -> str:
        """Checkpoint contents, score, effective number type, version of the preprocessing."""
        content = content_identity(locate(KEY, self._config.model))
        score = self._config.score.value
        return f"blip-{score}:{content}:{dtype_name(self._config.dtype)}:v{VERSION}"

    def __enter__(self) -> Self:
        """Load the weights; BackendError where they are not on this machine."""
        from transformers import BertTokenizer, BlipForImageTextRetrieval, BlipImageProcessorPil

        folder = locate(KEY, self._config.model)
        require_files(KEY, self._config.model, folder, "config.json", "preprocessor_config.json")
        with loading(KEY, self._config.model):
            model = BlipForImageTextRetrieval.from_pretrained(
                folder, dtype=effective_dtype(self._config.dtype)
            )
            self._loaded = _Loaded(
                model=model.eval().to(device()),
                tokenizer=BertTokenizer.from_pretrained(folder),
                processor=BlipImageProcessorPil.from_pretrained(folder),
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

    def _parts(self) -> _Loaded:
        if self._loaded is None:
            raise BackendError("BlipMatcher holds its weights inside `with` only; enter it first")
        return self._loaded

    def _cosines(
        self, images: Sequence[Image.Image], texts: Sequence[Sequence[str]]
    ) -> list[Float[np.ndarray, " T"]]:
        project = self._parts().model.vision_proj
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
        parts = self._parts()
        states: list[Tensor] = []
        for batch, count in fixed_batches(images, self._config.batch_size):
            rgb = [to_rgb(image) for image in batch]
            pixels = parts.processor(images=rgb, return_tensors="pt")["pixel_values"]
            with torch.inference_mode():
                out = parts.model.vision_model(pixel_values=pixels.to(device(), parts.model.dtype))
            states.extend(out.last_hidden_state[:count])
        return states

    def _text_features(self, texts: Sequence[str]) -> list[Float[np.ndarray, " D"]]:
        """Unit vector of each text from the contrastive head, in the given order."""
        parts = self._parts()
        rows: dict[int, Float[np.ndarray, " D"]] = {}
        for length, indices in self._by_length(texts).items():
            for batch, count in fixed_batches(indices, self._config.batch_size):
                tokens = self._tokens([texts[index] for index in batch], length)
                with torch.inference_mode():
                    out = parts.model.text_encoder(**tokens)
                    features_BD = parts.model.text_proj(out.last_hidden_state[:, 0])
                for index, feature in zip(batch[:count], features_BD, strict=False):
                    rows[index] = _unit(feature)
        return [rows[index] for index in range(len(texts))]

    def _by_length(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Indices of the texts by the padded length of each."""
        groups: dict[int, list[int]] = {}
        parts = self._parts()
        for index, text in enumerate(texts):
            ids = parts.tokenizer(clean(text), truncation=True, max_length=parts.most_tokens)[
                "input_ids"
            ]
            fitting = (length for length in TEXT_LENGTHS if len(ids) <= length)
            length = min(next(fitting, parts.most_tokens), parts.most_tokens)
            groups.setdefault(length, []).append(index)
        return groups

    def _tokens(self, texts: Sequence[str], length: int) -> dict[str, Tensor]:
        tokens = self._parts().tokenizer(
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
            for batch, count in fixed_batches(indices, self._config.batch_size):
                of_batch = [pairs[index] for index in batch]
                tokens = self._tokens([texts[i][place] for i, place in of_batch], length)
                states_BPW = torch.stack([states[i] for i, _ in of_batch])
                matched = self._matched(tokens, states_BPW)
                for (image, place), value in zip(of_batch[:count], matched, strict=False):
                    scores[image][place] = value
        return scores

    def _matched(
        self, tokens: dict[str, Tensor], states_BPW: Float[Tensor, "B P W"]
    ) -> Float[np.ndarray, " B"]:
        """Probability of a match of each (text, image) pair."""
        model = self._parts().model
        with torch.inference_mode():
            out = model.text_encoder(**tokens, encoder_hidden_states=states_BPW)
            logits_B2 = model.itm_head(out.last_hidden_state[:, 0]).float()
            return np.asarray(logits_B2.softmax(dim=-1)[:, 1].cpu().numpy())


def _unit(vector: Float[Tensor, " D"]) -> Float[np.ndarray, " D"]:
    """The vector in float64 at length 1."""
    values = vector.float().cpu().numpy().astype(np.float64)
    return np.asarray(values / max(float(np.sqrt(np.sum(values * values))), 1e-12))

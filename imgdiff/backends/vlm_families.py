"""The model families behind `vlm.VlmChat`: how each loads, sees an image and speaks.

Chosen by the `model_type` of config.json, never by name. torch and transformers live here.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from imgdiff.backends.llama_tokenizer import open_llama_tokenizer
from imgdiff.backends.loading import device, quietly, require_files
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class Family:
    """A causal language model that continues text, and for its subclasses also sees images."""

    model_type = "llama"

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        with quietly():
            model = self._load(folder, dtype).eval()
            self.model = model.requires_grad_(requires_grad=False).to(device())
            self.tokenizer: Any = open_llama_tokenizer(folder)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM.from_pretrained(folder, dtype=dtype)

    @property
    def language(self) -> Any:
        """The decoder without its head."""
        return self.model.model

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        found = self.model.generation_config.eos_token_id
        if found is None:
            found = self.tokenizer.eos_token_id
        return frozenset(found if isinstance(found, list) else [found])

    def embed(self, ids_BT: Int[Tensor, "B T"]) -> Float[Tensor, "B T H"]:
        """Input embeddings of text tokens."""
        embedded: Tensor = self.model.get_input_embeddings()(ids_BT)
        return embedded

    def last_logits(self, inputs_BTH: Float[Tensor, "B T H"], cache: Any) -> Float[Tensor, "B V"]:
        """Run the decoder after `cache` (which grows by T); scores of the next token, float32."""
        hidden = self.language(inputs_embeds=inputs_BTH, past_key_values=cache, use_cache=True)
        logits: Tensor = self.model.lm_head(hidden.last_hidden_state[:, -1])
        return logits.float()

    def shape_of(self, image: Image.Image) -> Hashable:
        """Images of equal shape can be encoded together and take equally many tokens."""
        raise BackendError(
            f"this checkpoint is a text model ({self.model_type}); it cannot be shown an image"
        )

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "I N H"]:
        """What the language model sees of images of equal shape."""
        raise BackendError(f"a {self.model_type} model has no image features")


class Llava(Family):
    """LLaVA-1.5: every image padded to a square, then one view of it."""

    model_type = "llava"

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from transformers import LlavaImageProcessorPil

        super().__init__(folder, dtype)
        with quietly():
            # The published preprocessor files say centre crop; LLaVA-1.5 was trained on padding.
            self.processor: Any = LlavaImageProcessorPil.from_pretrained(folder, do_pad=True)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlavaForConditionalGeneration

        return LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype)

    @property
    def language(self) -> Any:
        """The decoder without its head."""
        return self.model.model.language_model

    def shape_of(self, image: Image.Image) -> Hashable:
        """All images become one size."""
        return "square"

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "I N H"]:
        """One row of projected patches per image."""
        inputs = self.processor(list(images), return_tensors="pt")
        return self._features(pixel_values=self._pixels(inputs))

    def _pixels(self, inputs: Any) -> Tensor:
        pixels: Tensor = inputs["pixel_values"].to(device(), self.model.dtype)
        return pixels

    def _features(self, **inputs: Tensor) -> Tensor:
        rows = self.model.get_image_features(**inputs, return_dict=True).pooler_output
        return torch.stack(list(rows))


class LlavaNext(Llava):
    """LLaVA-NeXT: the whole image and the tiles of the grid that suits its shape."""

    model_type = "llava_next"

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        from transformers import LlavaNextImageProcessorPil

        Family.__init__(self, folder, dtype)
        with quietly():
            self.processor = LlavaNextImageProcessorPil.from_pretrained(folder)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlavaNextForConditionalGeneration

        return LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=dtype)

    def shape_of(self, image: Image.Image) -> Hashable:
        """Tiles and their unpadding depend on the size."""
        return image.size

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "I N H"]:
        """Base view, then the tiles row by row with line ends."""
        inputs = self.processor(list(images), return_tensors="pt")
        return self._features(
            pixel_values=self._pixels(inputs), image_sizes=inputs["image_sizes"].to(device())
        )


FAMILIES: dict[str, type[Family]] = {
    family.model_type: family for family in (Family, Llava, LlavaNext)
}


def family_of(key: str, model: str, folder: Path) -> type[Family]:
    """The family that config.json names; BackendError for any other or an incomplete folder."""
    require_files(key, model, folder, "config.json", "tokenizer_config.json")
    model_type = read_json(folder / "config.json").get("model_type")
    family = FAMILIES.get(model_type)
    if family is None:
        raise BackendError(
            f"{key}={model}: config.json says model_type={model_type!r}; this backend runs "
            f"{', '.join(FAMILIES)}. Choose a checkpoint of one of these, in Hugging Face format."
        )
    if issubclass(family, Llava) and not any((folder / n).is_file() for n in PROCESSOR_FILES):
        raise BackendError(
            f"{key}={model}: {folder} lacks {' or '.join(PROCESSOR_FILES)}. "
            "Point the setting at the whole checkpoint folder as it was downloaded."
        )
    return family

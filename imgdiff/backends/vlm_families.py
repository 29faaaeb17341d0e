"""The model families behind `vlm.VlmChat`: how each loads, sees an image and speaks.

torch and transformers live here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from imgdiff.backends.adapters import Adapters, find_adapters, holds_adapters, merged
from imgdiff.backends.chat_templates import Exchange, Template, encode, image_token_id
from imgdiff.backends.checkpoint_kind import Kind, kind_of
from imgdiff.backends.internvl2_images import INFERENCE_TILES, grid_of
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_text import IMAGE_PART, STOP, show_images, token_id
from imgdiff.backends.llama_tokenizer import (
    open_llama_tokenizer,
    original_vocabulary,
    without_added_tokens,
)
from imgdiff.backends.loading import device, quietly, require_files, rounded
from imgdiff.backends.random_checkpoints import open_model, tokenizer_folder
from imgdiff.core.errors import BackendError

Views = dict[str, Tensor]  # inputs of an image encoder by name
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class Family:
    """A causal language model that continues text, and for its subclasses also sees images.

    With `adapters`, `folder` is their base; they are merged into it in float32 before anything is
    rounded to `dtype`.
    """

    kind = Kind.llama

    def __init__(self, folder: Path, dtype: torch.dtype, adapters: Adapters | None = None) -> None:
        with quietly():
            model = self._load(folder, dtype if adapters is None else torch.float32)
            model = model if adapters is None else rounded(merged(model, adapters), dtype)
            self.model = model.eval().requires_grad_(requires_grad=False).to(device())
            self.tokenizer: Any = self._open_tokenizer(folder)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlamaForCausalLM

        return open_model(LlamaForCausalLM, folder, dtype)

    def _open_tokenizer(self, folder: Path) -> Any:
        return open_llama_tokenizer(tokenizer_folder(folder))

    @property
    def image_id(self) -> int:
        """The id that stands where `features` come in."""
        return image_token_id(self.tokenizer)

    def prompt(
        self, turns: Sequence[Exchange], image_tokens: Sequence[int], template: Template
    ) -> list[int]:
        """Ids of a conversation up to where its last answer begins, as the model was trained.

        An image that no question shows stands before the first one. DataError where the number of
        `<image>` differs from that of `image_tokens`.
        """
        shown = show_images(turns, len(image_tokens))
        return encode(self.tokenizer, shown, image_tokens, template).input_ids

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
        raise BackendError(f"this checkpoint is {self.kind.value}; it cannot be shown an image")

    def views(self, images: Sequence[Image.Image]) -> Views:
        """Pixels of images of equal shape, and what else the image encoder takes; on the CPU."""
        raise BackendError(f"{self.kind.value} has no image features")

    def features_of(self, views: Views) -> Float[Tensor, "I N H"]:
        """What the language model sees of them."""
        raise BackendError(f"{self.kind.value} has no image features")

    def features(self, images: Sequence[Image.Image]) -> Float[Tensor, "I N H"]:
        """`features_of` the views of images of equal shape."""
        return self.features_of(self.views(images))


class Llava(Family):
    """LLaVA-1.5: every image padded to a square, then one view of it."""

    kind = Kind.llava

    def __init__(self, folder: Path, dtype: torch.dtype, adapters: Adapters | None = None) -> None:
        from transformers import LlavaImageProcessorPil

        super().__init__(folder, dtype, adapters)
        words = original_vocabulary(self.tokenizer)
        self._plain = without_added_tokens(self.tokenizer, words)  # as in `LlavaReader`
        with quietly():
            # The published preprocessor files say centre crop; LLaVA-1.5 was trained on padding.
            self.processor: Any = LlavaImageProcessorPil.from_pretrained(folder, do_pad=True)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlavaForConditionalGeneration

        return open_model(LlavaForConditionalGeneration, folder, dtype)

    @property
    def language(self) -> Any:
        """The decoder without its head."""
        return self.model.model.language_model

    def prompt(
        self, turns: Sequence[Exchange], image_tokens: Sequence[int], template: Template
    ) -> list[int]:
        """As `LlavaReader.encode`: `<pad>` in a question is text."""
        shown = show_images(turns, len(image_tokens))
        return encode(self._plain, shown, image_tokens, template, self.image_id).input_ids

    def shape_of(self, image: Image.Image) -> Hashable:
        """All images become one size."""
        return "square"

    def views(self, images: Sequence[Image.Image]) -> Views:
        """One square view of each."""
        inputs = self.processor(list(images), return_tensors="pt")
        return {"pixel_values": inputs["pixel_values"]}

    def features_of(self, views: Views) -> Float[Tensor, "I N H"]:
        """One row of projected patches per image."""
        inputs = {name: values.to(device()) for name, values in views.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        rows = self.model.get_image_features(**inputs, return_dict=True).pooler_output
        return torch.stack(list(rows))


class LlavaNext(Llava):
    """LLaVA-NeXT: the whole image and the tiles of the grid that suits its shape."""

    kind = Kind.llava_next

    def __init__(self, folder: Path, dtype: torch.dtype, adapters: Adapters | None = None) -> None:
        from transformers import LlavaNextImageProcessorPil

        Family.__init__(self, folder, dtype, adapters)
        with quietly():
            self.processor = LlavaNextImageProcessorPil.from_pretrained(folder)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from transformers import LlavaNextForConditionalGeneration

        return open_model(LlavaNextForConditionalGeneration, folder, dtype)

    def prompt(
        self, turns: Sequence[Exchange], image_tokens: Sequence[int], template: Template
    ) -> list[int]:
        """As of a text model."""
        return Family.prompt(self, turns, image_tokens, template)

    def shape_of(self, image: Image.Image) -> Hashable:
        """Tiles and their unpadding depend on the size."""
        return image.size

    def views(self, images: Sequence[Image.Image]) -> Views:
        """Of each the whole, then its tiles row by row (the encoder adds line ends)."""
        inputs = self.processor(list(images), return_tensors="pt")
        return {name: inputs[name] for name in ("pixel_values", "image_sizes")}


class InternVl2(Family):
    """InternVL2: up to 12 tiles and a thumbnail of an image; original and converted folders."""

    kind = Kind.internvl

    def __init__(self, folder: Path, dtype: torch.dtype, adapters: Adapters | None = None) -> None:
        self.reader = InternVl2Reader(folder, INFERENCE_TILES)
        super().__init__(folder, dtype, adapters)

    def _load(self, folder: Path, dtype: torch.dtype) -> Any:
        from imgdiff.backends.internvl2_weights import load

        return load(folder, dtype)

    def _open_tokenizer(self, folder: Path) -> Any:
        return self.reader.tokenizer

    @property
    def language(self) -> Any:
        """The decoder without its head."""
        return self.model.model.language_model

    @property
    def stop_ids(self) -> frozenset[int]:
        """The end of a turn, whatever the generation settings say."""
        return frozenset([token_id(self.tokenizer, STOP)])

    @property
    def image_id(self) -> int:
        """`<IMG_CONTEXT>`; `<img>` before it is text."""
        return token_id(self.tokenizer, IMAGE_PART)

    def prompt(
        self, turns: Sequence[Exchange], image_tokens: Sequence[int], template: Template
    ) -> list[int]:
        """In the template that the checkpoint was made with; `template` is that of other models."""
        return self.reader.encode(turns, image_tokens).input_ids

    def shape_of(self, image: Image.Image) -> Hashable:
        """The grid of its tiles."""
        return grid_of(*image.size, self.reader.max_tiles, self.reader.view_px)

    def views(self, images: Sequence[Image.Image]) -> Views:
        """Of each its tiles row by row, then the thumbnail."""
        return {"pixel_values": torch.stack([self.reader.views([image]) for image in images])}

    def features_of(self, views: Views) -> Float[Tensor, "I N H"]:
        """The tiles' rows, then the thumbnail's."""
        pixels_IK3SS = views["pixel_values"]
        rows = self.model.model.get_image_features(
            pixel_values=pixels_IK3SS.flatten(0, 1).to(device(), self.model.dtype),
            return_dict=True,
        ).pooler_output
        return torch.stack([row.flatten(0, 1) for row in rows.chunk(len(pixels_IK3SS))])


FAMILIES: dict[Kind, type[Family]] = {
    Kind.llama: Family, Kind.llava: Llava, Kind.llava_next: LlavaNext,
    Kind.internvl: InternVl2, Kind.internvl_original: InternVl2,
}  # fmt: skip

Opener = Callable[[Path, torch.dtype], Family]


def family_of(key: str, model: str, folder: Path) -> Opener:
    """What opens the folder in a number type: a model that config.json names, or adapters of one.

    BackendError for any other, or an incomplete folder, before a weight is read.
    """
    if not holds_adapters(folder):
        return _named(key, model, folder)
    adapters = find_adapters(key, model, folder)
    family = _named(key, f"{model} on {adapters.base_name}", adapters.base)
    return lambda _, dtype: family(adapters.base, dtype, adapters)


def _named(key: str, model: str, folder: Path) -> type[Family]:
    require_files(key, model, folder, "config.json")
    require_files(key, model, tokenizer_folder(folder), "tokenizer_config.json")
    family = FAMILIES[kind_of(key, model, folder, FAMILIES)]
    if issubclass(family, Llava) and not any((folder / n).is_file() for n in PROCESSOR_FILES):
        raise BackendError(
            f"{key}={model}: {folder} lacks {' or '.join(PROCESSOR_FILES)}. "
            "Point the setting at the whole checkpoint folder as it was downloaded."
        )
    return family

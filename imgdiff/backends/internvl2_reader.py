"""The reader of InternVL2: its chat text and its tiles, from an original or a converted folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends import internvl2_config as configs
from imgdiff.backends import internvl2_images as tiling
from imgdiff.backends.chat_templates import Encoded, Exchange
from imgdiff.backends.internvl2_text import encode
from imgdiff.backends.internvl2_tokenizer import open_tokenizer
from imgdiff.backends.readers import Grid, Size
from imgdiff.core.errors import BackendError
from imgdiff.core.identity import fingerprint


class InternVl2Reader:
    """InternVL2-1B and -8B (implements `readers.Reader`), opened without weights.

    `max_tiles` is the most tiles that the images of one sample share (thumbnails not counted):
    the authors train with TRAINING_TILES and ask with INFERENCE_TILES (`internvl2_images`).
    BackendError where the folder is no InternVL2 checkpoint or does not say its template.
    """

    def __init__(self, folder: Path, max_tiles: int) -> None:
        tiling.check_max_tiles(max_tiles)
        raw = configs.read_config(folder)
        self.template = configs.template_of(raw, folder)
        try:
            self.view_px = configs.view_side(raw)
            self._tokens_per_view = configs.tokens_per_view(raw)
            text = raw["llm_config" if raw["model_type"] == configs.ORIGINAL else "text_config"]
            self.vocabulary = int(text["vocab_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(
                f"{folder}: config.json is not whole ({error!r}). Use the checkpoint's own."
            ) from None
        self.max_tiles = max_tiles
        self.tokenizer: Any = open_tokenizer(folder)
        # The reference pads with id 0 and drops it from attention: for Qwen2 that is "!".
        self.pad_id = int(self.tokenizer.pad_token_id)
        self.identity = fingerprint(
            "internvl2", self.tokenizer.backend_tokenizer.to_str(), self.template,
            self.view_px, self._tokens_per_view, max_tiles,
        )  # fmt: skip

    def image_tokens(self, sizes: Sequence[Size]) -> tuple[int, ...]:
        """`<IMG_CONTEXT>` per image; `<img>` and `</img>` around them are not counted."""
        limit = tiling.tiles_per_image(self.max_tiles, len(sizes))
        return tuple(
            self._tokens_per_view * tiling.count_views(width, height, limit, self.view_px)
            for width, height in sizes
        )

    def grids(self, sizes: Sequence[Size]) -> tuple[Grid, ...]:
        """The tiles of each image."""
        limit = tiling.tiles_per_image(self.max_tiles, len(sizes))
        return tuple(tiling.grid_of(*size, limit, self.view_px) for size in sizes)

    def encode(self, turns: Sequence[Exchange], image_tokens: Sequence[int] = ()) -> Encoded:
        """As `internvl2_text.encode`."""
        return encode(self.tokenizer, turns, image_tokens, self.template)

    def views(self, images: Sequence[Image.Image]) -> Float[Tensor, "K 3 S S"]:
        """All images' tiles and thumbnails, image by image, ImageNet-normalised."""
        limit = tiling.tiles_per_image(self.max_tiles, len(images))
        views = [view for image in images for view in tiling.split(image, limit, self.view_px)]
        return tiling.normalised(views, self.view_px)

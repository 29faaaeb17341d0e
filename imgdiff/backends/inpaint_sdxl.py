"""Stable Diffusion XL inpainting (arXiv 2307.01952; turbo: 2311.17042) as an `Inpainter`.

diffusers' own pipeline. A text-to-image checkpoint such as SDXL-turbo will do: the masked latents
are put back after every step. Noise of an image comes from its own seed and is drawn on the CPU, so
that it is the same on every machine and beside any other image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from imgdiff.backends.batching import BatchSize, in_batches
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.inpainters import SdxlInpaintConfig
from imgdiff.backends.loading import device, effective_dtype, loading, require_files
from imgdiff.backends.random_checkpoints import pipeline_parts
from imgdiff.core.errors import BackendError
from imgdiff.core.images import to_rgb
from imgdiff.core.masks import AnyMask, Mask

BYTE_MAX = 255


class SdxlInpainter:
    """It `Inpaints`. What changes a pixel here raises `SdxlInpaintConfig.VERSION`."""

    def __init__(self, config: SdxlInpaintConfig) -> None:
        """Load the weights; BackendError where the folder is no SDXL checkpoint of diffusers."""
        from diffusers import AutoPipelineForInpainting, StableDiffusionXLInpaintPipeline

        key, model = config.MODEL_KEY, config.model
        folder = locate(key, model)
        require_files(key, model, folder, "model_index.json")
        with loading(key, model):
            dtype = effective_dtype(config.dtype)
            pipeline: Any = AutoPipelineForInpainting.from_pretrained(
                str(folder),
                torch_dtype=dtype,
                local_files_only=True,
                **pipeline_parts(folder, dtype),
            )
        if not isinstance(pipeline, StableDiffusionXLInpaintPipeline):
            raise BackendError(
                f"{key}={model}: is a {type(pipeline).__name__}, not an SDXL checkpoint. Choose "
                "one such as stabilityai/sdxl-turbo, or inpainter=opencv."
            )
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline.to(device())
        self._config = config
        self._batch_size = BatchSize("inpainter.batch_size", config.batch_size)

    def inpaint(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[AnyMask],
        seeds: Sequence[int],
        avoid: Sequence[AnyMask | None],
    ) -> list[Image.Image]:
        """As `Inpaints.inpaint`; the model sees a square, so both are stretched to one and back.

        `avoid` is not read: nothing is copied.
        """
        items = list(zip(images, masks, seeds, strict=True))
        return list(in_batches(items, self._batch_size, self._paint))

    def _paint(self, items: Sequence[tuple[Image.Image, AnyMask, int]]) -> list[Image.Image]:
        config, side = self._config, (self._config.size_px,) * 2
        squares = [to_rgb(i).resize(side, Image.Resampling.BICUBIC) for i, _, _ in items]
        holes = [_as_image(mask).resize(side, Image.Resampling.NEAREST) for _, mask, _ in items]
        made = self._pipeline(
            prompt=[config.prompt] * len(items),
            image=squares,
            mask_image=holes,
            height=config.size_px,
            width=config.size_px,
            strength=config.strength,
            guidance_scale=config.guidance,
            num_inference_steps=config.steps,
            generator=[torch.Generator("cpu").manual_seed(seed) for _, _, seed in items],
        ).images
        return [
            square.resize(image.size, Image.Resampling.LANCZOS)
            for square, (image, _, _) in zip(made, items, strict=True)
        ]


def _as_image(mask_HW: Mask) -> Image.Image:
    return Image.fromarray(mask_HW.astype(np.uint8) * BYTE_MAX)

"""Settings of the inpainters and what surrounds them: masks grown, the rest of the photo put back.

Light: OpenCV and diffusers are imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from imgdiff.backends.checkpoints import Needed, content_identity, locate
from imgdiff.backends.configs import Dtype
from imgdiff.backends.handles import InpainterHandle
from imgdiff.backends.protocols import Inpaints
from imgdiff.core.errors import ConfigError
from imgdiff.core.geometry import box_from
from imgdiff.core.masks import AnyMask, Mask

HALF = 0.5
VAE_PX = 8
ENOUGH = 0.1  # of the hole's size, to copy from


@dataclass(kw_only=True, slots=True)
class OpenCvInpaintConfig:
    """Fills from around the hole by copied patches (`inpaint_cv.fill_hole`). No weights."""

    context_px: int = 40  # around the hole, to copy from; or half the hole's longer side

    VERSION: ClassVar[int] = 1  # of everything that changes a pixel

    def __post_init__(self) -> None:
        if self.context_px < 1:
            raise ConfigError(
                f"inpainter.context_px={self.context_px}: must be at least 1; 40 is enough"
            )

    def identity(self) -> str:
        """Method, settings, version."""
        return f"patches:context={self.context_px}:v{self.VERSION}"

    def build(self) -> InpainterHandle:
        """The backend."""
        return InpainterHandle(self.identity, self._open)

    def _open(self) -> Inpaints:
        return PatchInpainter(self)


@dataclass(kw_only=True, slots=True)
class SdxlInpaintConfig:
    """Stable Diffusion XL inpainting; the defaults are the paper's, with SDXL-turbo."""

    model: str = "stabilityai/sdxl-turbo"
    prompt: str = "background, nothing, 8k"
    strength: float = 0.85  # share of the steps that are run, from that much noise
    guidance: float = 0.0  # classifier-free guidance; 0 for turbo
    steps: int = 4
    size_px: int = 512  # both sides of what the model sees; a multiple of 8
    batch_size: int = 1  # images per pass; no result depends on it
    dtype: Dtype = Dtype.float16

    MODEL_KEY: ClassVar[str] = "inpainter.model"
    VERSION: ClassVar[int] = 1  # of everything in inpaint_sdxl.py that changes a pixel

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigError(f"{self.MODEL_KEY}={self.model!r}: names no checkpoint")
        for key in ("steps", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"inpainter.{key}={getattr(self, key)}: must be at least 1")
        if not 0.0 < self.strength <= 1.0:
            raise ConfigError(f"inpainter.strength={self.strength}: must lie in (0, 1]")
        if int(self.steps * self.strength) < 1:
            raise ConfigError(
                f"inpainter.steps={self.steps}, inpainter.strength={self.strength}: less than one "
                "step would be run; raise one of them"
            )
        if not 0.0 <= self.guidance < math.inf:
            raise ConfigError(f"inpainter.guidance={self.guidance}: must be a number >= 0")
        if self.size_px < VAE_PX or self.size_px % VAE_PX:
            raise ConfigError(
                f"inpainter.size_px={self.size_px}: must be a positive multiple of {VAE_PX}, a "
                "latent pixel of the VAE; 512 is the paper's"
            )

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        size, dtype = "7 GB in float16", self.dtype.value
        return Needed(key=self.MODEL_KEY, model=self.model, size=size, dtype=dtype)

    def identity(self) -> str:
        """Checkpoint contents, number type and every setting that changes a pixel."""
        content = content_identity(locate(self.MODEL_KEY, self.model))
        return (
            f"sdxl-inpaint:{content}:{self.dtype.effective()}:{self.prompt}:{self.strength}"
            f":{self.guidance}:{self.steps}:{self.size_px}:v{self.VERSION}"
        )

    def build(self) -> InpainterHandle:
        """The backend; loads nothing before it is entered."""
        return InpainterHandle(self.identity, self._open)

    def _open(self) -> Inpaints:
        from imgdiff.backends.inpaint_sdxl import SdxlInpainter

        return SdxlInpainter(self)


class PatchInpainter:
    """It `Inpaints` by copying patches; deterministic, seeds are not read.

    Pixels outside the mask keep their bytes.
    """

    def __init__(self, config: OpenCvInpaintConfig) -> None:
        self._context_px = config.context_px

    def inpaint(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[AnyMask],
        seeds: Sequence[int],
        avoid: Sequence[AnyMask | None],
    ) -> list[Image.Image]:
        """As `Inpaints.inpaint`."""
        items = zip(images, masks, seeds, avoid, strict=True)
        return [self._fill(image, mask, alike) for image, mask, _, alike in items]

    def _fill(self, image: Image.Image, mask_HW: Mask, alike_HW: Mask | None) -> Image.Image:
        from imgdiff.backends import coco
        from imgdiff.backends import inpaint_cv as cv

        box = coco.mask_box(mask_HW)
        photo_HW3 = np.array(image)
        if box is None:
            return Image.fromarray(photo_HW3)
        reach = max(self._context_px, max(box.width, box.height) / 2.0)
        around = box.grown(reach).clipped_to(image.width, image.height)
        x0, y0, x1, y1 = coco.pixel_window(around)
        hole_HW = np.ascontiguousarray(mask_HW[y0:y1, x0:x1])
        hidden_HW = np.zeros_like(hole_HW)
        if alike_HW is not None:
            hidden_HW = _avoidable(hole_HW, alike_HW[y0:y1, x0:x1])
        window_HW3 = np.ascontiguousarray(photo_HW3[y0:y1, x0:x1])
        # What is hidden is a hole that nobody will see: nothing is copied from it.
        filled_HW3 = cv.fill_hole(window_HW3, hole_HW | hidden_HW, hidden_HW)
        photo_HW3[y0:y1, x0:x1][hole_HW] = filled_HW3[hole_HW]
        return Image.fromarray(photo_HW3)


def _avoidable(hole_HW: Mask, alike_HW: Mask) -> Mask:
    """What not to copy from, unless too little would be left."""
    hidden_HW = np.asarray(alike_HW & ~hole_HW)
    left = int((~hole_HW & ~hidden_HW).sum())
    return hidden_HW if left >= ENOUGH * hole_HW.sum() else np.zeros_like(hole_HW)


def grown_mask(mask_HW: Mask, radius_px: int) -> Mask:
    """The mask with a round border of `radius_px` added; itself for 0."""
    from imgdiff.backends.inpaint_cv import grow

    return grow(mask_HW, radius_px) if radius_px else mask_HW


def pasted_back(
    original: Image.Image, painted: Image.Image, mask_HW: Mask, feather_px: int
) -> Image.Image:
    """The painted image inside the mask, the original's own bytes outside.

    Over `feather_px` inside the mask's border the one passes into the other.
    """
    import cv2

    before_HW3, after_HW3 = (np.asarray(image, dtype=np.float32) for image in (original, painted))
    alpha_HW = mask_HW.astype(np.float32)
    if feather_px:
        # A frame of zeros would be taken for the mask's border where the image ends.
        depth_HW = cv2.distanceTransform(mask_HW.astype(np.uint8), cv2.DIST_L2, 5)
        alpha_HW = np.clip(depth_HW / (feather_px + 1.0), 0.0, 1.0)
    mixed_HW3 = before_HW3 + (after_HW3 - before_HW3) * alpha_HW[..., None]
    return Image.fromarray(np.clip(mixed_HW3 + HALF, 0.0, 255.0).astype(np.uint8))


def changed_window(original: Image.Image, painted: Image.Image) -> tuple[int, int, int, int] | None:
    """The smallest window (left, top, right, bottom) with every differing pixel, or None."""
    from imgdiff.backends.coco import mask_box

    differs_HW = (np.asarray(original) != np.asarray(painted)).any(axis=2)
    box = mask_box(differs_HW)
    if box is None:
        return None
    left, top, right, bottom = box_from(box.as_tuple()).as_tuple()
    return int(left), int(top), int(right), int(bottom)

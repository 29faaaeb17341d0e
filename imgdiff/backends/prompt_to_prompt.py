"""Image pairs by Prompt-to-Prompt (arXiv 2208.01626) on diffusers' own SDXL pipeline.

`prompt_to_prompt` puts the processors in and takes them out again; `draw_pairs` runs the pipeline.
Written from the paper; the reference pipeline for SDXL carries no licence and was not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imgdiff.backends.local_blend import LocalBlend
from imgdiff.backends.p2p_plan import PairPlan, share_of
from imgdiff.backends.p2p_processors import PLAIN, PairEdits, PairProcessor
from imgdiff.core.errors import BackendError

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How pairs are sampled. Sizes in pixels; `guidance` <= 1 samples without guidance.

    Self attention is replaced, and local blend looks, where a token covers `self_token_px` pixels
    a side or more (SDXL at 1024: 32).
    """

    steps: int
    guidance: float
    width: int
    height: int
    self_token_px: int = 32
    blend_threshold: float | None = None  # None: no local blend
    blend_start: float = 0.2  # share of the steps

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the finest layers whose self attention is replaced."""
        px = self.self_token_px
        return math.ceil(self.height / px), math.ceil(self.width / px)

    def edits(self, plans: Sequence[PairPlan]) -> PairEdits:
        """The edits of these pairs for one call of the pipeline."""
        rows, columns = self.grid
        blend = None
        if self.blend_threshold is not None:
            start = share_of(self.blend_start, self.steps)
            blend = LocalBlend(plans, self.grid, self.blend_threshold, start)
        return PairEdits(plans, rows * columns, blend)


@contextmanager
def prompt_to_prompt(unet: Any, edits: PairEdits) -> Iterator[StepCallback]:
    """Attention with the edits while the block runs; the UNet's processors are put back after it.

    Gives the `callback_on_step_end` that the pipeline needs. BackendError for a UNet whose
    attention is not that of plain transformer blocks.
    """
    originals = dict(unet.attn_processors)
    for name, processor in originals.items():
        _check_layer(name, processor, unet.get_submodule(name.removesuffix(".processor")))
    try:
        unet.set_attn_processor({k: PairProcessor(edits, v) for k, v in originals.items()})
        yield edits.on_step_end
    finally:
        unet.set_attn_processor(dict(originals))


def _check_layer(name: str, processor: Any, attn: Any) -> None:
    if type(processor).__name__ not in PLAIN:
        raise BackendError(
            f"UNet layer {name}: Prompt-to-Prompt replaces plain attention only, not "
            f"{type(processor).__name__}; call unet.set_default_attn_processor() first"
        )
    parts = (attn.group_norm, attn.spatial_norm, attn.add_k_proj)
    if attn.residual_connection or any(part is not None for part in parts):
        raise BackendError(
            f"UNet layer {name}: not the attention of a transformer block, which SDXL has "
            "throughout; use a checkpoint of SDXL's architecture"
        )


def shared_noise(
    seeds: Sequence[int], shape: tuple[int, int, int]
) -> tuple[Tensor, list[torch.Generator]]:
    """First latents [2P C h w], equal within a pair, and a generator for each image's later noise.

    float32 on the CPU, so that a pair is the same on every device, in every batch and number type;
    the two generators of a pair draw the same numbers, which schedulers that add noise need.
    """
    dice = [torch.Generator().manual_seed(seed) for seed in seeds for _ in range(2)]
    return torch.cat([torch.randn(1, *shape, generator=one) for one in dice]), dice


def draw_pairs(
    pipeline: Any,
    plans: Sequence[PairPlan],
    seeds: Sequence[int],
    sampling: Sampling,
    output_type: str = "pil",
) -> list[tuple[Any, Any]]:
    """Source and target of each plan: RGB images, or what `output_type` of diffusers asks for.

    Pair k depends on `plans[k]`, `seeds[k]` and `sampling` (up to rounding of other batch shapes).
    """
    edits = sampling.edits(plans)
    factor = pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, sampling.height // factor, sampling.width // factor)
    noise, dice = shared_noise(seeds, shape)
    with prompt_to_prompt(pipeline.unet, edits) as on_step_end:
        images = pipeline(
            prompt=[text for plan in plans for text in (plan.source, plan.target)],
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            width=sampling.width,
            height=sampling.height,
            latents=noise.to(pipeline.unet.dtype),
            generator=dice,
            callback_on_step_end=on_step_end,
            output_type=output_type,
        ).images
    return [(images[n], images[n + 1]) for n in range(0, len(images), 2)]

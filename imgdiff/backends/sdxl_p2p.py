"""The pair generator `sdxl_p2p`: a caption pair becomes two images (paper §3.2)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgdiff.backends.batching import BatchSize, in_batches
from imgdiff.backends.loading import clean, device, effective_dtype, loading, quietly
from imgdiff.backends.p2p_plan import PairPlan, plan_pair, refused
from imgdiff.backends.prompt_to_prompt import Sampling, draw_pairs
from imgdiff.backends.protocols import DrawnPair, Refusal
from imgdiff.backends.random_checkpoints import pipeline_parts
from imgdiff.backends.sdxl_p2p_config import PIXEL_STEP, Scheduler, SdxlP2pConfig
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.records import CaptionPair

_CLASSES = {
    Scheduler.euler: "EulerDiscreteScheduler",
    Scheduler.euler_ancestral: "EulerAncestralDiscreteScheduler",
    Scheduler.ddim: "DDIMScheduler",
    Scheduler.dpm_multistep: "DPMSolverMultistepScheduler",
    Scheduler.unipc: "UniPCMultistepScheduler",
}


class SdxlPairs:
    """Any `StableDiffusionXLPipeline` checkpoint; it `DrawsPairs`.

    What changes a pixel here raises `SdxlP2pConfig.VERSION`.
    """

    def __init__(self, config: SdxlP2pConfig) -> None:
        """Load the weights; BackendError where they are not on this machine."""
        self._config = config
        self._batch_pairs = BatchSize("generator.batch_pairs", config.batch_pairs)
        with loading(config.MODEL_KEY, config.model), _diffusers_quiet():
            self._pipeline = _opened(config, config.folder())
        self._sampling = self._checked_sampling()

    def generate(self, pairs: Sequence[CaptionPair]) -> list[DrawnPair | Refusal]:
        """Both images of each pair, drawn from the pair's seed alone, or why there are none.

        A caption beyond the text encoder's length is cut there; a change behind the cut refuses
        the pair.
        """
        results: list[DrawnPair | Refusal | None] = [None] * len(pairs)
        plans: list[tuple[int, PairPlan]] = []
        for index, pair in enumerate(pairs):
            made = self._plan(pair)
            if isinstance(made, Refusal):
                results[index] = made
            else:
                plans.append((index, made))

        def draw(batch: list[tuple[int, PairPlan]]) -> list[tuple[Any, Any]]:
            seeds = [pairs[index].seed for index, _ in batch]
            with quietly(), _diffusers_quiet():
                return draw_pairs(self._pipeline, [p for _, p in batch], seeds, self._sampling)

        drawn = in_batches(plans, self._batch_pairs, draw)
        for (index, _), (left, right) in zip(plans, drawn, strict=True):
            results[index] = DrawnPair(
                left=left,
                right=right,
                left_caption=pairs[index].left,
                right_caption=pairs[index].right,
            )
        return [result for result in results if result is not None]

    def _plan(self, pair: CaptionPair) -> PairPlan | Refusal:
        source, target = clean(pair.left), clean(pair.right)
        refusal = refused(self._pipeline.tokenizer, source, target)
        if refusal is not None:
            return refusal
        settings = self._config.edit_settings()
        return plan_pair(self._pipeline.tokenizer, source, target, settings)

    def _checked_sampling(self) -> Sampling:
        """Sampling at the configured size, or at the checkpoint's own."""
        config, pipeline = self._config, self._pipeline
        own = int(pipeline.default_sample_size * pipeline.vae_scale_factor)
        sides = {"width": config.width or own, "height": config.height or own}
        step = max(PIXEL_STEP, int(pipeline.vae_scale_factor))
        for key, side in sides.items():
            if side % step:
                raise ConfigError(
                    f"generator.{key}={side}: must be a multiple of {step} pixels, which "
                    f"{config.model} works in"
                )
        return Sampling(
            steps=config.steps,
            guidance=config.guidance,
            self_token_px=config.self_token_px or _coarsest_token_px(pipeline),
            blend_threshold=config.blend_threshold if config.local_blend else None,
            blend_start=config.blend_start,
            **sides,
        )


def _coarsest_token_px(pipeline: Any) -> int:
    """Pixels a side that a token of the UNet's lowest resolution covers."""
    halvings = len(pipeline.unet.config.block_out_channels) - 1
    return int(pipeline.vae_scale_factor * 2**halvings)


def _opened(config: SdxlP2pConfig, folder: Path) -> Any:
    import diffusers

    dtype = effective_dtype(config.dtype)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(
        folder,
        torch_dtype=dtype,
        variant=_variant(folder),
        add_watermarker=False,
        local_files_only=True,
        **pipeline_parts(folder, dtype),
    )
    if config.scheduler is not Scheduler.own:
        kind = getattr(diffusers, _CLASSES[config.scheduler])
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    if getattr(pipeline.scheduler, "order", 1) != 1:
        names = ", ".join(choice.value for choice in _CLASSES)
        raise BackendError(
            f"generator.scheduler=own: {type(pipeline.scheduler).__name__} of {config.model} calls "
            f"the UNet more than once a step, which the step gates do not know; use one of {names}"
        )
    if config.vae_upcast is not None:
        pipeline.vae.register_to_config(force_upcast=config.vae_upcast)
    pipeline.vae.enable_slicing()  # one image at a time: less memory, and no image knows another
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device())


def _variant(folder: Path) -> str | None:
    """`fp16` where the folder holds the half-precision files alone."""
    names = [file.name for file in (folder / "unet").glob("*.safetensors")]
    halves = [name for name in names if ".fp16." in name]
    return "fp16" if halves and len(halves) == len(names) else None


@contextmanager
def _diffusers_quiet() -> Iterator[None]:
    """Without diffusers' loading bars and its remarks on long prompts."""
    from diffusers.utils import logging as diffusers_logging

    level = diffusers_logging.get_verbosity()
    bars = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity(logging.ERROR)
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)
        if bars:
            diffusers_logging.enable_progress_bar()

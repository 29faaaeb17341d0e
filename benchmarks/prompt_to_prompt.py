"""Prompt-to-Prompt against plain sampling and against explicit probabilities, in one run.

`python benchmarks/prompt_to_prompt.py [blocks|pipeline] ...`: `blocks` are transformer blocks of
SDXL's real width (1280 channels over 32 x 32 tokens, 640 over 64 x 64, 77 text tokens of 2048);
`pipeline` is a whole denoising loop of `StableDiffusionXLPipeline` in the shape of the mini SDXL
or, with `--shape base`, of SDXL-base. Weights are random: speed does not know them.

Seconds are CPU seconds of this process on one thread (of a GPU: wall seconds, synchronised).
Variants take turns, and the best of each counts. Memory is the peak of live tensors beyond what
was there before (of a GPU: of its allocator), from a run of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads its libraries

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.p2p_plan import EditSettings, PairPlan, plan_pair
from imgdiff.backends.p2p_processors import PairEdits, PairProcessor
from imgdiff.backends.prompt_to_prompt import Sampling, prompt_to_prompt, shared_noise

PROMPTS = ("a plane in the sky flying alone", "a boat in the ocean sailing alone")
EVERYWHERE = 10**9
MIB = 2**20
Variant = Callable[[], Any]


class LiveTensors(TorchDispatchMode):
    """Peak of the bytes of tensors that operations made and that are still held."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known or not storage.nbytes():
            return
        size = storage.nbytes()
        self._known.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.held -= size


class ExplicitPairs:
    """The edits on explicit probabilities, as published, but no map outlives its layer."""

    def __init__(self, edits: PairEdits) -> None:
        self._edits = edits

    def __call__(
        self, attn: Any, hidden: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        """One layer."""
        seen = hidden if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(states)
            for states in (attn.to_q(hidden), attn.to_k(seen), attn.to_v(seen))
        )
        maps = attn.get_attention_scores(query, key).unflatten(0, (-1, attn.heads))
        edited = maps[self._edits.first_row(len(maps)) :]
        if encoder_hidden_states is not None:
            self._edit_cross(edited)
        elif self._edits.replaces_self(maps.shape[2]):
            edited[1::2] = edited[0::2]
        out = attn.batch_to_head_dim(torch.bmm(maps.flatten(0, 1), value))
        return attn.to_out[1](attn.to_out[0](out))

    def _edit_cross(self, edited: Tensor) -> None:
        step = self._edits.cross_step(edited)
        mapped = edited[0::2] @ step.mix
        own = 0.0 if step.own is None else edited[1::2] * step.own.transpose(-1, -2)
        edited[1::2] = mapped + own


def synchronised(device: str) -> float:
    """CPU seconds of this process, or wall seconds once the GPU is done."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Figures:
    """What one variant took."""

    seconds: float
    peak_mib: float


def measure(variants: dict[str, Variant], rounds: int, device: str) -> dict[str, Figures]:
    """Best time of each variant over `rounds` turns, and its memory."""
    best = dict.fromkeys(variants, float("inf"))
    for number in range(rounds + 1):  # the first turn warms up
        for name, variant in variants.items():
            start = synchronised(device)
            variant()
            if number:
                best[name] = min(best[name], synchronised(device) - start)
    return {name: Figures(best[name], peak(variants[name], device)) for name in variants}


def peak(variant: Variant, device: str) -> float:
    """MiB beyond what is held before."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        variant()
        return (torch.cuda.max_memory_allocated() - held) / MIB
    with LiveTensors() as live:
        variant()
    return live.peak / MIB


def report(title: str, figures: dict[str, Figures], base: str) -> None:
    """One table, ratios to `base`."""
    print(f"\n{title}")
    of_base = figures[base]
    for name, figure in figures.items():
        print(
            f"  {name:28} {figure.seconds:8.3f} s  x{figure.seconds / of_base.seconds:5.3f}"
            f"   {figure.peak_mib:9.1f} MiB  x{figure.peak_mib / of_base.peak_mib:6.3f}"
        )


def plans(pairs: int, steps: int) -> list[PairPlan]:
    """The same edit for every pair; every step is edited, the first 40 % also in self attention."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(mini_root() / "clip")
    made = plan_pair(tokenizer, *PROMPTS, EditSettings(steps=steps))
    assert isinstance(made, PairPlan)
    return [made] * pairs


# --- blocks ---------------------------------------------------------------------------------------


def blocks(args: argparse.Namespace) -> None:
    """Attention layers and whole transformer blocks at SDXL's real sizes, guided, one pair."""
    from diffusers.models.attention import BasicTransformerBlock

    for channels, heads, side in ((1280, 20, 32), (640, 10, 64)):
        torch.manual_seed(0)
        made = BasicTransformerBlock(
            channels, heads, channels // heads, cross_attention_dim=2048, norm_type="layer_norm"
        )
        block: Any = made.to(args.device, args.dtype).eval()
        image = torch.randn(4 * args.pairs, side * side, channels).to(args.device, args.dtype)
        text = torch.randn(4 * args.pairs, 77, 2048).to(args.device, args.dtype)
        calls = {
            "self attention": lambda b=block, x=image: b.attn1(x),
            "cross attention": lambda b=block, x=image, t=text: b.attn2(x, encoder_hidden_states=t),
            "whole block": lambda b=block, x=image, t=text: b(x, encoder_hidden_states=t),
        }
        for name, call in calls.items():
            figures = measure(block_variants(block, call, args), args.rounds, args.device)
            title = f"{name}, {channels} channels, {side} x {side} tokens, {args.pairs} pair(s)"
            report(title, figures, "plain")
            explicit, fused = figures["explicit, all edits"], figures["fused, all edits"]
            print(
                f"  explicit / fused: x{explicit.seconds / fused.seconds:.2f} time, "
                f"x{explicit.peak_mib / fused.peak_mib:.2f} memory"
            )


def block_variants(block: Any, call: Variant, args: argparse.Namespace) -> dict[str, Variant]:
    """Plain; fused with self attention as it is, and replaced; explicit with it replaced."""
    made = plans(args.pairs, 50)
    plain = block.attn1.processor

    def using(processor: Any) -> Variant:
        def run() -> None:
            for layer in (block.attn1, block.attn2):
                layer.set_processor(processor)
            with torch.no_grad():
                call()

        return run

    return {
        "plain": using(plain),
        "fused, cross edits": using(PairProcessor(PairEdits(made, 0), plain)),
        "fused, all edits": using(PairProcessor(PairEdits(made, EVERYWHERE), plain)),
        "explicit, all edits": using(ExplicitPairs(PairEdits(made, EVERYWHERE))),
    }


# --- pipeline -------------------------------------------------------------------------------------

BASE_UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "layers_per_block": 2,
    "addition_time_embed_dim": 256,
}
MINI_UNET = {
    "sample_size": 16,
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": (96, 160),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (4, 5),
    "layers_per_block": 1,
    "addition_time_embed_dim": 16,
    "norm_num_groups": 16,
}


def text_encoder(kind: str, width: int, layers: int, args: argparse.Namespace) -> Any:
    """A text encoder with random weights for the mini CLIP's tokens."""
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=802,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        bos_token_id=800,
        eos_token_id=801,
        pad_token_id=801,
    )
    return getattr(transformers, kind)(config).to(args.device, args.dtype).eval()


def new_pipeline(args: argparse.Namespace) -> Any:
    """The SDXL pipeline of diffusers in one of two shapes; the text encoders have two layers."""
    from diffusers import (
        AutoencoderKL,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTokenizer

    shape, widths = (BASE_UNET, (768, 1280)) if args.shape == "base" else (MINI_UNET, (192, 192))
    time_ids = 6 * int(str(shape["addition_time_embed_dim"]))
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        **shape,
        cross_attention_dim=sum(widths),
        use_linear_projection=True,
        addition_embed_type="text_time",
        projection_class_embeddings_input_dim=widths[1] + time_ids,
    )
    vae_widths = (128, 256, 512, 512) if args.shape == "base" else (32, 32, 64, 96)
    vae = AutoencoderKL(
        block_out_channels=vae_widths,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2 if args.shape == "base" else 1,
        latent_channels=unet.config.in_channels,
        norm_num_groups=32 if args.shape == "base" else 16,
        force_upcast=False,
    )
    tokenizer = CLIPTokenizer.from_pretrained(mini_root() / "clip")
    pipeline = StableDiffusionXLPipeline(
        vae=vae.to(args.device, args.dtype).eval(),
        text_encoder=text_encoder("CLIPTextModel", widths[0], 2, args),
        text_encoder_2=text_encoder("CLIPTextModelWithProjection", widths[1], 2, args),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.to(args.device, args.dtype).eval(),
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    )
    pipeline.vae.enable_slicing()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def explicit_pairs(unet: Any, edits: PairEdits) -> Iterator[Any]:
    """As `prompt_to_prompt`, on explicit probabilities."""
    originals = dict(unet.attn_processors)
    unet.set_attn_processor(ExplicitPairs(edits))
    try:
        yield edits.on_step_end
    finally:
        unet.set_attn_processor(originals)


def whole_pipeline(args: argparse.Namespace) -> None:
    """A whole call, text to images: plain sampling of the same images, fused, explicit."""
    pipeline = new_pipeline(args)
    factor = pipeline.vae_scale_factor
    halvings = len(pipeline.unet.config.block_out_channels) - 1
    side = pipeline.default_sample_size * factor
    how = Sampling(
        steps=args.steps,
        guidance=7.5,
        width=side,
        height=side,
        self_token_px=factor * 2**halvings,
    )
    made = plans(args.pairs, args.steps)
    shape = (pipeline.unet.config.in_channels, side // factor, side // factor)

    def sample(context: contextlib.AbstractContextManager[Any]) -> None:
        noise, dice = shared_noise(list(range(args.pairs)), shape)
        with context as on_step_end:
            pipeline(
                prompt=[text for plan in made for text in (plan.source, plan.target)],
                num_inference_steps=args.steps,
                guidance_scale=how.guidance,
                width=side,
                height=side,
                latents=noise.to(args.dtype),
                generator=dice,
                callback_on_step_end=on_step_end,
                output_type="latent" if args.latents else "pil",
            )

    variants: dict[str, Variant] = {
        "plain": lambda: sample(contextlib.nullcontext()),
        "fused": lambda: sample(prompt_to_prompt(pipeline.unet, how.edits(made))),
        "explicit": lambda: sample(explicit_pairs(pipeline.unet, how.edits(made))),
    }
    figures = measure(variants, args.rounds, args.device)
    size = sum(p.numel() for p in pipeline.unet.parameters()) / 1e6
    what = f"{args.steps} steps{', latents' if args.latents else ''}, {args.pairs} pair(s)"
    report(f"{args.shape} shape, {size:.1f} M UNet, {side} px, {what}", figures, "plain")
    for name, figure in figures.items():
        print(f"  {name:10} {args.pairs / figure.seconds:8.4f} pairs/s")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("blocks", "pipeline"))
    parser.add_argument("--shape", choices=("mini", "base"), default="mini")
    parser.add_argument("--latents", action="store_true", help="do not decode the latents")
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    args.dtype = getattr(torch, args.dtype)
    torch.set_num_threads(1)
    {"blocks": blocks, "pipeline": whole_pipeline}[args.part](args)


if __name__ == "__main__":
    main()

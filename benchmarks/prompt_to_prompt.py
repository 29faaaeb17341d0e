"""Prompt-to-Prompt against plain sampling and against explicit probabilities, in one run.

`python benchmarks/prompt_to_prompt.py [cores|layers|blocks|pipeline]`: transformer blocks of
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
from collections.abc import Iterator
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads its libraries

import torch
from p2p_measures import Variant, measure, print_ratio, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.p2p_plan import EditSettings, PairPlan, plan_pair
from imgdiff.backends.p2p_processors import (
    CrossStep,
    PairEdits,
    PairProcessor,
    edited_cross,
)
from imgdiff.backends.prompt_to_prompt import Sampling, prompt_to_prompt, shared_noise

PROMPTS = ("a plane in the sky flying alone", "a boat in the ocean sailing alone")
EVERYWHERE = 10**9
KEPT_TOKENS = 32 * 32  # maps over more tokens are not kept by the published code either


class ExplicitPairs:
    """The edits on explicit probabilities. No map outlives its layer, unless `keeps` is set.

    The published code keeps the maps of each step and their sums over the steps; so does `keeps`.
    """

    def __init__(self, edits: PairEdits, *, keeps: bool = False) -> None:
        self._edits = edits
        self._keeps = keeps
        self._kept: dict[int, Tensor] = {}
        self._sums: dict[int, Tensor] = {}

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
            edit_maps(edited, self._edits.cross_step(edited))
        elif self._edits.replaces_self(maps.shape[2]):
            edit_maps(edited, None)
        if self._keeps and maps.shape[2] <= KEPT_TOKENS:
            self._keep(id(attn), edited)
        out = attn.batch_to_head_dim(torch.bmm(maps.flatten(0, 1), value))
        return attn.to_out[1](attn.to_out[0](out))

    def _keep(self, layer: int, maps: Tensor) -> None:
        if layer in self._sums:
            self._sums[layer] += self._kept[layer]
        elif layer in self._kept:
            self._sums[layer] = self._kept[layer]
        self._kept[layer] = maps


def plans(pairs: int, steps: int) -> list[PairPlan]:
    """The same edit for every pair; every step is edited, the first 40 % also in self attention."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(mini_root() / "clip")
    made = plan_pair(tokenizer, *PROMPTS, EditSettings(steps=steps))
    assert isinstance(made, PairPlan)
    return [made] * pairs


# --- blocks ---------------------------------------------------------------------------------------


def layers(args: argparse.Namespace) -> None:
    """Attention layers, with their projections."""
    for block, image, text, size in real_blocks(args):
        calls = {
            "self attention": partial(block.attn1, image),
            "cross attention": partial(block.attn2, image, encoder_hidden_states=text),
        }
        for name, call in calls.items():
            compare(f"{name} layer, {size}", block, call, args)


def blocks(args: argparse.Namespace) -> None:
    """Whole transformer blocks: both attention layers and the feed-forward layer."""
    for block, image, text, size in real_blocks(args):
        compare(
            f"whole block, {size}", block, partial(block, image, encoder_hidden_states=text), args
        )


def real_blocks(args: argparse.Namespace) -> Iterator[tuple[Any, Tensor, Tensor, str]]:
    """Blocks of SDXL's real sizes with inputs for some pairs under guidance."""
    from diffusers.models.attention import BasicTransformerBlock

    for channels, heads, side in ((1280, 20, 32), (640, 10, 64)):
        torch.manual_seed(0)
        block = BasicTransformerBlock(
            channels, heads, channels // heads, cross_attention_dim=2048, norm_type="layer_norm"
        )
        rows = 4 * args.pairs
        image = torch.randn(rows, side * side, channels).to(args.device, args.dtype)
        text = torch.randn(rows, 77, 2048).to(args.device, args.dtype)
        size = f"{channels} channels, {side} x {side} tokens, {args.pairs} pair(s)"
        yield block.to(args.device, args.dtype).eval(), image, text, size


def compare(title: str, block: Any, call: Variant, args: argparse.Namespace) -> None:
    """One table for a part of a block."""
    figures = measure(block_variants(block, call, args), args.rounds, args.device)
    report(title, figures, "plain")
    for name in ("explicit, all edits", "explicit, maps kept"):
        print_ratio(figures[name], figures["fused, all edits"], name)


def cores(args: argparse.Namespace) -> None:
    """Attention alone, without the projections around it, which are the same for all.

    `self and cross` is all that the attention processors of a block compute.
    """
    for heads, tokens in ((20, 32 * 32), (10, 64 * 64)):
        parts = [core_variants(heads, tokens, keys, args) for keys in (tokens, 77)]
        both = {name: partial(in_turn, *(part[name] for part in parts)) for name in parts[0]}
        for kind, variants in zip(("self", "cross", "self and cross"), (*parts, both), strict=True):
            figures = measure(variants, args.rounds, args.device)
            report(f"{kind} attention alone, {heads} heads, {tokens} tokens", figures, "plain")
            print_ratio(figures["explicit"], figures["fused"], "explicit")


def core_variants(
    heads: int, tokens: int, keys: int, args: argparse.Namespace
) -> dict[str, Variant]:
    """Attention of one layer: cross attention where there are fewer keys than tokens."""
    edits = PairEdits(plans(args.pairs, 50), EVERYWHERE)
    rows = 4 * args.pairs
    query = torch.randn(rows, heads, tokens, 64).to(args.device, args.dtype)
    key = torch.randn(rows, heads, keys, 64).to(args.device, args.dtype)
    states = (query, key, torch.randn_like(key))
    step = None if keys == tokens else edits.cross_step(key)
    return {
        "plain": partial(sdpa, *states),
        "fused": partial(fused_core, edits, step, *states),
        "explicit": partial(explicit_core, edits, step, *states),
    }


def in_turn(*calls: Variant) -> None:
    """One after the other."""
    for call in calls:
        call()


def fused_core(
    edits: PairEdits, step: CrossStep | None, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Attention with the edit, fused; the copies stand for projections that are saved."""
    leaders = edits.leaders(len(query), step)
    if step is None:
        return sdpa(query[leaders], key[leaders], value)
    if step.follows:
        query = query[leaders]
    return edited_cross(query, key, value, edits.first_row(len(query)), step)


def explicit_core(
    edits: PairEdits, step: CrossStep | None, query: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """Attention with the edit, on probabilities."""
    maps = (query @ key.transpose(-1, -2)).mul_(query.shape[-1] ** -0.5).softmax(dim=-1)
    edit_maps(maps[edits.first_row(len(query)) :], step)
    return maps @ value


def edit_maps(maps: Tensor, step: CrossStep | None) -> None:
    """The edit of the conditional rows' maps, in place."""
    if step is None:
        maps[1::2] = maps[0::2]
        return
    mapped = maps[0::2] @ step.mix
    maps[1::2] = mapped if step.own is None else mapped + maps[1::2] * step.own.transpose(-1, -2)


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
        "explicit, maps kept": using(ExplicitPairs(PairEdits(made, EVERYWHERE), keeps=True)),
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


PARTS = {"cores": cores, "layers": layers, "blocks": blocks, "pipeline": whole_pipeline}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
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
    PARTS[args.part](args)


if __name__ == "__main__":
    main()

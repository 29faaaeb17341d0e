"""An SDXL pipeline of diffusers' own classes at toy size, with random weights and real tokenizers.

64 px: latents of 32 x 32, attention over 16 x 16 tokens (4 px each) and 8 x 8 tokens (8 px each).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from imgdiff.backends.checkpoints import mini_root

SIZE = 64
FINE_PX, COARSE_PX = 4, 8
LENGTH = 32  # positions that the pipeline's text encoders read; the tokenizer's own are 77


def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(mini_root() / "clip")


def unet(cross_width: int = 32) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(3)
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        cross_attention_dim=cross_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 16,
        norm_num_groups=8,
    ).eval()


def text_model(kind: str) -> Any:
    import transformers

    torch.manual_seed(5)
    config = transformers.CLIPTextConfig(
        vocab_size=802,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=16,
        bos_token_id=800,
        eos_token_id=801,
        pad_token_id=801,
    )
    return getattr(transformers, kind)(config).eval()


def vae() -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(4)
    return AutoencoderKL(
        block_out_channels=(16, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIZE,
    ).eval()


def pipeline() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    words = tokenizer()
    words.model_max_length = LENGTH
    made = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_model("CLIPTextModel"),
        text_encoder_2=text_model("CLIPTextModelWithProjection"),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )
    with torch.no_grad():  # text that matters: random encoders say nearly the same of all prompts
        for module in made.unet.modules():
            if hasattr(module, "to_out"):
                module.to_out[0].weight.mul_(6.0)
            if hasattr(module, "to_q"):
                module.to_q.weight.mul_(4.0)
        # A trained UNet keeps latents near unit scale; a random one would blow them up.
        made.unet.conv_out.weight.mul_(0.2)
    made.set_progress_bar_config(disable=True)
    return made


class ExplicitPairs:
    """The same edits on explicit probabilities, as the paper writes them. One layer's processor."""

    def __init__(self, reference: ExplicitReference) -> None:
        self.reference = reference

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        is_cross = encoder_hidden_states is not None
        seen = encoder_hidden_states if is_cross else hidden_states
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(seen))
        value = attn.head_to_batch_dim(attn.to_v(seen))
        scores = torch.bmm(query, key.transpose(1, 2)) * query.shape[-1] ** -0.5
        maps = scores.float().softmax(dim=-1).to(query.dtype)
        maps = maps.unflatten(0, (-1, attn.heads))  # rows, heads, image tokens, keys
        self.reference.edit(maps, is_cross)
        out = attn.batch_to_head_dim(torch.bmm(maps.flatten(0, 1), value))
        return attn.to_out[1](attn.to_out[0](out))


class ExplicitReference:
    """Edits attention maps in place, row by row and column by column."""

    def __init__(self, plans: Any, self_max_tokens: int) -> None:
        self.plans = plans
        self.self_max_tokens = self_max_tokens
        self.step = 0

    def edit(self, maps: Tensor, is_cross: bool) -> None:
        first = maps.shape[0] - 2 * len(self.plans)
        for number, plan in enumerate(self.plans):
            source, target = maps[first + 2 * number], maps[first + 2 * number + 1]
            if is_cross:
                target.copy_(self.edited_columns(plan, source, target))
            elif maps.shape[2] <= self.self_max_tokens and self.step < plan.self_steps:
                target.copy_(source)

    def edited_columns(self, plan: Any, source: Tensor, target: Tensor) -> Tensor:
        columns = []
        for j in range(target.shape[-1]):
            own = target[..., j]
            mapped = torch.zeros_like(own)
            for i in plan.columns.mix_KK[:, j].nonzero()[0]:
                mapped = mapped + float(plan.columns.mix_KK[i, j]) * source[..., i]
            taken = float(plan.columns.taken_K[j])
            edited = (taken * mapped + (1 - taken) * own) * float(plan.weights_K[j])
            columns.append(edited if plan.gates_RK[self.step, j] else own)
        return torch.stack(columns, dim=-1)

    def on_step_end(self, pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        self.step = step + 1
        return tensors


@contextmanager
def explicitly(model: Any, reference: ExplicitReference) -> Iterator[Any]:
    """The reference in place of the fused processors."""
    originals = dict(model.attn_processors)
    model.set_attn_processor(ExplicitPairs(reference))
    try:
        yield reference.on_step_end
    finally:
        model.set_attn_processor(originals)

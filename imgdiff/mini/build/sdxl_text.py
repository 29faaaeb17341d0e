"""The mini SDXL's two text encoders: the mini CLIP's text tower, without and with projection.

What they make of a caption is what `StableDiffusionXLPipeline` makes of it: the state before the
last layer of both, side by side, and the second one's projected end state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from imgdiff.backends.loading import quietly
from imgdiff.mini.build.loop import device

PENULTIMATE = -2  # hidden state that SDXL reads


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Captions as the UNet sees them."""

    tokens_BTW: Float[Tensor, "B T W"]
    pooled_BP: Float[Tensor, "B P"]

    def dropped(self, keep_B: Float[Tensor, " B"]) -> Condition:
        """Zeros where `keep_B` is 0, as the pipeline writes an empty prompt."""
        return Condition(
            tokens_BTW=self.tokens_BTW * keep_B[:, None, None],
            pooled_BP=self.pooled_BP * keep_B[:, None],
        )


class TextEncoders:
    """Frozen text encoders of a CLIP checkpoint with their tokenizer."""

    def __init__(self, clip_folder: Path) -> None:
        with quietly():
            self.tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
            self.first = CLIPTextModel.from_pretrained(clip_folder, dtype=torch.float32)
            self.second = CLIPTextModelWithProjection.from_pretrained(
                clip_folder, dtype=torch.float32
            )
        for model in (self.first, self.second):
            model.eval().requires_grad_(requires_grad=False).to(device())
        self.width = 2 * int(self.first.config.hidden_size)
        self.projection = int(self.second.config.projection_dim)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Condition:
        """Both encoders hold the same weights, so the states are computed once and doubled."""
        ids = self.tokenizer(
            list(captions), padding="max_length", truncation=True, return_tensors="pt"
        )["input_ids"]
        out = self.second(ids.to(device()), output_hidden_states=True)
        states = out.hidden_states[PENULTIMATE].float()
        return Condition(
            tokens_BTW=torch.cat([states, states], dim=-1), pooled_BP=out.text_embeds.float()
        )

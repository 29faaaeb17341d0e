"""Attention inside each sample of a row of several, with no mask and no work across samples.

A mask that keeps samples apart makes attention pay for the whole row squared, most of it thrown
away. Here every sample is attended to by itself, with transformers' own SDPA; everything else of a
layer runs over the whole row at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

NAME = "sdpa_by_segment"  # in transformers' table of attention functions
LENGTHS = "segment_lengths"  # the argument of a forward pass


def attend_by_segment(language_model: Any) -> None:
    """Let a language model of transformers attend inside segments, whose lengths every pass names.

    The forward pass then takes `segment_lengths` (a sequence of integers, the tokens of each
    sample of the one row), `position_ids` that begin anew with each, and `use_cache=False`.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    language_model.set_attn_implementation(NAME)


def _attention(
    module: torch.nn.Module,
    query: Float[Tensor, "R H T D"],
    key: Float[Tensor, "R K S D"],
    value: Float[Tensor, "R K S D"],
    attention_mask: Tensor | None,
    *,
    segment_lengths: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Float[Tensor, "R T H D"], None]:
    """What transformers calls in every layer. Refuses to run where samples would see each other."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    rows, _, tokens, _ = query.shape
    if segment_lengths is None or attention_mask is not None or rows != 1:
        raise ValueError(
            f"{NAME}: takes one row, {LENGTHS} and no mask; got {rows} row(s), {LENGTHS}="
            f"{segment_lengths}, {'a' if attention_mask is not None else 'no'} mask"
        )
    if sum(segment_lengths) != tokens or key.shape[2] != tokens:
        raise ValueError(
            f"{NAME}: {LENGTHS} sum to {sum(segment_lengths)}, the row has {tokens} tokens and "
            f"{key.shape[2]} keys"
        )
    lengths = list(segment_lengths)
    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    seen = [sdpa_attention_forward(module, *part, None, **options)[0] for part in parts]
    return torch.cat(seen, dim=1), None

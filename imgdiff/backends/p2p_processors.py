"""Prompt-to-Prompt as attention processors: exact, fused, and without an attention map.

Every edit of arXiv 2208.01626 is linear in the values, so no probability is ever needed. With
attention `A V = SDPA(Q, K, V)`, a column map M and per-token weights a, the edited target is
`SDPA(Q_source, K_source, M diag(a) V_target) + SDPA(Q_target, K_target, diag(1 - a) V_target)`,
and replaced self attention is `SDPA(Q_source, K_source, V_target)`.

A batch holds P pairs as [source 1, target 1, source 2, ...], with classifier-free guidance twice:
first the unconditional half, which stays as it is. Tensor suffixes: B batch, H heads, T image
tokens, K text tokens, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from imgdiff.backends.local_blend import LocalBlend
from imgdiff.backends.p2p_plan import PairPlan
from imgdiff.core.errors import BackendError

# A layer's own processor is put back after use and does the layers that no edit touches.
PLAIN = ("AttnProcessor", "AttnProcessor2_0")


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossStep:
    """The cross-attention edit of one step. None stands for all zeros."""

    mix: Float[Tensor, "P 1 K K"] | None
    own: Float[Tensor, "P 1 K 1"] | None

    @property
    def follows(self) -> bool:
        """Whether nothing of the targets' own attention is left."""
        return self.mix is not None and self.own is None


class PairEdits:
    """The edits of P pairs, and the step that sampling has come to."""

    def __init__(
        self, plans: Sequence[PairPlan], self_max_tokens: int, blend: LocalBlend | None = None
    ) -> None:
        self.plans = plans
        self.self_max_tokens = self_max_tokens
        self.blend = blend
        self._step = 0
        self._cross: dict[tuple[torch.device, torch.dtype], CrossStep] = {}

    def on_step_end(
        self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        """`callback_on_step_end` of diffusers: blends, and opens the gates of the next step."""
        del timestep
        if self.blend is not None:
            tensors["latents"] = self.blend.blended(tensors["latents"], step)
        self._step = (step + 1) % int(pipeline.num_timesteps)
        self._cross.clear()
        if self._step == 0 and self.blend is not None:
            self.blend.forget()
        return tensors

    def first_row(self, rows: int) -> int:
        """Where the rows that follow the prompts begin; BackendError for a foreign batch."""
        pairs = 2 * len(self.plans)
        if rows not in (pairs, 2 * pairs):
            raise BackendError(
                f"the UNet got {rows} rows for {len(self.plans)} pairs; it needs {pairs}, or "
                f"{2 * pairs} under guidance. Call the pipeline with [source, target, ...] prompts "
                "and one image per prompt."
            )
        return rows - pairs

    def replaces_self(self, tokens: int) -> bool:
        """Whether self attention over so many tokens is replaced in this step, for any pair."""
        if tokens > self.self_max_tokens:
            return False
        return any(self._step < plan.self_steps for plan in self.plans)

    def leaders(self, rows: int, step: CrossStep | None) -> list[int]:
        """For each row the one whose queries it attends with: a target's may be its source.

        `step` is that of a cross-attention layer; None means self attention.
        """
        first = self.first_row(rows)
        asked = list(range(rows))
        for pair, plan in enumerate(self.plans):
            source = first + 2 * pair
            if step.follows if step is not None else self._step < plan.self_steps:
                asked[source + 1] = source
        return asked

    def cross_step(self, like: Tensor) -> CrossStep:
        """The cross-attention edit of the step at hand, as a tensor like `like`."""
        key = (like.device, like.dtype)
        if key not in self._cross:
            mix = np.stack([plan.mix_at(self._step) for plan in self.plans])
            own = np.stack([plan.own_at(self._step) for plan in self.plans])
            self._cross[key] = CrossStep(
                mix=torch.from_numpy(mix)[:, None].to(like) if mix.any() else None,
                own=torch.from_numpy(own)[:, None, :, None].to(like) if own.any() else None,
            )
        return self._cross[key]


class PairProcessor:
    """Stands in for one layer's processor while pairs are drawn."""

    def __init__(self, edits: PairEdits, plain: Any) -> None:
        self._edits = edits
        self._plain = plain

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **rest: Any,
    ) -> Tensor:
        """As `AttnProcessor2_0` of diffusers, with the edits of this step."""
        first = self._edits.first_row(hidden_states.shape[0])
        if not self._edited(hidden_states, encoder_hidden_states):
            return self._plain(
                attn,
                hidden_states,
                encoder_hidden_states=encoder_hidden_states,
                attention_mask=attention_mask,
                temb=temb,
                **rest,
            )
        if attention_mask is not None:
            raise BackendError("Prompt-to-Prompt takes no attention mask; leave it out")
        step = None
        if encoder_hidden_states is not None:
            step = self._edits.cross_step(hidden_states)
        leaders = self._edits.leaders(len(hidden_states), step)
        query, key, value = _projected(attn, hidden_states, encoder_hidden_states, leaders)
        if step is None:
            out = sdpa(query, key, value)
        else:
            out = edited_cross(query, key, value, first, step)
            if self._edits.blend is not None and self._edits.blend.watches(query.shape[2]):
                # `query` and `key` hold by now what the targets really attended with
                self._edits.blend.watch(query[first:], key[first:], step, edited_cross)
        del query, key, value  # a whole activation each, and the next lines make more
        out = out.transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](out))
        return out if attn.rescale_output_factor == 1.0 else out / attn.rescale_output_factor

    def _edited(self, hidden: Tensor, context: Tensor | None) -> bool:
        if context is None:
            return self._edits.replaces_self(hidden.shape[1])
        blend = self._edits.blend
        watched = blend is not None and blend.watches(hidden.shape[1])
        return watched or self._edits.cross_step(hidden).mix is not None


def _projected(
    attn: Any, hidden: Tensor, context: Tensor | None, leaders: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B H T D] of a transformer block's attention.

    Row n has the queries, and in self attention also the keys, of row `leaders[n]`. Those that no
    row attends with are never computed.
    """
    distinct = sorted(set(leaders))
    places = [distinct.index(leader) for leader in leaders]
    asking = hidden if len(distinct) == len(leaders) else hidden[distinct]

    def led(states: Tensor) -> Tensor:
        return states if asking is hidden else states[places]

    query = led(attn.to_q(asking))
    if context is None:
        key, value = led(attn.to_k(asking)), attn.to_v(hidden)
    else:
        seen = attn.norm_encoder_hidden_states(context) if attn.norm_cross else context
        key, value = attn.to_k(seen), attn.to_v(seen)
    query, key, value = (
        states.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for states in (query, key, value)
    )
    if attn.norm_q is not None:
        query = attn.norm_q(query)
    if attn.norm_k is not None:
        key = attn.norm_k(key)
    return query, key, value


def edited_cross(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H K D"],
    value: Float[Tensor, "B H K D"],
    first: int,
    step: CrossStep,
) -> Float[Tensor, "B H T D"]:
    """Cross attention with this step's edit of the targets from row `first` on.

    Where `step.follows`, targets come with their sources' queries (`PairEdits.leaders`), and one
    call does. Overwrites the targets' values, and there also their keys.
    """
    if step.mix is None:
        return sdpa(query, key, value)
    source, target = slice(first, None, 2), slice(first + 1, None, 2)
    mixed = step.mix @ value[target]
    if step.own is None:
        key[target], value[target] = key[source], mixed
        return sdpa(query, key, value)
    value[target] *= step.own
    out = sdpa(query, key, value)
    out[target] += sdpa(query[source], key[source], mixed)
    return out

"""Token-by-token decoding of a batch of equally long prompts, each row for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from imgdiff.backends.vlm_families import Family

KeysAndValues = list[tuple[Tensor, Tensor]]  # per layer, [rows heads tokens width]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy and ignores seeds and `top_p`."""

    temperature: float = 0.0
    top_p: float = 1.0


def remembered(family: Family, inputs_ITH: Float[Tensor, "I T H"]) -> KeysAndValues:
    """What the decoder keeps of a prompt's beginning, for `recalled`."""
    cache = _empty_cache()
    family.language(inputs_embeds=inputs_ITH, past_key_values=cache, use_cache=True)
    return [(layer.keys, layer.values) for layer in cache.layers]


def recalled(memory: KeysAndValues, rows: Sequence[int]) -> Any:
    """A cache whose row k begins as row `rows[k]` of `memory`."""
    cache = _empty_cache()
    for index, (keys, values) in enumerate(memory):
        where = torch.tensor(rows, device=keys.device)
        cache.update(keys[where], values[where], index)
    return cache


def joined(parts: Sequence[KeysAndValues]) -> KeysAndValues:
    """Memories one below the other."""
    return [
        (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
        for layer in zip(*parts, strict=True)
    ]


def rows_of(memory: KeysAndValues) -> list[KeysAndValues]:
    """Each row by itself; shares the memory's tensors."""
    layers = (zip(keys.split(1), values.split(1), strict=True) for keys, values in memory)
    return [list(row) for row in zip(*layers, strict=True)]


def _empty_cache() -> Any:
    from transformers import DynamicCache

    return DynamicCache()


def decode(
    family: Family,
    ids_BT: Int[Tensor, "B T"],
    cache: Any,
    max_new_tokens: int,
    sampling: Sampling,
    seeds: Sequence[int],
) -> list[list[int]]:
    """Up to `max_new_tokens` tokens per row, without the stop token.

    `ids_BT` follows what `cache` (or nothing) holds. Row k depends on its tokens, its cache and
    `seeds[k]` only, as long as the batch has the same shape.
    """
    dice = [torch.Generator().manual_seed(seed) for seed in seeds]
    answers: list[list[int]] = [[] for _ in seeds]
    running = set(range(len(seeds)))
    cache = _empty_cache() if cache is None else cache
    logits = family.last_logits(family.embed(ids_BT), cache)
    for _ in range(max_new_tokens):
        tokens_B = next_tokens(logits, sampling, dice)
        for row, token in enumerate(tokens_B.tolist()):
            if token in family.stop_ids:
                running.discard(row)
            elif row in running:
                answers[row].append(token)
        if not running or len(answers[min(running)]) == max_new_tokens:
            break
        logits = family.last_logits(family.embed(tokens_B[:, None]), cache)
    return answers


def next_tokens(
    logits_BV: Float[Tensor, "B V"], sampling: Sampling, dice: Sequence[torch.Generator]
) -> Int[Tensor, " B"]:
    """The most likely token of each row, or one drawn with the row's own generator."""
    if sampling.temperature == 0.0:
        return logits_BV.argmax(dim=-1)
    probabilities = torch.softmax(logits_BV.double().cpu() / sampling.temperature, dim=-1)
    kept = nucleus(probabilities, sampling.top_p)
    drawn = [torch.multinomial(row, 1, generator=one) for row, one in zip(kept, dice, strict=True)]
    return torch.cat(drawn).to(logits_BV.device)


def nucleus(probabilities_BV: Float[Tensor, "B V"], top_p: float) -> Float[Tensor, "B V"]:
    """The likeliest tokens until their sum reaches `top_p` (at least one); the rest become 0."""
    ordered, order = probabilities_BV.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before >= top_p, 0.0)
    ordered[:, 0] = ordered[:, 0].clamp_min(torch.finfo(ordered.dtype).tiny)
    return torch.zeros_like(ordered).scatter(-1, order, ordered)

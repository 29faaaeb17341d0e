"""Many dialogues about one image in one row, and where a head should look while it answers.

Packed dialogues share the prompt up to the image, restart their positions after it and do not see
each other, so each one trains exactly the tokens and positions of a conversation of its own, at a
fraction of the cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import LlamaTokenizer
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from imgdiff.backends.chat_templates import IGNORED, Exchange, encode, image_token_id

Ids = list[int]
LETTER_TOKENS = 3  # `(`, `a`, `)`
STRIDE = 64  # rows are padded to multiples of it: few shapes to compile


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of packed dialogues. The image fills `image_count` places from `image_start` on."""

    ids_BT: Int[Tensor, "B T"]
    labels_BT: Int[Tensor, "B T"]
    positions_BT: Int[Tensor, "B T"]
    segments_BT: Int[Tensor, "B T"]  # 0 is shared, k is dialogue k, -1 is padding
    image_start: int
    image_count: int


def word_ids(tokenizer: LlamaTokenizer, words: str) -> Ids:
    """Tokens of words in the middle of a text."""
    ids: Ids = tokenizer(f"a {words}", add_special_tokens=False)["input_ids"]
    return ids[1:]


def dialogue_shares(packed: Packed) -> Float[Tensor, "B T"]:
    """For each token one over the number of supervised tokens of its dialogue."""
    length = packed.segments_BT.shape[1]
    same = packed.segments_BT[:, :, None] == packed.segments_BT[:, None, :]
    counts = (same & (packed.labels_BT != IGNORED)[:, None, :]).sum(dim=-1)
    return 1.0 / counts.clamp(1, length)


@dataclass(frozen=True, kw_only=True)
class Gaze:
    """Where a head of a layer (both counted from 0) should look: token s for token t.

    A model this small takes very long to find out by itself that the numbers of a box mean a
    place, or that a description has to be copied; shown once, it keeps the habit.
    """

    layer: int
    wanted_BTS: Bool[Tensor, "B T S"]
    head: int = 0


def gaze_loss(
    layer: Any,
    hidden_BTH: Float[Tensor, "B T H"],
    turns: tuple[Tensor, Tensor],
    bias: Float[Tensor, "B 1 T T"],
    gaze: Gaze,
) -> Tensor:
    """Mean of -log(attention on the wanted tokens) over the tokens that want any."""
    attention, width = layer.self_attn, layer.self_attn.head_dim
    normed = layer.input_layernorm(hidden_BTH)
    query, key = (
        nn.functional.linear(normed, matrix.weight[gaze.head * width :][:width])[:, None]
        for matrix in (attention.q_proj, attention.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *turns)
    scores = (query @ key.transpose(-1, -2)) * attention.scaling + bias
    asking = gaze.wanted_BTS.any(dim=-1)
    if not bool(asking.any()):
        return hidden_BTH.new_zeros(())
    logs = scores[:, 0][asking].float().log_softmax(dim=-1)
    inside = logs.masked_fill(~gaze.wanted_BTS[asking], -math.inf)
    return -inside.logsumexp(dim=-1).mean()


def image_gaze(
    packed: Packed, places_BKN: Bool[Tensor, "B K N"], layer: int, head: int = 0
) -> Gaze:
    """While dialogue k answers, look at its places among the image tokens."""
    batch, length = packed.ids_BT.shape
    answering = torch.zeros(batch, length, dtype=torch.bool)
    answering[:, :-1] = packed.labels_BT[:, 1:] != IGNORED
    dialogue = (packed.segments_BT - 1).clamp_min(0)
    places_BTN = places_BKN[torch.arange(batch)[:, None], dialogue]
    wanted = torch.zeros(batch, length, length, dtype=torch.bool)
    end = packed.image_start + packed.image_count
    wanted[:, :, packed.image_start : end] = places_BTN & answering[:, :, None]
    return Gaze(layer=layer, head=head, wanted_BTS=wanted)


def word_gaze(packed: Packed, words: Sequence[Sequence[Ids]], layer: int, head: int = 0) -> Gaze:
    """While dialogue k answers, look at `words[b][k]` of its question (empty: nowhere)."""
    batch, length = packed.ids_BT.shape
    wanted = torch.zeros(batch, length, length, dtype=torch.bool)
    answering = torch.zeros(batch, length, dtype=torch.bool)
    answering[:, :-1] = packed.labels_BT[:, 1:] != IGNORED
    for row in range(batch):
        ids, segments = packed.ids_BT[row].tolist(), packed.segments_BT[row].tolist()
        for number, word in enumerate(words[row], start=1):
            if word:
                place = _find(ids, list(word), segments.index(number))
                mine = answering[row] & (packed.segments_BT[row] == number)
                wanted[row, mine, place : place + len(word)] = True
    return Gaze(layer=layer, head=head, wanted_BTS=wanted)


def option_gaze(packed: Packed, options: Sequence[Sequence[Ids]], layer: int) -> Gaze:
    """Before dialogue k answers with a letter, look at the words of that option.

    `options[b][k]` is the option with its letter, `(a) cat` as tokens; empty for other questions.
    """
    batch, length = packed.ids_BT.shape
    wanted = torch.zeros(batch, length, length, dtype=torch.bool)
    for row in range(batch):
        ids, labels = packed.ids_BT[row].tolist(), packed.labels_BT[row].tolist()
        segments = packed.segments_BT[row].tolist()
        for number, option in enumerate(options[row], start=1):
            if not option:
                continue
            start = segments.index(number)
            answer = next(t for t in range(start, length) if labels[t] != IGNORED)
            place = _find(ids, option, start)
            wanted[row, answer - 1, place + LETTER_TOKENS : place + len(option)] = True
    return Gaze(layer=layer, wanted_BTS=wanted)


def copy_gaze(
    packed: Packed, sources: Sequence[Sequence[Sequence[tuple[Ids, Ids]]]], layer: int
) -> Gaze:
    """While a dialogue answers with words from its question, look at the word that comes next.

    `sources[b][k]` are the passages of dialogue k in order: as the question and as the answer
    spells each (equally many tokens, or the passage is left out).
    """
    batch, length = packed.ids_BT.shape
    wanted = torch.zeros(batch, length, length, dtype=torch.bool)
    for row in range(batch):
        ids, labels = packed.ids_BT[row].tolist(), packed.labels_BT[row].tolist()
        segments = packed.segments_BT[row].tolist()
        for number, passages in enumerate(sources[row], start=1):
            start = segments.index(number)
            answer = next(t for t in range(start, length) if labels[t] != IGNORED)
            for asked, answered in passages:
                start = _find(ids, asked, start)
                answer = _find(ids, answered, answer)
                for offset in range(len(asked) if len(asked) == len(answered) else 0):
                    wanted[row, answer + offset - 1, start + offset] = True
                start, answer = start + len(asked), answer + len(answered)
    return Gaze(layer=layer, wanted_BTS=wanted)


def _find(ids: Ids, part: Ids, start: int) -> int:
    """Where `part` begins in `ids`, at `start` or later; ValueError if it does not occur."""
    for place in range(start, len(ids) - len(part) + 1):
        if ids[place : place + len(part)] == part:
            return place
    raise ValueError(f"{part} does not occur after {start}")


def pack(
    tokenizer: LlamaTokenizer,
    dialogues: Sequence[Sequence[Sequence[Exchange]]],
    image_count: int,
) -> Packed:
    """One row per image from its dialogues, padded on the right to a multiple of STRIDE.

    With an `image_count` of 0 the dialogues show no image.
    """
    rows = [_row(tokenizer, row, image_count) for row in dialogues]
    longest = -(-max(len(row[0]) for row in rows) // STRIDE) * STRIDE
    padding = (tokenizer.pad_token_id, IGNORED, 0, -1)
    columns = [
        torch.tensor([row[k] + [fill] * (longest - len(row[k])) for row in rows])
        for k, fill in enumerate(padding)
    ]
    image = image_token_id(tokenizer)
    return Packed(
        ids_BT=columns[0],
        labels_BT=columns[1],
        positions_BT=columns[2],
        segments_BT=columns[3],
        image_start=rows[0][0].index(image) if image_count else 0,
        image_count=image_count,
    )


def _row(
    tokenizer: LlamaTokenizer, dialogues: Sequence[Sequence[Exchange]], image_count: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, labels, positions and segments of one image's dialogues."""
    image = image_token_id(tokenizer)
    counts = [image_count] if image_count else []
    coded = [encode(tokenizer, turns, counts) for turns in dialogues]
    shared = coded[0].input_ids.index(image) + image_count if image_count else 0
    ids, labels = coded[0].input_ids[:shared], [IGNORED] * shared
    positions, segments = list(range(shared)), [0] * shared
    for number, dialogue in enumerate(coded, start=1):
        size = len(dialogue.input_ids)
        ids += dialogue.input_ids[shared:]
        labels += dialogue.labels[shared:]
        positions += range(shared, size)
        segments += [number] * (size - shared)
    return ids, labels, positions, segments


def attention_bias(packed: Packed) -> Float[Tensor, "B 1 T T"]:
    """0 where a token may look (backwards, at the shared part and its own dialogue), else minimal.

    One row is returned where all rows are laid out alike.
    """
    segments = packed.segments_BT
    if bool((segments == segments[:1]).all()):
        segments = segments[:1]
    length = segments.shape[1]
    backwards = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    together = (segments[:, None, :] == segments[:, :, None]) | (segments[:, None, :] == 0)
    seen = (backwards & together)[:, None]
    bias = torch.zeros(seen.shape, dtype=torch.bfloat16, device=segments.device)
    return bias.masked_fill_(~seen, torch.finfo(torch.bfloat16).min)

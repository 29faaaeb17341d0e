"""What Prompt-to-Prompt does to one pair at each step, as numbers (arXiv 2208.01626).

A plan says, for every step and token column of the target's cross attention, how much comes from
the source and how much stays. Plain NumPy; the attention itself is in `p2p_processors`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from imgdiff.backends.protocols import Refusal
from imgdiff.backends.token_alignment import (
    ColumnMap,
    PadMap,
    Prompt,
    changed_tokens,
    read_prompt,
    refine_map,
    replace_map,
)

EMPTY = "empty prompt"
EQUAL = "prompts are equal"
UNREADABLE = "tokens do not follow words"
OUTSIDE = "change lies beyond the text encoder's length"
UNEQUAL_LENGTHS = "replace needs equally many words"
NOT_THERE = "word is not in the prompt"


class Edit(enum.Enum):  # not a str, whose `replace` is a method
    """`refine`: aligned tokens keep the source's attention. `replace`: words are swapped."""

    refine = "refine"
    replace = "replace"


@dataclass(frozen=True, kw_only=True, slots=True)
class EditSettings:
    """How strongly a target follows its source. Shares are of the denoising steps, in [0, 1].

    `word_shares` overrides `cross_replace` for words of the target, `word_weights` scales their
    attention (reweighting). A pair whose target lacks such a word is refused.
    """

    steps: int
    edit: Edit = Edit.refine
    pad_map: PadMap = PadMap.identity
    cross_replace: float = 1.0
    self_replace: float = 0.4
    word_shares: Mapping[str, float] = field(default_factory=dict)
    word_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def self_steps(self) -> int:
        """Self attention is replaced in steps 0 to this (exclusive)."""
        return share_of(self.self_replace, self.steps)


def share_of(share: float, count: int) -> int:
    """`share * count` rounded down, safe against 0.29 * 100 = 28.999999999999996."""
    return math.floor(share * count + 1e-9)


def gate_table(
    steps: int, window: int, share: float, words: Sequence[tuple[Sequence[int], float]]
) -> Float[np.ndarray, "R K"]:
    """1 where a column is replaced in a step, else 0; `steps + 1` rows, as published.

    `words`: positions of single words with a share of their own.
    """
    table_RK = np.zeros((steps + 1, window), dtype=np.float32)
    table_RK[: share_of(share, steps + 1)] = 1.0
    for positions, own_share in words:
        table_RK[:, list(positions)] = 0.0
        table_RK[: share_of(own_share, steps + 1), list(positions)] = 1.0
    return table_RK


@dataclass(frozen=True, kw_only=True, slots=True)
class PairPlan:
    """The edit of one pair. K token positions, R = steps + 1 rows."""

    source: str
    target: str
    columns: ColumnMap
    gates_RK: Float[np.ndarray, "R K"]
    weights_K: Float[np.ndarray, " K"]
    source_changed_K: Bool[np.ndarray, " K"]
    target_changed_K: Bool[np.ndarray, " K"]
    self_steps: int

    def mix_at(self, step: int) -> Float[np.ndarray, "K K"]:
        """M diag(a): what each target value becomes before it meets the source's attention."""
        taken_K = self.columns.taken_K * self.weights_K * self._gate(step)
        return self.columns.mix_KK * taken_K

    def own_at(self, step: int) -> Float[np.ndarray, " K"]:
        """What each target value is scaled by before it meets the target's own attention."""
        gate_K = self._gate(step)
        kept_K = (1.0 - self.columns.taken_K) * self.weights_K
        return np.asarray(gate_K * kept_K + (1.0 - gate_K), dtype=np.float32)

    def _gate(self, step: int) -> Float[np.ndarray, " K"]:
        return self.gates_RK[min(step, len(self.gates_RK) - 1)]


def plan_pair(
    tokenizer: Any, source: str, target: str, settings: EditSettings
) -> PairPlan | Refusal:
    """The plan of a pair, or why there is none.

    A prompt beyond the encoder's length is cut as the encoder cuts it, as long as every changed
    token is within what the encoder sees; otherwise the pair is refused. `tokenizer` is CLIP's.
    """
    read = _read_both(tokenizer, source, target)
    if isinstance(read, Refusal):
        return read
    before, after = read
    window = int(tokenizer.model_max_length)
    if settings.edit is Edit.replace and len(before.words) != len(after.words):
        return Refusal(reason=UNEQUAL_LENGTHS, detail=f"{len(before.words)}, {len(after.words)}")
    changed = changed_tokens(before, after, by_word=settings.edit is Edit.replace)
    if max((*changed[0], *changed[1]), default=0) > window - 2:
        return Refusal(reason=OUTSIDE, detail=f"{len(before.ids)} and {len(after.ids)} tokens")
    shares = _located(after, settings.word_shares, window)
    weights = _located(after, settings.word_weights, window)
    if isinstance(shares, Refusal):
        return shares
    if isinstance(weights, Refusal):
        return weights
    make_map = refine_map if settings.edit is Edit.refine else replace_map
    return PairPlan(
        source=source,
        target=target,
        columns=make_map(before, after, window, settings.pad_map),
        gates_RK=gate_table(settings.steps, window, settings.cross_replace, shares),
        weights_K=_weights(weights, window),
        source_changed_K=_marked(changed[0], window),
        target_changed_K=_marked(changed[1], window),
        self_steps=settings.self_steps,
    )


def refused(tokenizer: Any, source: str, target: str) -> Refusal | None:
    """Why two prompts make no pair of images: one is empty, or the encoder sees no difference."""
    read = _read_both(tokenizer, source, target)
    if isinstance(read, Refusal):
        return read
    if read[0].ids == read[1].ids:
        return Refusal(reason=EQUAL, detail=source)
    return None


def _read_both(tokenizer: Any, source: str, target: str) -> tuple[Prompt, Prompt] | Refusal:
    if not source.strip() or not target.strip():
        return Refusal(reason=EMPTY, detail="source" if not source.strip() else "target")
    before, after = read_prompt(tokenizer, source), read_prompt(tokenizer, target)
    if before is None or after is None:
        return Refusal(reason=UNREADABLE, detail=source if before is None else target)
    return before, after


def _located(
    prompt: Prompt, values: Mapping[str, float], window: int
) -> list[tuple[list[int], float]] | Refusal:
    found = []
    for phrase, value in values.items():
        positions = prompt.positions_of(phrase, window)
        if not positions:
            return Refusal(reason=NOT_THERE, detail=phrase)
        found.append((positions, value))
    return found


def _weights(words: Sequence[tuple[Sequence[int], float]], window: int) -> Float[np.ndarray, " K"]:
    weights_K = np.ones(window, dtype=np.float32)
    for positions, weight in words:
        weights_K[list(positions)] = weight
    return weights_K


def _marked(positions: Sequence[int], window: int) -> Bool[np.ndarray, " K"]:
    marks_K = np.zeros(window, dtype=bool)
    marks_K[list(positions)] = True
    return marks_K

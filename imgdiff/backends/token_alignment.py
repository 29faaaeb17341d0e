"""Which token of an edited prompt stands for which token of its source (arXiv 2208.01626).

Positions count from the begin token, which is 0. A text encoder sees `window` positions (CLIP: 77):
begin, the first `window - 2` tokens of the text, end, padding. Plain numbers; no torch.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

_PUNCTUATION = ".,;:!?\"'()[]{}"
_MATCH, _MISMATCH, _GAP = 1, -1, 0
_LEFT, _UP, _DIAGONAL = 0, 1, 2  # in the order that ties are broken

Span = tuple[int, int]  # first position, and the one after the last


class PadMap(str, enum.Enum):
    """What the padding columns of an edited prompt show.

    `identity`: the source's column of the same position where that is padding as well, else the
    target's own. `reference`: as the public code, where a target that is shorter than its source
    takes the attention of real source words for padding (and `replace` loses its tail's shift).
    """

    identity = "identity"
    reference = "reference"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A prompt cut into words and tokens. `ids` has no special tokens and is not truncated."""

    text: str
    words: tuple[str, ...]
    spans: tuple[Span, ...]  # of each word
    ids: tuple[int, ...]

    def sees(self, window: int) -> int:
        """How many tokens of the text the encoder sees."""
        return min(len(self.ids), window - 2)

    def positions_of(self, phrase: str, window: int) -> list[int]:
        """Positions of every occurrence of a word or of consecutive words, as far as seen.

        Case and punctuation around words do not count.
        """
        wanted = [_bare(word) for word in phrase.split()]
        words = [_bare(word) for word in self.words]
        found: list[int] = []
        for start in range(len(words) - len(wanted) + 1):
            if wanted and words[start : start + len(wanted)] == wanted:
                first, last = self.spans[start][0], self.spans[start + len(wanted) - 1][1]
                found += range(first, min(last, self.sees(window) + 1))
        return found


def _bare(word: str) -> str:
    return word.casefold().strip(_PUNCTUATION)


def read_prompt(tokenizer: Any, text: str) -> Prompt | None:
    """Words and tokens of a text, or None where its tokens are not those of its words.

    CLIP's tokenizer never joins what white space parts, so only odd tokenizers give None.
    """
    words = tuple(text.split())
    ids: list[int] = []
    spans: list[Span] = []
    for word in words:
        own = tokenizer(word, add_special_tokens=False).input_ids
        spans.append((len(ids) + 1, len(ids) + len(own) + 1))
        ids += own
    length = int(tokenizer.model_max_length)
    seen = tokenizer(text, truncation=True, max_length=length).input_ids
    if seen[1:-1] != ids[: length - 2]:
        return None
    return Prompt(text=text, words=words, spans=tuple(spans), ids=tuple(ids))


def aligned(source: Sequence[int], target: Sequence[int]) -> list[int]:
    """For each target token the index of its source token, or -1 (Needleman-Wunsch).

    A match scores 1, a mismatch -1, a gap 0, so a changed token is never aligned. Of equal scores
    an insertion is taken before a deletion, and that before a match.
    """
    steps = _alignment_steps(source, target)
    found = [-1] * len(target)
    i, j = len(source), len(target)
    while j > 0:
        step = steps[i, j] if i else _LEFT
        if step == _LEFT:
            j -= 1
        elif step == _UP:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found[j] = i
    return found


def _alignment_steps(source: Sequence[int], target: Sequence[int]) -> Int[np.ndarray, "S T"]:
    """The step that reaches the best score of each pair of prefixes."""
    scores = np.zeros((len(source) + 1, len(target) + 1), dtype=np.int64)
    steps = np.full_like(scores, _UP)
    steps[0] = _LEFT
    for i, left_id in enumerate(source, 1):
        for j, right_id in enumerate(target, 1):
            options = (
                scores[i, j - 1] + _GAP,
                scores[i - 1, j] + _GAP,
                scores[i - 1, j - 1] + (_MATCH if left_id == right_id else _MISMATCH),
            )
            scores[i, j] = max(options)
            steps[i, j] = options.index(scores[i, j])
    return steps


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnMap:
    """How attention columns of the source become columns of the target.

    `A'[:, j] = taken[j] * sum_i A_source[:, i] * mix[i, j] + (1 - taken[j]) * A_target[:, j]`.
    """

    mix_KK: Float[np.ndarray, "K K"]
    taken_K: Float[np.ndarray, " K"]


def refine_map(source: Prompt, target: Prompt, window: int, pad_map: PadMap) -> ColumnMap:
    """Aligned tokens take the source's columns; new ones keep their own."""
    columns = _padding(source, target, window, pad_map)
    content = aligned(source.ids[: window - 2], target.ids[: window - 2])
    for j, i in enumerate(content, 1):
        columns.mix_KK[i + 1, j] = columns.taken_K[j] = float(i >= 0)
    return columns


def replace_map(source: Prompt, target: Prompt, window: int, pad_map: PadMap) -> ColumnMap:
    """Word k takes the columns of the source's word k; both prompts have as many words.

    Words of equal length pair their tokens; else each of the t target tokens takes 1/t of each
    source token.
    """
    columns = _padding(source, target, window, pad_map)
    seen = source.sees(window) + 1, target.sees(window) + 1
    for (first, last), (start, end) in zip(source.spans, target.spans, strict=True):
        rows, cols = range(first, min(last, seen[0])), range(start, min(end, seen[1]))
        columns.taken_K[list(cols)] = float(len(rows) > 0)
        if len(rows) == len(cols):
            columns.mix_KK[list(rows), list(cols)] = 1.0
        elif len(cols):
            columns.mix_KK[np.ix_(list(rows), list(cols))] = 1.0 / len(cols)
    if pad_map is PadMap.reference:
        _reference_tail(columns, source, target, window)
    return columns


def _reference_tail(columns: ColumnMap, source: Prompt, target: Prompt, window: int) -> None:
    """Behind the last replaced word the public code writes M[j, j], whatever the shift."""
    changed = [k for k, (a, b) in enumerate(zip(source.words, target.words, strict=True)) if a != b]
    if not changed:
        return
    behind, tail = source.spans[changed[-1]][1], target.spans[changed[-1]][1]
    columns.mix_KK[:, tail:] = 0.0
    columns.taken_K[tail:] = 1.0
    rest = list(range(tail, min(window, tail + max(window - behind, 0))))
    columns.mix_KK[rest, rest] = 1.0


def _padding(source: Prompt, target: Prompt, window: int, pad_map: PadMap) -> ColumnMap:
    """The map of begin, end and padding; the tokens between are still to be filled in."""
    source_end, target_end = source.sees(window) + 1, target.sees(window) + 1
    mix_KK = np.zeros((window, window), dtype=np.float32)
    taken_K = np.zeros(window, dtype=np.float32)
    first_pad = target_end if pad_map is PadMap.reference else max(source_end, target_end)
    pads = list(range(first_pad + 1, window))
    mix_KK[pads, pads] = 1.0
    taken_K[pads] = 1.0
    mix_KK[0, 0] = mix_KK[source_end, target_end] = 1.0
    taken_K[[0, target_end]] = 1.0
    return ColumnMap(mix_KK=mix_KK, taken_K=taken_K)


def changed_tokens(source: Prompt, target: Prompt, *, by_word: bool) -> tuple[list[int], list[int]]:
    """Positions, untruncated, of the tokens that are not in the other prompt.

    By word (for `replace`, prompts of equally many words) or by alignment.
    """
    if by_word:
        pairs = zip(source.words, target.words, source.spans, target.spans, strict=True)
        spans = [(of_source, of_target) for a, b, of_source, of_target in pairs if a != b]
        return (
            [n for span, _ in spans for n in range(*span)],
            [n for _, span in spans for n in range(*span)],
        )
    partners = aligned(source.ids, target.ids)
    kept = set(partners)
    return (
        [i + 1 for i in range(len(source.ids)) if i not in kept],
        [j + 1 for j, i in enumerate(partners) if i < 0],
    )


__all__ = [
    "ColumnMap",
    "PadMap",
    "Prompt",
    "aligned",
    "changed_tokens",
    "read_prompt",
    "refine_map",
    "replace_map",
]

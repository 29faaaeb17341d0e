"""The learning rate: linear warm-up, cosine to 0."""

from __future__ import annotations

import math


def rate_factor(step: int, steps: int, warmup_ratio: float) -> float:
    """Share of the peak learning rate at `step` (from 0): linear from 0, then cosine to 0.

    As transformers' cosine schedule with ceil(warmup_ratio * steps) warm-up steps.
    """
    warmup = math.ceil(warmup_ratio * steps)
    if step < warmup:
        return step / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))

"""Small random variation of an object's proportions."""

from __future__ import annotations

import numpy as np


def about(rng: np.random.Generator, value: float, spread: float = 0.12) -> float:
    """`value` times a factor drawn evenly from 1 - spread to 1 + spread."""
    return float(value * rng.uniform(1.0 - spread, 1.0 + spread))

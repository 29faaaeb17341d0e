"""The card and the figures beside each checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from imgdiff.core.files import read_json, write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a checkpoint is, in sentences; `training` and `limits` become lists."""

    title: str
    architecture: str
    training: Sequence[str]
    use: str
    limits: Sequence[str]
    library: str = "transformers"


def write_card(folder: Path, card: Card, metrics: Mapping[str, float]) -> None:
    """Write `README.md` and `metrics.json` into a checkpoint folder."""
    write_json(folder / "metrics.json", dict(metrics))
    write_text(folder / "README.md", card_text(card, metrics))


def card_text(card: Card, metrics: Mapping[str, float]) -> str:
    """Markdown with the front matter that the hub reads."""
    rows = "\n".join(f"| {name} | {_number(value)} |" for name, value in metrics.items())
    training = "\n".join(f"- {line}" for line in card.training)
    limits = "\n".join(f"- {line}" for line in card.limits)
    return f"""---
license: apache-2.0
library_name: {card.library}
---

# {card.title}

{card.architecture}

## Training

{training}

## Use

{card.use}

## Figures

Measured on scenes of the validation world; each holds things together that no train scene shows
together. `python -m imgdiff.mini.build` writes them again.

| figure | value |
| --- | --- |
{rows}

## Limits

{limits}

## Licence

Apache-2.0, weights and data alike: the scenes are drawn by imgdiff itself.
"""


def _number(value: float) -> str:
    """`2800`, `0.987`."""
    return f"{value:.0f}" if float(value).is_integer() and value > 1 else f"{value:.3f}"


def machine() -> str:
    """Where a training ran: `GPU NAME` or `CPU, N threads`."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


class Stopwatch:
    """Minutes of training over all calls, kept in a file so that a resumed run goes on counting."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before = float(read_json(file)) if file.exists() else 0.0
        self._start = time.monotonic()

    def note(self) -> float:
        """Minutes so far, also written to the file."""
        minutes = self._before + (time.monotonic() - self._start) / 60
        write_json(self._file, round(minutes, 2))
        return minutes

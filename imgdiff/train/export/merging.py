"""One plain model of a base and its adapters, shown to be the same model before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from imgdiff.backends.adapters import Adapters, attached, unloaded
from imgdiff.backends.chat_templates import IMAGE_TOKEN, VICUNA_V1, Exchange
from imgdiff.backends.readers import LlavaReader, Reader
from imgdiff.core.errors import BackendError
from imgdiff.train.export.sources import Source

# Of the largest logit. float32 gives about 1e-6; a weight that was missed gives far more.
TOLERANCE = 1e-3
_PROBE = [Exchange(f"{IMAGE_TOKEN}\nWhat is different?", "On the right the cup is gone.")]


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A model without adapters, and how far its logits moved on the probe when they were merged."""

    model: Any
    moved: float
    largest: float  # logit, for comparison


def merge(model: Any, source: Source, adapters: Adapters) -> Merged:
    """Merge in the model's number type, float32; BackendError where the logits move.

    The probe is one drawn image with a question and an answer.
    """
    reader = reader_of(source)
    wrapped = attached(model, adapters)
    before = probe_logits(wrapped, reader)
    plain = unloaded(wrapped, adapters)
    after = probe_logits(plain, reader)
    moved, largest = float((before - after).abs().max()), float(before.abs().max())
    if not moved <= TOLERANCE * max(1.0, largest):  # also where one of them is no number
        raise BackendError(
            f"{source.name}: merging its adapters moves the logits of a probe by {moved:.2g} (the "
            f"largest is {largest:.2g}); at most {TOLERANCE:g} of that is rounding. Nothing was "
            "written. Ask the adapters as they are, or train again with a lower learning rate."
        )
    return Merged(model=plain, moved=moved, largest=largest)


def reader_of(source: Source) -> Reader:
    """Text and pixels of the source's family, one tile per image; no weights."""
    if source.kind.is_internvl:
        from imgdiff.backends.internvl2_reader import InternVl2Reader

        return InternVl2Reader(source.weights, max_tiles=1)
    return LlavaReader(source.weights, VICUNA_V1)


@torch.no_grad()
def probe_logits(model: Any, reader: Reader) -> Float[Tensor, "T V"]:
    """Logits of every token of the probe conversation."""
    image = _drawn(reader.view_px)
    ids = reader.encode(_PROBE, reader.image_tokens([image.size])).input_ids
    found = model(
        input_ids=torch.tensor([ids]), pixel_values=reader.views([image]), use_cache=False
    )
    logits: Tensor = found.logits[0].float()
    return logits


def _drawn(side_px: int) -> Image.Image:
    """A picture with structure in both directions and all colours."""
    rising = np.linspace(0, 255, side_px)
    red, green = np.meshgrid(rising, rising)
    blue = 127.5 + 127.5 * np.sin(red / 20) * np.cos(green / 30)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))

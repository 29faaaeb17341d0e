"""A run with random weights: it says so, and is refused where memory would not do."""

from __future__ import annotations

import math

from imgdiff.backends.random_checkpoints import parameters
from imgdiff.backends.runtime import Memory, free_memory, visible_gpus
from imgdiff.core.console import say
from imgdiff.core.errors import BackendError
from imgdiff.synth.config import SynthConfig
from imgdiff.synth.report import NOISE

ROOM = 1.25  # of the weights: what libraries and intermediate results take at the least
GIB = 2**30
MILLION = 1e6
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
WITHOUT = {  # how a run does without the published checkpoint of a setting
    "editor.model.model": "editor=lexicon (no weights)",
    "generator.model": "generator=composite (photos with masks), or generator=render source=world "
    "editor=world (drawn)",
    "embedder.model": "embedder.model=mini:clip",
    "segmenter.model": "segmenter.model=mini:fastsam",
    "matcher.model": "matcher.model=mini:blip",
    "describer.model": "describer.model=mini:describer (small), or rules.regions_from=truth "
    "describe.by=truth describe.sentence_by=template (none)",
    "inpainter.model": "inpainter=opencv (no weights)",
}


def prepare(config: SynthConfig) -> None:
    """Say at the terminal that a dry run makes noise, and of which models; nothing for others.

    BackendError, before a weight is drawn, for models that the memory cannot hold.
    """
    if not config.random_checkpoints():
        return
    memory = free_memory()
    sizes = _sizes(config, memory)
    say(NOISE)
    for key, model, count, size in sizes:
        millions = f"{count / MILLION:,.1f} M parameters"
        say(f"{key}={model}: {millions}, about {size:.1f} GiB of {memory.device} memory")
    gpus = max(1, len(visible_gpus())) if memory.device == "GPU" else 1
    _check_memory(sizes, memory, math.ceil(config.processes / gpus))


def _sizes(config: SynthConfig, memory: Memory) -> list[tuple[str, str, int, float]]:
    """(setting, model, parameters, GiB that a process needs for it)."""
    sizes = []
    for item in config.random_checkpoints():
        count = parameters(item)
        width = BYTES[item.dtype if memory.device == "GPU" else "float32"]
        sizes.append((item.key, item.model, count, count * width * ROOM / GIB))
    return sizes


def _check_memory(sizes: list[tuple[str, str, int, float]], memory: Memory, processes: int) -> None:
    if memory.free is None:
        return
    free = memory.free / GIB
    large = [
        f"  {key}={model}: {size * processes:.1f} GiB. Without it: {WITHOUT[key]}."
        for key, model, _, size in sizes
        if size * processes > free
    ]
    if not large:
        return
    held = f"{processes} processes each hold one (workers=1: one copy)" if processes > 1 else ""
    raise BackendError(
        f"{free:.1f} GiB of the {memory.device}'s memory are free, which is too little for:\n"
        + "\n".join(large)
        + (f"\n{held}." if held else "")
        + "\nUse a machine with more memory or a GPU with it, or leave these models out."
    )

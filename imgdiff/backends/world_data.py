"""The folders that the procedural world writes for training and evaluation, on demand."""

from __future__ import annotations

from pathlib import Path


def instructions_folder(cache: Path, count: int, seed: int) -> Path:
    """A folder with `instructions.json` (LLaVA JSON of `count` samples, train world) and images.

    Written into `cache` the first time (about 200 samples a second), found there afterwards.
    """
    from imgdiff.mini.instruction_data import write_instructions

    return write_instructions(cache, count, seed)


def benchmark_folder(cache: Path, pairs: int, seed: int) -> Path:
    """A folder in MMVP's layout with `pairs` pairs of the test world, marked as not MMVP.

    Written into `cache` the first time, found there afterwards.
    """
    from imgdiff.mini.benchmark import write_benchmark

    return write_benchmark(cache, pairs, seed)

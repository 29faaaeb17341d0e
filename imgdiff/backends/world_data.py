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


def spot_the_diff_folder(cache: Path, pairs: int, seed: int, split: str = "test") -> Path:
    """A folder in Spot-the-Diff's layout with `pairs` pairs of one split, marked as procedural.

    `split` is train, val (or validation) or test; it holds `annotations/{train,val,test}.json`.
    Written into `cache` the first time (about 70 pairs a second), found there afterwards.
    ConfigError for another split, DataError for fewer than 1 pair.
    """
    from imgdiff.backends.world import split_named
    from imgdiff.mini.change_sets import write_spot_the_diff

    return write_spot_the_diff(cache, pairs, seed, split_named(split, "split"))


def image_edit_request_folder(cache: Path, pairs: int, seed: int, split: str = "test") -> Path:
    """A folder in Image-Edit-Request's layout with `pairs` edits of one split, as procedural.

    As `spot_the_diff_folder`; it holds `{train,valid,test}.json`: one instruction per item of
    train, three of the others.
    """
    from imgdiff.backends.world import split_named
    from imgdiff.mini.change_sets import write_image_edit_request

    return write_image_edit_request(cache, pairs, seed, split_named(split, "split"))

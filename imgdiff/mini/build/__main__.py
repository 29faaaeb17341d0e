"""Trains the mini family: `python -m imgdiff.mini.build [clip blip ... sdxl]`."""

from __future__ import annotations

import argparse
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from imgdiff.core.files import write_json

log = logging.getLogger(__name__)

STEPS = ("clip", "blip", "fastsam", "describer", "llava", "sdxl")  # all but fastsam use clip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    described = argparse.ArgumentParser(prog="python -m imgdiff.mini.build", description=__doc__)
    described.add_argument(
        "steps",
        nargs="*",
        metavar="step",
        help=f"which checkpoints, in this order: {' '.join(STEPS)} (default: all)",
    )
    described.add_argument(
        "--work",
        type=Path,
        help="scenes and training states (default: outputs/mini, or outputs/mini-quick)",
    )
    described.add_argument("--threads", type=int, help="of torch (default: all cores)")
    described.add_argument(
        "--quick",
        action="store_true",
        help="a few steps each, written to the work folder: tries the recipe, trains nothing",
    )
    return described


def run(steps: Sequence[str], work: Path, *, quick: bool) -> None:
    """Build each step in the order of STEPS; one that `work` records as finished is skipped."""
    for name in STEPS:
        record = work / f"{name}.done.json"
        if name not in steps:
            continue
        if record.exists():
            log.info("%s: finished before; delete %s to train it again", name, record)
            continue
        metrics = importlib.import_module(f"imgdiff.mini.build.{name}").build(work, quick=quick)
        write_json(record, metrics)
        figures = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        log.info("%s: %s", name, figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    described = parser()
    given = described.parse_args(arguments)
    unknown = [name for name in given.steps if name not in STEPS]
    if unknown:
        described.error(f"unknown step {', '.join(unknown)}; choose from {', '.join(STEPS)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if given.threads:
        torch.set_num_threads(given.threads)
    default = Path("outputs/mini-quick" if given.quick else "outputs/mini")
    run(given.steps or STEPS, given.work or default, quick=given.quick)


if __name__ == "__main__":
    main()

"""Which process of a run this is, before anything heavy is imported. Light."""

from __future__ import annotations

import os


def rank() -> int:
    """Number of this process among those of the run, before any of them is set up."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return int(os.environ["SLURM_PROCID"])
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))

"""Runs of the trainer in processes of their own, under strategies that shard."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from imgdiff.train.config import Precision

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(sys.path), "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1",
}  # fmt: skip


class Trained:
    """Starts runs on one checkpoint and one data set; gives their losses and weights."""

    def __init__(self, folder: Path, checkpoint: Path, data: Path) -> None:
        self._folder, self._checkpoint, self._data = folder, checkpoint, data

    def __call__(self, name: str, **changes: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
        """The settings of `sharded_on_cpu.py`; with `die_after` it is started twice."""
        if changes.get("die_after"):
            self._start(name, code=9, **changes)
            assert list((self._folder / name / "resume").glob("step-*"))
        self._start(name, **(changes | {"die_after": 0}))
        with (self._folder / name / "metrics.csv").open() as handle:
            losses = [float(row["loss"]) for row in csv.DictReader(handle)]
        return losses, weights_of(self._folder / name / "checkpoint")

    def _start(self, name: str, *, code: int = 0, **changes: Any) -> None:
        given = {
            "strategy": "single", "tuning": "full", "precision": Precision.float32.value,
            "devices": 1, "checkpoint": str(self._checkpoint), "data": str(self._data),
            "output": str(self._folder / name), "clip": None, "die_after": 0,
        }  # fmt: skip
        place = self._folder / f"{name}.json"
        place.write_text(json.dumps(given | changes))
        done = subprocess.run(
            [sys.executable, HERE / "sharded_on_cpu.py", place], capture_output=True, text=True,
            check=False, env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """As they lie on the disk, name by name."""
    adapters = folder / "adapter_model.safetensors"
    return load_file(adapters if adapters.is_file() else folder / "model.safetensors")


def assert_alike(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float
) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert (found[name].float() - value.float()).abs().max() <= tolerance, name

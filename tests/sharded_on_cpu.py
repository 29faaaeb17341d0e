"""A run of the trainer under FSDP or DeepSpeed on the CPU; real code, Lightning's door opened.

    DS_ACCELERATOR=cpu python tests/sharded_on_cpu.py SETTINGS.json

SETTINGS: strategy, tuning, precision, devices, checkpoint, data, output, clip, and die_after (the
step whose resume point is the last thing the run writes; 0: none). Lightning lets both run on CUDA
only, though FSDP runs on gloo and DeepSpeed has an accelerator for the CPU.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies import deepspeed as door
from torch.distributed.fsdp import FullyShardedDataParallel

from imgdiff.train import resume, strategies
from imgdiff.train.config import (
    DataConfig,
    LoggingConfig,
    ModelConfig,
    Precision,
    StrategyConfig,
    StrategyKind,
    TrainConfig,
    Tuning,
    TuningConfig,
)
from imgdiff.train.run import run


def open_the_door(kind: StrategyKind) -> None:
    strategies.check_hardware = lambda config: None
    if kind is StrategyKind.fsdp:

        class OnCpu(FSDPStrategy):
            """What is no FSDPStrategy by its very type is not asked for a GPU."""

        strategies.FSDPStrategy = OnCpu
        begin = FullyShardedDataParallel.__init__

        def on_cpu(self: Any, *args: Any, **given: Any) -> None:
            begin(self, *args, **(given | {"device_id": torch.device("cpu")}))

        FullyShardedDataParallel.__init__ = on_cpu
        return
    door.CUDAAccelerator = CPUAccelerator
    door._validate_device_index_selection = lambda devices: None
    CPUAccelerator.get_parallel_devices = staticmethod(  # DeepSpeed asks for an index
        lambda devices: [torch.device("cpu", number) for number in range(int(devices))]
    )


def die_after(step: int) -> None:
    saved = resume.save

    def save(trainer: Any, output: Path, at: int) -> None:
        saved(trainer, output, at)
        if at == step:
            os._exit(9)

    resume.save = save


def settings(given: dict[str, Any]) -> TrainConfig:
    return TrainConfig(
        output_dir=given["output"],
        cache_dir=given["output"] + "-cache",
        model=ModelConfig(path=given["checkpoint"]),
        strategy=StrategyConfig(kind=StrategyKind(given["strategy"]), devices=given["devices"]),
        tuning=TuningConfig(kind=Tuning(given["tuning"]), rank=4, alpha=8, dropout=0.0),
        data=DataConfig(base=given["data"], synth=None),
        precision=Precision(given["precision"]),
        max_steps=6,
        save_every=2,
        batch_size=4,
        micro_batch_size=1,
        learning_rate=1e-3,
        clip_norm=given["clip"],
        threads=1,
        logging=LoggingConfig(tensorboard=False),
    )


if __name__ == "__main__":
    chosen = json.loads(Path(sys.argv[1]).read_text())
    open_the_door(StrategyKind(chosen["strategy"]))
    if chosen["die_after"]:
        die_after(chosen["die_after"])
    run(settings(chosen))

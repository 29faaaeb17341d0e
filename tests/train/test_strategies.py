"""Devices: what is refused, how a step is shared, and two processes that train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imgdiff.core.errors import ConfigError
from imgdiff.train.config import Precision, StrategyConfig, StrategyKind, Tuning, TuningConfig
from imgdiff.train.run import run
from imgdiff.train.strategies import accumulation, build_trainer, check_hardware, deepspeed_config

ON_CPU = not torch.cuda.is_available()
WEIGHTS = "model.safetensors"


def strategy(kind: str, **values: Any) -> StrategyConfig:
    return StrategyConfig(kind=StrategyKind(kind), **values)


@pytest.mark.parametrize(
    ("devices", "nodes", "micro", "expected"),
    [(1, 1, 16, 8), (8, 1, 16, 1), (4, 2, 16, 1), (4, 1, 8, 4), (2, 1, 64, 1)],
)
def test_a_step_is_shared_evenly(
    settings: Callable[..., Any], devices: int, nodes: int, micro: int, expected: int
) -> None:
    config = settings(
        batch_size=128,
        micro_batch_size=micro,
        strategy=strategy("ddp", devices=devices, nodes=nodes),
    )
    assert accumulation(config) == expected


def test_a_world_that_does_not_fit_is_refused_with_numbers(settings: Callable[..., Any]) -> None:
    config = settings(batch_size=128, micro_batch_size=16, strategy=strategy("ddp", devices=3))
    with pytest.raises(ConfigError, match=r"8 micro-batch\(es\) of 16, which 3 devices cannot"):
        accumulation(config)


@pytest.mark.skipif(not ON_CPU, reason="needs a machine without a GPU")
@pytest.mark.parametrize("kind", ["fsdp", "deepspeed_zero2", "deepspeed_zero3"])
def test_what_needs_a_gpu_says_so(settings: Callable[..., Any], kind: str) -> None:
    config = settings(strategy=strategy(kind, devices=2), micro_batch_size=2)
    with pytest.raises(ConfigError, match=rf"strategy={kind}: needs CUDA devices"):
        check_hardware(config)


@pytest.mark.skipif(not ON_CPU, reason="needs a machine without a GPU")
def test_qlora_needs_a_gpu_and_says_so_before_anything_is_written(
    settings: Callable[..., Any],
) -> None:
    config = settings(tuning=TuningConfig(kind=Tuning.qlora))
    with pytest.raises(ConfigError, match=r"tuning=qlora: needs a GPU .*bitsandbytes"):
        run(config)
    assert not Path(config.output_dir).exists()


def test_bfloat16_is_refused_where_the_gpu_has_none(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Old GPU")
    with pytest.raises(ConfigError, match=r"Old GPU has no bfloat16\. Set precision=float32"):
        check_hardware(settings(precision=Precision.bfloat16))


def test_clipping_and_accumulation_reach_the_trainer(settings: Callable[..., Any]) -> None:
    config = settings(batch_size=8, micro_batch_size=2, clip_norm=1.0)
    trainer = build_trainer(config, 3, logger=False)
    assert (trainer.accumulate_grad_batches, trainer.gradient_clip_val) == (4, 1.0)
    assert build_trainer(settings(), 3, logger=False).gradient_clip_val is None


@pytest.mark.parametrize(("kind", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_is_told_every_default_that_changed(
    settings: Callable[..., Any], kind: str, stage: int
) -> None:
    config = settings(strategy=strategy(kind, devices=2, offload=True), micro_batch_size=2)
    found = deepspeed_config(config)
    assert found["zero_optimization"]["stage"] == stage
    assert found["train_micro_batch_size_per_gpu"] == 2
    assert found["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    # Lightning writes these two from the Trainer; it refuses or overwrites ours.
    assert not {"gradient_accumulation_steps", "gradient_clipping"} & set(found)
    assert ("stage3_max_live_parameters" in found["zero_optimization"]) == (stage == 3)


@pytest.mark.skipif(not ON_CPU, reason="gloo on the CPU")
def test_two_processes_train_as_one_does(
    tmp_path: Path, base_json: Path, synth_dir: Path, checkpoint: Path
) -> None:
    """Same micro-batches, so the same steps; gloo adds two numbers in one order only."""

    def train(name: str, *more: str) -> Path:
        settings = (
            f"model.path={checkpoint}", f"data.base={base_json}", f"data.synth={synth_dir}",
            "max_steps=3", "batch_size=4", "micro_batch_size=2", "precision=float32", "threads=1",
            "logging.tensorboard=false", f"cache_dir={tmp_path / 'cache'}",
            f"output_dir={tmp_path / name}",
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "imgdiff.train", *settings, *more],
            cwd=Path(__file__).parents[2],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path / name

    one = train("one")
    two = train("two", "strategy=ddp", "strategy.devices=2")
    assert (two / "checkpoint" / WEIGHTS).read_bytes() == (
        one / "checkpoint" / WEIGHTS
    ).read_bytes()
    samples = [json.loads((path / "run.json").read_text())["samples"] for path in (one, two)]
    assert samples[0] == samples[1] == {"base": 5, "synth": 7}

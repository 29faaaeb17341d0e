"""The trainer under the real DeepSpeed, as far as a CPU goes. Skipped without the package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sharded_runs import ENVIRONMENT, HERE, Trained, assert_alike

from imgdiff.train.config import (
    StrategyConfig,
    StrategyKind,
    TrainConfig,
    Tuning,
    TuningConfig,
)

if importlib.util.find_spec("deepspeed") is None:
    pytest.skip("the package deepspeed is not installed", allow_module_level=True)

pytestmark = pytest.mark.timeout(900)  # a start of DeepSpeed takes its time
ZERO = (StrategyKind.deepspeed_zero2, StrategyKind.deepspeed_zero3)


def sharded(kind: StrategyKind, *, offload: bool = False, **changes: Any) -> TrainConfig:
    strategy = StrategyConfig(kind=kind, offload=offload)
    return TrainConfig(strategy=strategy, batch_size=8, micro_batch_size=4, **changes)


@pytest.mark.parametrize("kind", ZERO)
@pytest.mark.parametrize("offload", [False, True])
def test_deepspeed_reads_our_settings_as_meant(kind: StrategyKind, offload: bool) -> None:
    code = f"""
from deepspeed.runtime.config import DeepSpeedConfig
from imgdiff.train.config import StrategyConfig, StrategyKind, TrainConfig
from imgdiff.train.strategies import deepspeed_config
strategy = StrategyConfig(kind=StrategyKind({kind.value!r}), offload={offload})
ours = deepspeed_config(TrainConfig(strategy=strategy, batch_size=8, micro_batch_size=4))
by_lightning = {{"gradient_accumulation_steps": 2, "gradient_clipping": 0.0}}
read = DeepSpeedConfig(ours | by_lightning)
print(read.zero_config.stage, read.gradient_clipping, read.grad_accum_dtype,
      read.communication_data_type, read.bfloat16_config.enabled, read.train_batch_size,
      read.zero_config.offload_optimizer is not None, read.zero_allow_untested_optimizer)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        cwd=HERE.parent, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stage = ZERO.index(kind) + 2
    expected = f"{stage} 0.0 fp32 torch.float32 True 8 {offload} True"
    assert done.stdout.splitlines()[-1] == expected


@pytest.mark.parametrize(("clip", "written"), [(None, 0.0), (1.0, 1.0)])
def test_lightning_writes_the_clipping(clip: float | None, written: float) -> None:
    """DeepSpeed 0.19 clips at 1.0 where the key is missing; LLaVA did not clip."""
    from lightning.pytorch.strategies import DeepSpeedStrategy

    from imgdiff.train.strategies import build_strategy

    class Module:
        class trainer:
            gradient_clip_val = clip
            accumulate_grad_batches = 2

    strategy = build_strategy(sharded(ZERO[0], clip_norm=clip))
    assert isinstance(strategy, DeepSpeedStrategy)
    assert "gradient_clipping" not in strategy.config
    strategy._lightning_module = Module()  # type: ignore[assignment]
    strategy._format_batch_size_and_grad_accum_config()
    assert strategy.config["gradient_clipping"] == written
    assert strategy.config["gradient_accumulation_steps"] == 2
    assert strategy.config["train_micro_batch_size_per_gpu"] == 4
    with strategy.model_sharded_context():  # transformers shards while it loads
        assert torch.nn.Linear(2, 2).weight.shape == (2, 2)


@pytest.mark.parametrize("train_projector", [False, True])
@pytest.mark.parametrize("tuning", [Tuning.full, Tuning.lora, Tuning.projector])
def test_no_group_of_parameters_is_empty(
    tuning: Tuning, train_projector: bool, checkpoint: Path
) -> None:
    """DeepSpeed removes empty groups, and the schedule then no longer fits (OpenRLHF #1225)."""
    from transformers import LlavaForConditionalGeneration

    from imgdiff.train.tuning import parameter_groups, prepare

    config = sharded(
        ZERO[0], projector_learning_rate=1e-5,
        tuning=TuningConfig(kind=tuning, rank=4, alpha=8, train_projector=train_projector),
    )  # fmt: skip
    model = prepare(LlavaForConditionalGeneration.from_pretrained(checkpoint), config.tuning)
    groups = parameter_groups(model, config)
    assert all(group["params"] for group in groups)
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    assert sum(len(group["params"]) for group in groups) == trained
    both = tuning is Tuning.full or (tuning is Tuning.lora and train_projector)
    assert len(groups) == (2 if both else 1)


@pytest.mark.parametrize(
    ("kind", "tuning"), [(kind, tuning) for kind in ZERO for tuning in (Tuning.full, Tuning.lora)]
)
def test_zero_ends_where_one_device_ends(
    kind: StrategyKind, tuning: Tuning, trained: Trained
) -> None:
    """Losses, clipping under accumulation, sharding at loading, and the gathered checkpoint.

    Ungathered, the adapters of ZeRO-3 would be empty (peft #1402).
    """
    losses, weights = trained("single", tuning=tuning.value, clip=0.5)
    sharded_losses, gathered = trained("zero", strategy=kind.value, tuning=tuning.value, clip=0.5)
    assert sharded_losses == pytest.approx(losses, rel=1e-4)
    assert_alike(gathered, weights, 1e-4)


@pytest.mark.parametrize("kind", ZERO)
def test_a_run_that_dies_goes_on_to_the_same_bytes(kind: StrategyKind, trained: Trained) -> None:
    whole = trained("whole", strategy=kind.value)
    broken = trained("broken", strategy=kind.value, die_after=4)
    assert broken[0] == whole[0]
    assert_alike(broken[1], whole[1], 0.0)


def test_two_processes_end_where_one_ends(trained: Trained) -> None:
    one = trained("one", strategy=ZERO[0].value)
    two = trained("two", strategy=ZERO[0].value, devices=2)
    assert two[0] == pytest.approx(one[0], rel=1e-4)
    assert_alike(two[1], one[1], 1e-4)

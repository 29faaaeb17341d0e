"""The settings: light, typed, and refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from imgdiff.core.errors import ConfigError
from imgdiff.launch import compose_typed, let_grow
from imgdiff.train.config import (
    AssemblyConfig,
    Attention,
    DataConfig,
    ModelConfig,
    StrategyConfig,
    TrainConfig,
    TuningConfig,
    register,
)
from imgdiff.train.source_config import SourceConfig


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrainConfig, {"max_steps": 0}, r"max_steps=0: must be at least 1"),
        (TrainConfig, {"batch_size": -1}, r"batch_size=-1"),
        (TrainConfig, {"learning_rate": 0.0}, r"learning_rate=0\.0: must be above 0"),
        (TrainConfig, {"learning_rate": float("nan")}, r"learning_rate=nan"),
        (TrainConfig, {"warmup_ratio": 1.0}, r"warmup_ratio=1\.0"),
        (TrainConfig, {"weight_decay": -0.1}, r"weight_decay=-0\.1"),
        (TrainConfig, {"seed": -1}, r"seed=-1"),
        (DataConfig, {"synth_share": 1.5}, r"data\.synth_share=1\.5: must lie in \[0, 1\]"),
        (DataConfig, {"base": None, "synth": None}, r"nothing to train on"),
        (DataConfig, {"world_samples": 0}, r"data\.world_samples=0"),
        (ModelConfig, {"max_tokens": 0}, r"model\.max_tokens=0"),
        (ModelConfig, {"path": " "}, r"model\.path is empty"),
        (AssemblyConfig, {"language": "v"}, r"model\.assembly names language only"),
        (TuningConfig, {"rank": 0}, r"tuning\.rank=0"),
        (TuningConfig, {"alpha": 0}, r"tuning\.alpha=0"),
        (TuningConfig, {"dropout": 1.0}, r"tuning\.dropout=1\.0"),
        (StrategyConfig, {"devices": 2}, r"strategy=single runs on one device, not 2 x 1"),
        (StrategyConfig, {"nodes": 0}, r"nodes at least 1"),
        (StrategyConfig, {"offload": True}, r"strategy\.offload=true needs a deepspeed"),
        (TrainConfig, {"micro_batch_size": 3}, r"micro_batch_size=3 does not divide batch_size=8"),
        (
            TrainConfig,
            {"padding_free": True, "model": ModelConfig(attention=Attention.eager)},
            r"model\.attention=eager cannot keep samples apart .*batching=plain, padding_free=True",
        ),
        (TrainConfig, {"save_every": 0}, r"save_every=0"),
        (TrainConfig, {"clip_norm": -1.0}, r"clip_norm=-1\.0: must be above 0"),
        (TrainConfig, {"epochs": 0.0}, r"epochs=0\.0"),
        (TrainConfig, {"workers": -1}, r"workers=-1"),
        (DataConfig, {"sources": {"base": SourceConfig(path="x")}}, r"data\.sources\.base: that"),
    ],
)
def test_a_bad_value_is_named(kind: type, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**values)


def test_the_yaml_composes_and_agrees_with_the_defaults() -> None:
    register()
    assert compose_typed("train", TrainConfig) == TrainConfig()
    changed = compose_typed("train", TrainConfig, ["data.synth=null", "max_steps=7"])
    assert (changed.data.synth, changed.data.share, changed.max_steps) == (None, None, 7)
    with pytest.raises(ConfigError, match="max_step"):
        compose_typed("train", TrainConfig, ["max_step=7"])


def test_help_needs_no_deep_learning() -> None:
    code = (
        "import sys, imgdiff.train.config, imgdiff.train.run, imgdiff.launch;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sources_are_named_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    given = [
        "data.sources.spot.path=a.json", "data.sources.spot.repeat=2", "data.sources.mine=b.json",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["command", "seed=3", *given])
    let_grow(["data.sources"])
    assert sys.argv[1:] == ["seed=3", *(f"++{argument}" for argument in given)]
    config = compose_typed("train", TrainConfig, sys.argv[1:])
    assert config.data.sources == {
        "spot": SourceConfig(path="a.json", repeat=2.0),
        "mine": SourceConfig(path="b.json"),
    }


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["a.repeat=2"], r"data\.sources\.a\.path is required and not set"),
        (["a.path=x", "a.repeat=zz"], r"data\.sources\.a\.repeat=zz: .*Float"),
        (["a.path=x", "a.cap=1.5"], r"data\.sources\.a\.cap=1\.5: .*Integer"),
        (["a.path=x", "a.pth=y"], r"unknown key data\.sources\.a\.pth. Did you mean .*path"),
        (["a=3"], r"data\.sources\.a=3: must be the path of a file, or its keys"),
        (["a=[x]"], r"data\.sources\.a=.*must be the path"),
        (["a.path=x", "a.repeat=-1"], r"source x: repeat=-1\.0"),
        (["base=x.json"], r"data\.sources\.base: that name belongs to data\.base"),
    ],
)
def test_wrong_sources_are_named_in_full(overrides: list[str], message: str) -> None:
    register()
    with pytest.raises(ConfigError, match=message):
        compose_typed("train", TrainConfig, [f"++data.sources.{item}" for item in overrides])

"""The settings: light, typed, and refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_llava import tiny_llava

from imgdiff.core.errors import ConfigError
from imgdiff.eval.config import EvalConfig, MmvpConfig, ModelConfig, register
from imgdiff.eval.run import run
from imgdiff.launch import compose_typed


def test_the_yaml_composes_and_agrees_with_the_defaults() -> None:
    register()
    assert compose_typed("eval", EvalConfig, ["benchmark=mmvp"]) == EvalConfig()
    changed = compose_typed("eval", EvalConfig, ["model.path=x", "benchmark.prompt=free"])
    assert (changed.model.path, changed.benchmark.prompt.value) == ("x", "free")
    with pytest.raises(ConfigError, match=r"benchmark=mmpv: no such option.*mmvp"):
        compose_typed("eval", EvalConfig, ["benchmark=mmpv"])


def test_bad_values_are_named() -> None:
    with pytest.raises(ConfigError, match=r"benchmark\.pairs=0"):
        MmvpConfig(pairs=0)
    with pytest.raises(ConfigError, match=r"model\.max_new_tokens=0"):
        ModelConfig(max_new_tokens=0)
    with pytest.raises(ConfigError, match=r"model\.path=gone.*python -m imgdiff\.train"):
        ModelConfig(path="gone").build()


def test_help_needs_no_deep_learning() -> None:
    code = (
        "import sys, imgdiff.eval.config, imgdiff.eval.run, imgdiff.launch;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_real_checkpoint_answers(tmp_path: Path) -> None:
    config = EvalConfig(
        output_dir=str(tmp_path / "out"),
        cache_dir=str(tmp_path / "cache"),
        benchmark=MmvpConfig(pairs=2),
        model=ModelConfig(path=str(tiny_llava(tmp_path)), max_new_tokens=2, batch_size=2),
    )
    scores = run(config)
    assert scores["n"] == 4
    assert scores["model"]["identity"].startswith("vlm:")

"""The settings: light, typed, and refused with a reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_llava import tiny_llava

from imgdiff.core.errors import ConfigError
from imgdiff.eval.config import (
    EditConfig,
    EvalConfig,
    MmvpConfig,
    ModelConfig,
    ReportConfig,
    SpotConfig,
    register,
)
from imgdiff.eval.run import run
from imgdiff.launch import compose_typed

BENCHMARKS = {"mmvp": MmvpConfig, "spot_the_diff": SpotConfig, "image_edit_request": EditConfig}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_yaml_composes_and_agrees_with_the_defaults(name: str) -> None:
    register()
    kind = BENCHMARKS[name]
    composed = compose_typed("eval", EvalConfig, [f"benchmark={name}"])
    assert composed == EvalConfig(benchmark=kind())


def test_settings_are_typed() -> None:
    register()
    changed = compose_typed("eval", EvalConfig, ["model.path=x", "benchmark.prompt=free"])
    assert (changed.model.path, changed.benchmark.prompt.value) == ("x", "free")
    with pytest.raises(ConfigError, match=r"benchmark=mmpv: no such option.*mmvp"):
        compose_typed("eval", EvalConfig, ["benchmark=mmpv"])
    with pytest.raises(ConfigError, match=r"benchmark\.protocol=best"):
        compose_typed("eval", EvalConfig, ["benchmark=spot_the_diff", "benchmark.protocol=best"])
    with pytest.raises(ConfigError, match=r"benchmark is required|benchmark=\?\?\?"):
        EvalConfig()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MmvpConfig(pairs=0), r"benchmark\.pairs=0"),
        (lambda: SpotConfig(pairs=0), r"benchmark\.pairs=0"),
        (lambda: SpotConfig(resamples=1), r"benchmark\.resamples=1"),
        (lambda: EditConfig(prompt=" "), r"benchmark\.prompt is empty"),
        (lambda: ModelConfig(max_new_tokens=0), r"model\.max_new_tokens=0"),
        (lambda: ModelConfig(path="gone").asked(), r"model\.path=gone.*python -m imgdiff\.train"),
        (
            lambda: ModelConfig(path="random:llava-hf/llava-v1.6-vicuna-13b-hf").asked(),
            r"model\.path=random:.* dry runs of `python -m imgdiff\.synth`",
        ),
        (lambda: EvalConfig(benchmark=MmvpConfig(), processes=0), "processes=0"),
        (lambda: EvalConfig(benchmark=SpotConfig(), seed=-1), "seed=-1: must be 0 or more"),
        (lambda: ReportConfig(image_px=-1), r"report\.image_px=-1"),
    ],
)
def test_bad_values_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", ["gone, (1)=x.json", "it's {a} [b].csv", "ünï \\ ${x}.json"])
def test_a_path_is_taken_as_it_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "test.json").write_text('[{"img_id": "1", "sentences": ["a"]}]')
    given = ["benchmark=spot_the_diff", f"benchmark.annotations={tmp_path / 'test.json'}"]
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.eval", *given, f"predictions={name}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"predictions={name}: no such file" in done.stderr


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
    assert scores["settings"]["answered_by"].startswith("vlm:")


def test_a_correction_is_offered_once() -> None:
    register()
    with pytest.raises(ConfigError, match=r"Did you mean benchmark\? Keys of"):
        compose_typed("eval", EvalConfig, ["bencmark.pairs=3"])

"""A run that was stopped anywhere goes on to the same bytes; a good point always remains."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgdiff.core.errors import ConfigError
from imgdiff.train import resume, steps
from imgdiff.train.config import Tuning, TuningConfig
from imgdiff.train.plan import Batching
from imgdiff.train.run import run

WEIGHTS = "model.safetensors"
STEPS = 6


class Stopped(RuntimeError):
    """Stands for a kill: nothing of the program runs after it."""


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Let the next run end right after it has written the row of that step."""
    original = steps.Metrics.append

    def arm(step: int | None) -> None:
        def append(self: Any, row: Any, rates: Any) -> None:
            original(self, row, rates)
            if row.number == step:
                raise Stopped

        monkeypatch.setattr(steps.Metrics, "append", append)

    return arm


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "metrics.csv").open() as file:
        kept = ("step", "loss", "loss_base", "loss_synth", "learning_rate", "useful_tokens", "seen")
        return [{name: row[name] for name in kept} for row in csv.DictReader(file)]


CASES = {
    "plain": {},
    "workers": {"workers": 1},
    "accumulation": {"micro_batch_size": 2},
    "packed": {"batching": Batching.pack, "micro_batch_size": 2},
    "epochs": {"max_steps": None, "epochs": 3.0, "data": {"synth_share": None}},
    "buckets": {"batching": Batching.length_bucket},
    "no padding": {"batching": Batching.modality, "padding_free": True},
}


@pytest.mark.parametrize("case", CASES)
def test_stopped_at_every_kind_of_place_it_ends_with_the_same_bytes(
    case: str, settings: Callable[..., Any], tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    def config(name: str) -> Any:
        values = {"max_steps": STEPS, "save_every": 2} | CASES[case]
        return settings(output_dir=str(tmp_path / name), **values)

    whole = run(config("whole"))
    for step in (3,) if case == "workers" else (1, 2, 3, 5):  # a worker takes seconds to start
        stop_at(step)
        with pytest.raises(Stopped):
            run(config("broken"))
    stop_at(None)
    broken = run(config("broken"))
    assert (broken / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert rows(broken.parent) == rows(whole.parent)
    assert not (broken.parent / "resume").exists()


def test_adapters_with_dropout_go_on_as_well(
    settings: Callable[..., Any], tmp_path: Path, stop_at: Callable[[int | None], None]
) -> None:
    tuning = TuningConfig(kind=Tuning.lora, rank=4, alpha=8, dropout=0.3)

    def config(name: str) -> Any:
        return settings(output_dir=str(tmp_path / name), tuning=tuning, max_steps=4, save_every=1)

    whole = run(config("whole"))
    stop_at(3)
    with pytest.raises(Stopped):
        run(config("broken"))
    stop_at(None)
    broken = run(config("broken"))
    name = "adapter_model.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_a_damaged_point_is_passed_over(
    settings: Callable[..., Any],
    tmp_path: Path,
    stop_at: Callable[[int | None], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = settings(max_steps=STEPS, save_every=1)
    stop_at(5)
    with pytest.raises(Stopped):
        run(config)
    output = Path(config.output_dir)
    points = sorted((output / "resume").iterdir())
    assert [point.name for point in points] == ["step-00000003.ckpt", "step-00000004.ckpt"]
    points[1].write_bytes(points[1].read_bytes()[:-100])
    (output / "resume" / ".step-00000005.ckpt.unfinished").write_bytes(b"half")
    assert resume.latest(output) == points[0]
    stop_at(None)
    capsys.readouterr()
    broken = run(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "damaged, not used" in said
    assert "continuing after step 3 of 6" in said
    whole = run(settings(max_steps=STEPS, output_dir=str(tmp_path / "whole")))
    assert (broken / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_points_hold_what_trains_and_nothing_else(
    settings: Callable[..., Any], stop_at: Callable[[int | None], None]
) -> None:
    import torch

    config = settings(max_steps=4, save_every=1, tuning=TuningConfig(kind=Tuning.projector))
    stop_at(2)
    with pytest.raises(Stopped):
        run(config)
    point = torch.load(resume.latest(Path(config.output_dir)), weights_only=True)
    assert len(point["state_dict"]) == 4
    assert all("multi_modal_projector" in name for name in point["state_dict"])


def test_changed_data_is_named(
    settings: Callable[..., Any], stop_at: Callable[[int | None], None], synth_dir: Path
) -> None:
    config = settings(max_steps=4, save_every=1)
    stop_at(2)
    with pytest.raises(Stopped):
        run(config)
    stop_at(None)
    file = synth_dir / "dataset" / "img_diff.json"
    file.write_text(file.read_text().replace("It is red", "It was red"))
    with pytest.raises(ConfigError, match=r"the file .*img_diff\.json has changed"):
        run(config)
    with pytest.raises(ConfigError, match=r"learning_rate=0\.0003 there, 0\.1 now"):
        run(settings(max_steps=4, save_every=1, learning_rate=0.1))

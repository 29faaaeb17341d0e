"""Whole runs at tiny size: they learn, repeat to the byte, and respect their folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

from imgdiff.core.errors import ConfigError
from imgdiff.train.config import Precision
from imgdiff.train.run import run

WEIGHTS = "model.safetensors"


def test_it_learns_four_samples_and_writes_a_checkpoint(
    settings: Callable[..., Any], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(max_steps=40, batch_size=4, learning_rate=1e-2, data={"synth": None})
    folder = run(config)
    record = json.loads((folder.parent / "run.json").read_text())
    assert record["finished"]
    assert record["samples"] == {"base": 160}
    assert record["losses"]["last"] < 0.5 < 4 < record["losses"]["first"]
    assert record["config"]["max_steps"] == 40
    assert "torch" in record["versions"]
    with (folder.parent / "metrics.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 40
    assert max(float(row["learning_rate"]) for row in rows) == pytest.approx(1e-2)
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    assert AutoProcessor.from_pretrained(folder).image_processor.do_pad
    before = load_file(checkpoint / WEIGHTS)
    for name, value in model.model.vision_tower.state_dict().items():
        (key,) = [k for k in before if k.endswith(f"vision_tower.{name}")]
        assert torch.equal(before[key], value)
    assert "loss, last steps" in capsys.readouterr().out


@pytest.mark.parametrize("precision", list(Precision))
def test_the_same_command_twice_gives_the_same_bytes(
    settings: Callable[..., Any], tmp_path: Path, precision: Precision
) -> None:
    folders = [
        run(settings(precision=precision, output_dir=str(tmp_path / name))) for name in ("a", "b")
    ]
    files = sorted(file.name for file in folders[0].iterdir())
    assert {WEIGHTS, "config.json", "tokenizer.json", "processor_config.json"} <= set(files)
    assert all((folders[0] / n).read_bytes() == (folders[1] / n).read_bytes() for n in files)
    other = run(settings(precision=precision, output_dir=str(tmp_path / "c"), seed=1))
    assert (other / WEIGHTS).read_bytes() != (folders[0] / WEIGHTS).read_bytes()


def test_both_sources_are_seen_in_their_shares(settings: Callable[..., Any]) -> None:
    folder = run(settings(data={"synth_share": 0.25}))
    record = json.loads((folder.parent / "run.json").read_text())
    assert record["samples"] == {"base": 9, "synth": 3}


def test_a_finished_run_is_kept_and_another_one_refused(
    settings: Callable[..., Any], capsys: pytest.CaptureFixture[str], synth_dir: Path
) -> None:
    folder = run(settings(max_steps=1))
    written = (folder / WEIGHTS).stat().st_mtime_ns
    capsys.readouterr()
    assert run(settings(max_steps=1, threads=2)) == folder  # threads do not name a run
    assert "finished already" in " ".join(capsys.readouterr().out.split())
    assert (folder / WEIGHTS).stat().st_mtime_ns == written
    with pytest.raises(ConfigError, match=r"output_dir=.*another training run.*overwrite=true"):
        run(settings(max_steps=2))
    json_file = synth_dir / "dataset" / "img_diff.json"
    json_file.write_text(json_file.read_text().replace("It is red", "It was red"))
    with pytest.raises(ConfigError, match="other settings, data or base model"):
        run(settings(max_steps=1))
    run(settings(max_steps=1, overwrite=True))
    assert (folder / WEIGHTS).stat().st_mtime_ns != written


def test_an_unfinished_run_of_the_same_settings_starts_again(settings: Callable[..., Any]) -> None:
    folder = run(settings(max_steps=1))
    record = json.loads((folder.parent / "run.json").read_text())
    (folder.parent / "run.json").write_text(json.dumps(record | {"finished": False}))
    expected = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    assert run(settings(max_steps=1)) == folder
    assert (folder / WEIGHTS).read_bytes() == expected


def test_nothing_is_written_where_an_input_is_missing(settings: Callable[..., Any]) -> None:
    config = settings(data={"synth": "nowhere"})
    with pytest.raises(ConfigError, match=r"data\.synth=nowhere"):
        run(config)
    assert not Path(config.output_dir).exists()

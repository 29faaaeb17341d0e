"""A tiny checkpoint and tiny instruction data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sharded_runs import Trained
from tiny_llava import tiny_llava

COLOURS = ("red", "green", "blue", "yellow")


def rows_of(prefix: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{prefix}-{index}",
            "image": f"images/{index}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat color is it?"},
                {"from": "gpt", "value": f"It is {colour}."},
            ],
            "size": size,
        }
        for index, colour in enumerate(COLOURS)
    ]


def write_rows(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for row, colour in zip(rows, COLOURS, strict=True):
        Image.new("RGB", row.pop("size"), colour).save(folder / row["image"])
    (folder / name).write_text(json.dumps(rows))
    return folder / name


@pytest.fixture
def base_json(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "base", "base.json", rows_of("base", (32, 32)))


@pytest.fixture
def synth_dir(tmp_path: Path) -> Path:
    write_rows(tmp_path / "synth" / "dataset", "img_diff.json", rows_of("pair", (84, 32)))
    return tmp_path / "synth"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_llava(tmp_path)


@pytest.fixture
def settings(
    tmp_path: Path, base_json: Path, synth_dir: Path, checkpoint: Path
) -> Callable[..., Any]:
    """A TrainConfig of the tiny things; keywords change it."""
    from imgdiff.train.config import DataConfig, ModelConfig, Precision, TrainConfig

    def build(**changes: Any) -> TrainConfig:
        data = {"base": str(base_json), "synth": str(synth_dir), "synth_share": 0.5}
        values: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "cache_dir": str(tmp_path / "cache"),
            "model": ModelConfig(path=str(checkpoint)),
            "data": DataConfig(**(data | changes.pop("data", {}))),
            "max_steps": 3,
            "batch_size": 4,
            "precision": Precision.float32,
            "threads": 1,
        }
        return TrainConfig(**(values | changes))

    return build


@pytest.fixture
def trained(tmp_path: Path, checkpoint: Path, base_json: Path) -> Trained:
    """Starts runs under strategies that shard."""
    return Trained(tmp_path, checkpoint, base_json)

"""A benchmark's split as training data: one row per sentence, both images, the same question."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval.config import (
    SPOT_PROMPT,
    EditConfig,
    EditSplit,
    MmvpConfig,
    SpotConfig,
    SpotSplit,
)
from imgdiff.eval.instructions.write import InstructionsConfig, register, run
from imgdiff.launch import compose_typed


def _write(tmp_path: Path, benchmark: SpotConfig | EditConfig) -> list[dict[str, object]]:
    config = InstructionsConfig(
        benchmark=benchmark, output=str(tmp_path / "rows.json"), cache_dir=str(tmp_path / "cache")
    )
    rows = json.loads(run(config).read_text("utf-8"))
    assert isinstance(rows, list)
    return rows


def test_every_sentence_is_a_row_about_both_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"img_id": "7", "sentences": ["a car  left", ""]},
        {"img_id": "7", "sentences": ["a man came"]},
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    for name in ("7.png", "7_2.png"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).touch()
    written = _write(tmp_path, SpotConfig(root=str(tmp_path), split=SpotSplit.train))
    assert written == [
        {
            "id": f"7-{number}",
            "image": ["7.png", "7_2.png"],
            "conversations": [
                {"from": "human", "value": f"<image>\n{SPOT_PROMPT}"},
                {"from": "gpt", "value": text},
            ],
        }
        for number, text in ((0, "a car left"), (2, "a man came"))
    ]
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "1 empty sentences left out" in shown
    assert "experiment=train/spot_the_diff" in shown
    (tmp_path / "images" / "7_2.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images are missing, the first is .*7_2\.png"):
        _write(tmp_path, SpotConfig(root=str(tmp_path), split=SpotSplit.train))


def test_the_command_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / 'my "set", (1)=x'
    folder.mkdir()
    _write(folder, EditConfig(pairs=2))
    command = capsys.readouterr().out.splitlines()[-1]
    parsed = OverridesParser.create().parse_overrides(shlex.split(command)[3:])
    values = {item.key_or_group: item.value() for item in parsed}
    assert values["data.sources.image_edit_request.path"] == str(folder / "rows.json")
    assert Path(str(values["data.sources.image_edit_request.images"])).is_dir()


def test_the_procedural_train_split_has_one_row_per_edit(tmp_path: Path) -> None:
    rows = _write(tmp_path, EditConfig(pairs=6, split=EditSplit.train))
    assert len(rows) == 6
    assert all(isinstance(row["image"], list) and len(row["image"]) == 2 for row in rows)


def test_settings() -> None:
    register()
    composed = compose_typed("instructions", InstructionsConfig)
    assert composed == InstructionsConfig(benchmark=SpotConfig(split=SpotSplit.train))
    edit = compose_typed("instructions", InstructionsConfig, ["benchmark=image_edit_request"])
    assert edit.benchmark == EditConfig(split=EditSplit.train)
    with pytest.raises(ConfigError, match="benchmark=mmvp: has no captions"):
        InstructionsConfig(benchmark=MmvpConfig())


@pytest.mark.parametrize("benchmark", [SpotConfig(pairs=2), EditConfig(pairs=2)])
def test_the_test_split_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], benchmark: SpotConfig | EditConfig
) -> None:
    _write(tmp_path, benchmark)
    assert "this is the test split" in capsys.readouterr().out

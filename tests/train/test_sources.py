"""Reading LLaVA JSON with nasty rows, and the sampling plan."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.train.config import DataConfig
from imgdiff.train.sources import open_sources, plan_samples, read_llava_json

ASK = {"from": "human", "value": "<image>\nWhat?"}
SAY = {"from": "gpt", "value": "That."}


def _read(tmp_path: Path, row: Any) -> Any:
    (tmp_path / "a b").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "a b" / "ü.png")
    path = tmp_path / "data.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    return read_llava_json("base", path).samples[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (None, "sample 0: NoneType, must be an object"),
        ({}, "no usable 'conversations'"),
        ({"conversations": "x"}, "no usable 'conversations'"),
        ({"conversations": []}, "do not alternate"),
        ({"conversations": [ASK]}, "do not alternate"),
        ({"conversations": [SAY]}, "do not alternate"),
        ({"conversations": [ASK, ASK]}, "do not alternate"),
        ({"conversations": [ASK, SAY, SAY]}, "do not alternate"),
        ({"conversations": [ASK, {"from": "robot", "value": "x"}]}, "'robot'"),
        ({"conversations": [ASK, {"from": "gpt"}]}, "no usable"),
        ({"conversations": [ASK, {"from": "gpt", "value": 3}]}, "no usable"),
        ({"conversations": [ASK, {"from": "gpt", "value": " \n"}], "image": "a b/ü.png"}, "empty"),
        ({"conversations": [ASK, SAY]}, "no image"),
        ({"conversations": [ASK, SAY, ASK, SAY], "image": "a b/ü.png"}, "2 messages show"),
        ({"conversations": [{"from": "human", "value": "?"}, SAY], "image": "a b/ü.png"}, "0 mess"),
        ({"conversations": [ASK, SAY], "image": "none.png"}, "is not in .*Restore it"),
        ({"conversations": [ASK, SAY], "image": "../data.json"}, "leaves the data root"),
        ({"conversations": [ASK, SAY], "image": "/etc/hostname"}, "leaves the data root"),
        ({"conversations": [ASK, SAY], "image": ["a", "b"]}, "must be one path"),
        ({"conversations": [ASK, SAY], "image": ""}, "must be one path"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        _read(tmp_path, row)
    assert "data.json: sample 0" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"a": 1}'])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(DataError, match=r"data\.json"):
        read_llava_json("base", tmp_path / "data.json")


def test_good_rows_of_every_kind(tmp_path: Path) -> None:
    sample = _read(tmp_path, {"id": 7, "image": "a b/ü.png", "conversations": [ASK, SAY]})
    assert (sample.id, sample.turns) == ("7", (("<image>\nWhat?", "That."),))
    assert sample.image == (tmp_path / "a b" / "ü.png").resolve()
    plain = [{"from": "user", "value": "Hi"}, {"from": "assistant", "value": "Hello"}]
    assert _read(tmp_path, {"conversations": plain}).image is None
    opened = _read(tmp_path, {"conversations": [SAY, *plain]})
    assert opened.turns == (("Hi", "Hello"),)
    two = [*plain, {"from": "human", "value": "And?"}, {"from": "gpt", "value": ""}]
    assert len(_read(tmp_path, {"conversations": two}).turns) == 2


def test_missing_inputs_name_the_setting_and_the_remedy(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"data\.synth=.*gone.*imgdiff\.synth.*data\.synth=null"):
        open_sources(DataConfig(base=None, synth=gone), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.base=.*gone.*data\.base=world"):
        open_sources(DataConfig(base=gone, synth=None), tmp_path)


def test_sources_follow_the_share(tmp_path: Path, base_json: Path, synth_dir: Path) -> None:
    def names(**data: Any) -> list[str]:
        settings = {"base": str(base_json), "synth": str(synth_dir)} | data
        return [source.name for source in open_sources(DataConfig(**settings), tmp_path)]

    assert names() == ["base", "synth"]
    assert names(synth=None) == ["base"]
    assert names(base=None) == names(synth_share=1.0) == ["synth"]
    assert names(synth_share=0.0) == ["base"]
    world = open_sources(DataConfig(synth=None, world_samples=3), tmp_path)[0]
    assert len(world.samples) == 3


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.5, 0.7, 0.999, 1.0])
def test_every_stretch_of_the_plan_has_the_share(share: float) -> None:
    plan = plan_samples([50, 7], share, 240, 3)
    marks = [source for source, _ in plan]
    for size in (10, 40, 240):
        assert all(
            abs(sum(marks[start : start + size]) - share * size) <= 1
            for start in range(0, 240 - size + 1, size)
        )
    assert sum(marks) == round(share * 240)


def test_an_epoch_shows_each_sample_once_and_epochs_differ() -> None:
    orders = [index for _, index in plan_samples([9], 1.0, 27, 0)]
    epochs = [orders[start : start + 9] for start in (0, 9, 18)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_plan_depends_on_the_seed_alone() -> None:
    assert plan_samples([9, 5], 0.4, 30, 1) == plan_samples([9, 5], 0.4, 30, 1)
    assert plan_samples([9, 5], 0.4, 30, 1) != plan_samples([9, 5], 0.4, 30, 2)
    assert plan_samples([9, 5], 0.4, 30, 1)[:20] == plan_samples([9, 5], 0.4, 20, 1)
    base = [item for item in plan_samples([9, 5], 0.4, 30, 1) if item[0] == 0]
    assert base == plan_samples([9], 0.0, 18, 1)  # the same base samples with and without synth
    assert Counter(source for source, _ in base) == {0: 18}

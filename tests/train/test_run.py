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

from imgdiff.core.errors import BackendError, ConfigError, DataError, StoreError
from imgdiff.train.config import AssemblyConfig, ModelConfig, Precision
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
    with pytest.raises(ConfigError, match=r"img_diff\.json has changed"):
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


def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    settings: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    config_file = checkpoint / "config.json"
    whole = json.loads(config_file.read_text())
    cases = {
        r"model_type='bert'.* needed is a LLaVA-1\.5 .* or an InternVL2": whole
        | {"model_type": "bert"},
        r"format of the LLaVA repository.*imgdiff\.train\.export": {
            "model_type": "llava",
            "mm_vision_tower": "x",
        },
    }
    config = settings()
    for message, changed in cases.items():
        config_file.write_text(json.dumps(changed))
        with pytest.raises(BackendError, match=message):
            run(config)
    config_file.write_text(json.dumps(whole))
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(BackendError, match=r"holds adapters, not a model\. Merge them first"):
        run(config)
    assert not Path(config.output_dir).exists()


def test_random_weights_are_not_trained_from(settings: Callable[..., Any]) -> None:
    name = "random:llava-hf/llava-v1.6-vicuna-13b-hf"
    assembly = AssemblyConfig(language="random:lmsys/vicuna-13b-v1.5", vision="x", projector="y")
    for model, key in (
        (ModelConfig(path=name), r"model\.path"),
        (ModelConfig(assembly=assembly), r"model\.assembly\.language"),
    ):
        config = settings(model=model)
        with pytest.raises(ConfigError, match=rf"{key}=random:.*Name a trained checkpoint"):
            run(config)
        assert not Path(config.output_dir).exists()


def test_a_folder_that_cannot_be_written_is_named(
    settings: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/run.*could not be written"):
        run(settings(output_dir=str(tmp_path / "file" / "run")))


def test_a_long_conversation_is_cut_and_one_without_an_answer_left_is_refused(
    settings: Callable[..., Any], base_json: Path
) -> None:
    rows = json.loads(base_json.read_text())
    rows[0]["conversations"][0]["value"] = "<image>\n" + "What color is it? " * 100
    base_json.write_text(json.dumps(rows))

    short = ModelConfig(path=settings().model.path, max_tokens=200)
    with pytest.raises(DataError, match=r"base\.json: sample 0 .*base-0"):
        run(settings(model=short, data={"synth": None}))
    from imgdiff.train.source_config import OnDefect, RowRules

    skipping = RowRules(defects=OnDefect.skip)
    folder = run(settings(model=short, max_steps=2, data={"synth": None, "rules": skipping}))
    assert (folder / WEIGHTS).is_file()


def test_an_internvl2_trains_from_its_original_checkpoint(
    settings: Callable[..., Any], tmp_path: Path
) -> None:
    from internvl2_toy import internvl2_toy
    from transformers import InternVLForConditionalGeneration

    from imgdiff.backends.internvl2_reader import InternVl2Reader

    original = internvl2_toy(tmp_path, "internlm2")
    folder = run(
        settings(
            model=ModelConfig(path=str(original), max_tiles=2, max_tokens=4096),
            max_steps=30,
            learning_rate=1e-2,
            data={"synth_share": None},
        )
    )
    record = json.loads((folder.parent / "run.json").read_text())
    assert record["losses"]["last"] < 0.7 * record["losses"]["first"]
    model = InternVLForConditionalGeneration.from_pretrained(folder)
    assert not model.config.tie_word_embeddings
    assert InternVl2Reader(folder, 2).identity == InternVl2Reader(original, 2).identity


@pytest.mark.parametrize("family", ["llava", "internvl"])
def test_without_padding_the_losses_and_samples_are_the_same(
    settings: Callable[..., Any], tmp_path: Path, family: str
) -> None:
    """Text alone and pairs of several lengths; with activations recomputed, for both families."""
    from internvl2_toy import internvl2_toy

    long = json.loads((tmp_path / "base" / "base.json").read_text())
    for number, row in enumerate(long):
        row["conversations"][1]["value"] = "It is red. " * (5 * number + 1)
    long[0].pop("image")
    long[0]["conversations"][0]["value"] = "What color is it?"
    (tmp_path / "base" / "base.json").write_text(json.dumps(long))
    where = settings().model.path if family == "llava" else str(internvl2_toy(tmp_path, "qwen2"))

    def curve(padding_free: bool) -> list[tuple[float, str]]:
        folder = run(
            settings(
                model=ModelConfig(path=where, max_tiles=2, max_tokens=4096, recompute=True),
                output_dir=str(tmp_path / str(padding_free)),
                padding_free=padding_free,
                max_steps=6,
                learning_rate=1e-2,
            )
        )
        with (folder.parent / "metrics.csv").open() as handle:
            rows = list(csv.DictReader(handle))
        assert {float(row["padding"]) > 0 for row in rows} == {not padding_free}
        return [(float(row["loss"]), row["seen"]) for row in rows]

    padded, free = curve(False), curve(True)
    assert [seen for _, seen in padded] == [seen for _, seen in free]
    assert len({seen for _, seen in padded}) == 6
    assert [loss for loss, _ in free] == pytest.approx([loss for loss, _ in padded], rel=1e-5)

"""Checkpoints in other formats: the same model, opened by plain transformers; refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from internvl2_toy import internvl2_toy
from safetensors.torch import load_file, save_file
from small_vicuna import write_clip
from transformers import (
    AutoModelForImageTextToText,
    InternVLForConditionalGeneration,
    LlavaForConditionalGeneration,
)

from imgdiff.backends.adapters import attached, find_adapters
from imgdiff.backends.chat_templates import VICUNA_V1
from imgdiff.backends.configs import Dtype
from imgdiff.backends.internvl2_reader import InternVl2Reader
from imgdiff.backends.internvl2_weights import load
from imgdiff.backends.readers import LlavaReader
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.launch import compose_typed
from imgdiff.train.config import ModelConfig, Tuning, TuningConfig
from imgdiff.train.export import merging, writing
from imgdiff.train.export.config import ExportConfig, Format, register
from imgdiff.train.export.run import run
from imgdiff.train.run import run as train

LORA = TuningConfig(kind=Tuning.lora, rank=4, alpha=32, dropout=0.0)


@pytest.fixture
def lora_run(settings: Callable[..., Any]) -> Path:
    """A LoRA checkpoint whose adapters have learned something."""
    return train(settings(tuning=LORA, learning_rate=1e-2))


@pytest.fixture
def internvl_lora(settings: Callable[..., Any], tmp_path: Path) -> Path:
    model = ModelConfig(path=str(internvl2_toy(tmp_path, "internlm2")), max_tiles=2)
    return train(settings(model=model, tuning=LORA, learning_rate=1e-2))


@pytest.fixture
def full_run(settings: Callable[..., Any]) -> Path:
    return train(settings(learning_rate=1e-2))


def logits_of(model: Any, reader: Any) -> torch.Tensor:
    return merging.probe_logits(model.eval(), reader)


def opened(folder: Path) -> Any:
    model, info = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model


def test_merged_adapters_are_a_plain_model_with_the_same_logits(
    lora_run: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(ExportConfig(checkpoint=str(lora_run), output_dir=str(tmp_path / "out")))
    reader = LlavaReader(folder, VICUNA_V1)
    base = LlavaForConditionalGeneration.from_pretrained(checkpoint)
    untouched = logits_of(base, reader)
    before = logits_of(attached(base, find_adapters("checkpoint", "x", lora_run)), reader)
    after = logits_of(opened(folder), reader)
    assert (after - before).abs().max() <= 1e-5
    assert (after - untouched).abs().max() > 0.1
    assert not {"adapter_config.json", "imgdiff_base.json"} & {f.name for f in folder.iterdir()}
    assert "logits moved by merging" in capsys.readouterr().out


def test_a_full_checkpoint_is_written_as_it_is(full_run: Path, tmp_path: Path) -> None:
    folder = run(ExportConfig(checkpoint=str(full_run), output_dir=str(tmp_path / "out")))
    before, after = (load_file(at / "model.safetensors") for at in (full_run, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    half = tmp_path / "half"
    run(ExportConfig(checkpoint=str(full_run), output_dir=str(half), dtype=Dtype.bfloat16))
    assert {v.dtype for v in load_file(half / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((half / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("source", ["lora_run", "full_run"])
def test_to_llava_s_own_format_and_back(
    source: str, tmp_path: Path, request: pytest.FixtureRequest, checkpoint: Path
) -> None:
    trained = request.getfixturevalue(source)
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint)
    clip = tmp_path / "clip"
    model.model.vision_tower.save_pretrained(clip)
    original, back, plain = (tmp_path / name for name in ("llava-out", "back", "plain"))
    run(
        ExportConfig(
            checkpoint=str(trained),
            format=Format.llava,
            output_dir=str(original),
            vision_tower=str(clip),
        )
    )
    config = json.loads((original / "config.json").read_text())
    assert (config["mm_vision_tower"], config["model_type"]) == (str(clip), "llava")
    run(ExportConfig(checkpoint=str(original), output_dir=str(back), vision_tower=str(clip)))
    run(ExportConfig(checkpoint=str(trained), output_dir=str(plain)))
    readers = [LlavaReader(at, VICUNA_V1) for at in (plain, back)]  # <image> has another id
    words = readers[0].vocabulary
    wanted, found = (
        logits_of(opened(at), reader)[:, :words]
        for at, reader in zip((plain, back), readers, strict=True)
    )
    assert readers[1].vocabulary == words
    assert torch.equal(wanted, found)


def test_adapters_of_their_own_in_llava_s_form(lora_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llava-lora"
    config = ExportConfig(
        checkpoint=str(lora_run),
        format=Format.llava,
        output_dir=str(folder),
        vision_tower="some/clip",
        merge=False,
    )
    run(config)
    names = {file.name for file in folder.iterdir()}
    assert {"adapter_model.safetensors", "non_lora_trainables.bin", "config.json"} <= names
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 4


def test_internvl2_adapters_to_both_formats_and_back(internvl_lora: Path, tmp_path: Path) -> None:
    plain, original, back = (tmp_path / name for name in ("plain", "original", "back"))
    run(ExportConfig(checkpoint=str(internvl_lora), output_dir=str(plain)))
    run(
        ExportConfig(
            checkpoint=str(internvl_lora), format=Format.internvl2, output_dir=str(original)
        )
    )
    assert (original / "modeling_internvl_chat.py").is_file()
    run(ExportConfig(checkpoint=str(original), output_dir=str(back)))
    reader = InternVl2Reader(back, 1)
    adapters = find_adapters("checkpoint", "x", internvl_lora)
    before = logits_of(attached(load(adapters.base), adapters), reader)
    untouched = logits_of(load(adapters.base), reader)
    for folder in (plain, back):
        after = logits_of(opened(folder), reader)
        assert (after - before).abs().max() <= 1e-5
        assert (after - untouched).abs().max() > 0.01
    again = tmp_path / "again"
    config = ExportConfig(
        checkpoint=str(plain),
        format=Format.internvl2,
        output_dir=str(again),
        base=str(adapters.base),
    )
    run(config)
    files = (original, again)
    first, second = (load_file(next(at.glob("*.safetensors"))) for at in files)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert isinstance(opened(plain), InternVLForConditionalGeneration)


def test_a_merge_that_moves_the_logits_is_refused(
    lora_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(model: Any, adapters: Any) -> Any:
        for parameter in model.parameters():
            parameter.data *= 0.5
        return model.merge_and_unload()

    monkeypatch.setattr(merging, "unloaded", half)
    out = tmp_path / "out"
    with pytest.raises(BackendError, match=r"moves the logits of a probe.*Nothing was written"):
        run(ExportConfig(checkpoint=str(lora_run), output_dir=str(out)))
    assert not out.exists()


def test_broken_adapters_are_refused(lora_run: Path, tmp_path: Path) -> None:
    file = lora_run / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    config = ExportConfig(checkpoint=str(lora_run), output_dir=str(tmp_path / "out"))
    save_file({k: v for k, v in weights.items() if k != name}, file)
    with pytest.raises(BackendError, match="1 of its weights do not fit"):
        run(config)
    save_file(weights | {name: weights[name] * float("nan")}, file)
    with pytest.raises(BackendError, match="cannot be merged"):
        run(config)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(BackendError, match="its adapters cannot be read"):
        run(config)


@pytest.fixture
def never_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("a weight was read before the refusal")

    monkeypatch.setattr(writing, "_load", loaded)
    monkeypatch.setattr(writing, "read_llava", loaded)


@pytest.mark.usefixtures("never_loads")
def test_adapters_need_the_very_base(lora_run: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    config = ExportConfig(checkpoint=str(lora_run), output_dir=out)
    moved = checkpoint.rename(tmp_path / "moved")
    with pytest.raises(
        BackendError, match=r"holds adapters on .*llava.*not on this|of which no we"
    ):
        run(config)
    config.base = str(moved)
    with pytest.raises(AssertionError, match="a weight was read"):
        run(config)  # found where base= says
    other = shutil.copytree(moved, tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    config.base = str(other)
    with pytest.raises(BackendError, match=r"identity.*Give the very folder"):
        run(config)
    (lora_run / "non_lora_trainables.bin").touch()
    with pytest.raises(BackendError, match=r"LoRA run of the LLaVA repository.*merge_lora"):
        run(config)


@pytest.mark.usefixtures("never_loads")
def test_wrong_settings_are_refused_before_weights(checkpoint: Path, tmp_path: Path) -> None:
    toy = internvl2_toy(tmp_path, "qwen2")
    out = str(tmp_path / "out")
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").touch()

    def refused(match: str, **changes: Any) -> None:
        with pytest.raises((ConfigError, BackendError), match=match):
            run(ExportConfig(**({"checkpoint": str(checkpoint), "output_dir": out} | changes)))

    refused(
        r"format=internvl2: .*is a LLaVA-1.5 .*format=hf or format=llava", format=Format.internvl2
    )
    refused(r"format=llava: .*an InternVL2 as released", format=Format.llava, checkpoint=str(toy))
    refused(r"format=internvl2: .*an InternVL2 as", format=Format.internvl2, checkpoint=str(toy))
    refused(r"output_dir=.*is not empty", output_dir=str(full))
    refused(r"checkpoint=nowhere", checkpoint="nowhere")
    refused(r"merge=false: .*whole model", merge=False, format=Format.llava)
    refused(r"merge=false: .*format=llava, not hf", merge=False)
    refused(r"base=x: .*needs no base", base="x")
    refused(r"vision_tower=x: not used", vision_tower="x")
    refused(r"format=llava needs vision_tower=NAME", format=Format.llava)
    refused(r"checkpoint is empty", checkpoint=" ")


@pytest.mark.usefixtures("never_loads")
def test_what_an_original_folder_needs(full_run: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "clip", whole=False)
    original = tmp_path / "original"
    original.mkdir()
    (original / "model.safetensors").touch()
    fields = {"model_type": "llava", "mm_vision_tower": "openai/clip-vit-large-patch14-336"}
    (original / "config.json").write_text(json.dumps(fields))
    config = ExportConfig(checkpoint=str(original), output_dir=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match=r"needs vision_tower=FOLDER.*openai/clip-vit-large"):
        run(config)
    config.vision_tower = "nowhere/at-all"
    with pytest.raises(BackendError, match="vision_tower=nowhere/at-all"):
        run(config)


def test_the_authors_format_needs_their_folder(
    internvl_lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tmp_path / "plain"
    run(ExportConfig(checkpoint=str(internvl_lora), output_dir=str(plain)))
    monkeypatch.setattr(writing, "_load", lambda *_: pytest.fail("a weight was read"))
    config = ExportConfig(
        checkpoint=str(plain), format=Format.internvl2, output_dir=str(tmp_path / "out")
    )
    with pytest.raises(ConfigError, match=r"format=internvl2 needs base=FOLDER"):
        run(config)
    config.base = str(plain)
    with pytest.raises(BackendError, match=r"base=.*needed is an InternVL2 as released"):
        run(config)
    stored = json.loads((plain / "config.json").read_text())
    stored["imgdiff"] = {"template": stored["imgdiff"]["template"]}
    (plain / "config.json").write_text(json.dumps(stored))
    with pytest.raises(BackendError, match=r"does not remember its original config"):
        run(config)


def test_the_yaml_composes_and_agrees_with_the_defaults() -> None:
    register()
    assert compose_typed("export", ExportConfig) == ExportConfig()
    with pytest.raises(ConfigError, match=r"unknown key formt\. Did you mean format"):
        compose_typed("export", ExportConfig, ["formt=hf"])

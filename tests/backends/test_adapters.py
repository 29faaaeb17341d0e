"""Adapter folders: found with their base, and asked as the merged model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from internvl2_toy import internvl2_toy
from peft import LoraConfig, get_peft_model
from PIL import Image
from tiny_llava import tiny_llava
from transformers import LlavaForConditionalGeneration

from imgdiff.backends.adapters import attached, find_adapters, holds_adapters, merged
from imgdiff.backends.checkpoints import content_identity
from imgdiff.backends.configs import VlmConfig
from imgdiff.backends.internvl2_weights import load
from imgdiff.backends.loading import rounded
from imgdiff.backends.protocols import Chat
from imgdiff.core.errors import BackendError

TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.\w+_proj)"


def opened(base: Path) -> Any:
    if "internvl2" in base.name:
        return load(base, torch.float32)
    return LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)


def write_adapters(base: Path, folder: Path) -> Path:
    """A folder as the trainer writes it, with adapters and projector moved from their start."""
    settings = LoraConfig(
        r=4, lora_alpha=8, target_modules=TARGETS, modules_to_save=["multi_modal_projector"]
    )
    wrapped = get_peft_model(opened(base), settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    wrapped.save_pretrained(folder)
    named = {"base": str(base), "identity": content_identity(base)}
    (folder / "imgdiff_base.json").write_text(json.dumps(named))
    return folder


@pytest.fixture(scope="module", params=["llava", "internvl2"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Base and adapters."""
    parent = tmp_path_factory.mktemp(request.param)
    base = tiny_llava(parent) if request.param == "llava" else internvl2_toy(parent, "internlm2")
    return base, write_adapters(base, parent / "adapters")


def asking(folder: Path) -> Chat:
    return VlmConfig(model=str(folder), max_new_tokens=6, batch_size=2).build()


def pictures() -> list[Image.Image | None]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(3)]


def test_adapters_answer_as_the_merged_model(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = pair
    plain = tmp_path / base.name
    found = find_adapters("model.path", "x", folder)
    merged(opened(base), found).save_pretrained(plain)
    for file in base.iterdir():
        if file.suffix != ".safetensors" and not (plain / file.name).exists():
            (plain / file.name).write_bytes(file.read_bytes())
    if "internvl2" in base.name:
        from imgdiff.backends.internvl2_tokenizer import open_tokenizer

        open_tokenizer(base).save_pretrained(plain)
    questions = ["What is it?", "Is there a cat?", "What is different?"]
    with asking(folder) as adapted, asking(plain) as whole, asking(base) as before:
        answers = adapted.chat(pictures(), questions)
        assert answers == whole.chat(pictures(), questions)
        assert answers != before.chat(pictures(), questions)


def test_merging_keeps_the_outputs(pair: tuple[Path, Path]) -> None:
    base, folder = pair
    found = find_adapters("model.path", "x", folder)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        before = attached(opened(base), found)(input_ids=ids).logits
        after = merged(opened(base), found)(input_ids=ids).logits
        untouched = opened(base)(input_ids=ids).logits
    assert (before - after).abs().max() <= 1e-5
    assert (before - untouched).abs().max() > 0.01


def test_rounding_leaves_the_rotary_frequencies(pair: tuple[Path, Path]) -> None:
    model = rounded(opened(pair[0]), torch.bfloat16)
    assert {value.dtype for value in model.parameters()} == {torch.bfloat16}
    rotary = [b for name, b in model.named_buffers() if name.endswith("inv_freq")]
    assert rotary
    assert all(value.dtype is torch.float32 for value in rotary)


def test_the_identity_names_adapters_and_base(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, folder = pair
    assert asking(folder).identity != asking(base).identity
    other = write_adapters(base, tmp_path / "adapters")
    named = json.loads((other / "imgdiff_base.json").read_text()) | {"identity": "another"}
    first = asking(other).identity
    (tmp_path / "second").mkdir()
    for file in other.iterdir():
        (tmp_path / "second" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "second" / "imgdiff_base.json").write_text(json.dumps(named))
    assert asking(tmp_path / "second").identity != first


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (
            {"base": "nowhere/at-all", "identity": "x"},
            r"adapters on nowhere/at-all, of which no.*train\.export checkpoint=.* base=FOLDER",
        ),
        (
            {"base": "mini:llava", "identity": "x"},
            r"identity x; those of mini:llava have.*Give the very folder",
        ),
        ({}, r"do not say which base.*base=FOLDER"),
    ],
)
def test_a_wrong_base_is_refused_before_weights(
    pair: tuple[Path, Path], tmp_path: Path, recorded: dict[str, str], message: str
) -> None:
    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "imgdiff_base.json").write_text(json.dumps(recorded))
    assert holds_adapters(folder)
    with pytest.raises(BackendError, match=message):
        asking(folder).__enter__()
    given = find_adapters("checkpoint", "x", pair[1], base=str(pair[0]))
    assert given.base == pair[0]


def test_a_relative_base_is_found_from_anywhere(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, trained = pair
    folder = tmp_path / "adapters"
    folder.mkdir()
    named = {"base": f"elsewhere/{base.name}", "identity": content_identity(base)}
    (folder / "imgdiff_base.json").write_text(json.dumps(named))
    settings = json.loads((trained / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = str(base)  # as the trainer writes it
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    monkeypatch.chdir(tmp_path)
    assert find_adapters("checkpoint", "x", folder).base == base


def test_adapters_on_another_shape_are_refused(pair: tuple[Path, Path]) -> None:
    base, folder = pair
    found = find_adapters("model.path", "x", folder)
    model = opened(base)
    model.model.language_model.layers = model.model.language_model.layers[:1]
    with pytest.raises(BackendError, match=r"(do not fit|cannot be put on).*trained on"):
        attached(model, found)

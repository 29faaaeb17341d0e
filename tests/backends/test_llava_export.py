"""A low-rank run in the authors' form: read back the way their loader does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from small_vicuna import llama, projector, write_clip, write_projector, write_vicuna

from imgdiff.backends.llava_export import (
    LoraShape,
    original_name,
    write_llava,
    write_llava_adapter,
)
from imgdiff.backends.llava_weights import Llava, assemble
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json

TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.\w+_proj)"
SHAPE = LoraShape(rank=4, alpha=8, dropout=0.05)


def adapted(llava: Llava, **changes: Any) -> Any:
    """A peft model whose low-rank weights and projector have moved from their start."""
    settings = {"target_modules": TARGETS, "modules_to_save": ["multi_modal_projector"]} | changes
    wrapped = get_peft_model(
        llava.model,
        LoraConfig(r=SHAPE.rank, lora_alpha=SHAPE.alpha, lora_dropout=SHAPE.dropout, **settings),
    )
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return wrapped


@pytest.fixture
def llava(tmp_path: Path) -> Llava:
    write_vicuna(tmp_path / "vicuna")
    write_clip(tmp_path / "clip", whole=False)
    write_projector(tmp_path / "mm_projector.bin")
    return assemble(tmp_path / "vicuna", tmp_path / "clip", tmp_path / "mm_projector.bin")


def test_their_loader_rebuilds_the_merged_model(llava: Llava, tmp_path: Path) -> None:
    wrapped = adapted(llava)
    folder = tmp_path / "llava-v1.5-lora"
    write_llava_adapter(
        get_peft_model_state_dict(wrapped), SHAPE, llava.model, llava.tokenizer, folder,
        base="lmsys/vicuna-7b-v1.5",
    )  # fmt: skip
    language = PeftModel.from_pretrained(llama(), folder).merge_and_unload()
    others = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    ours = wrapped.merge_and_unload().state_dict()
    for name, value in language.state_dict().items():
        same = ours[name.replace("model.", "model.language_model.", 1)][: len(value)]
        torch.testing.assert_close(same, value, rtol=0, atol=1e-6)
    # builder.py takes `base_model.` off, then one `model.`
    bare = {name.removeprefix("base_model.model."): value for name, value in others.items()}
    assert bare.keys() == {f"model.mm_projector.{name}" for name in projector().state_dict()}
    trained = ours["model.multi_modal_projector.linear_2.weight"]
    assert torch.equal(bare["model.mm_projector.2.weight"], trained)
    assert not torch.equal(trained, projector().state_dict()["2.weight"])


def test_files_and_fields_of_a_low_rank_run(llava: Llava, tmp_path: Path) -> None:
    folder = tmp_path / "llava-v1.5-lora"
    write_llava_adapter(
        get_peft_model_state_dict(adapted(llava)), SHAPE, llava.model, llava.tokenizer, folder,
        base="lmsys/vicuna-7b-v1.5",
    )  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "config.json",
        "non_lora_trainables.bin",
    ]  # fmt: skip
    config = read_json(folder / "adapter_config.json")
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 8, 0.05)
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj",
    ]  # fmt: skip
    assert config["base_model_name_or_path"] == "lmsys/vicuna-7b-v1.5"
    names = set(load_file(folder / "adapter_model.safetensors"))
    assert "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight" in names
    assert len(names) == 2 * 7 * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules_to_save": None}, "28 low-rank and 0 projector weights"),
        ({"target_modules": r".*vision_tower.*q_proj"}, "vision_tower.*Merge the adapter"),
        ({"modules_to_save": ["multi_modal_projector", "lm_head"]}, "lm_head.*Merge the adapter"),
    ],
)
def test_what_their_form_cannot_hold(
    llava: Llava, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    state = get_peft_model_state_dict(adapted(llava, **changes))
    folder = tmp_path / "llava-lora"
    with pytest.raises(BackendError, match=message):
        write_llava_adapter(state, SHAPE, llava.model, llava.tokenizer, folder, base="x")
    assert not folder.exists()


def test_the_folder_must_be_named_for_their_loader(llava: Llava, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="only if its name holds"):
        write_llava_adapter({}, SHAPE, llava.model, llava.tokenizer, tmp_path / "run", base="x")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("lm_head.weight", "lm_head.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("model.multi_modal_projector.linear_1.bias", "model.mm_projector.0.bias"),
        ("model.multi_modal_projector.linear_2.weight", "model.mm_projector.2.weight"),
        (
            "model.vision_tower.pre_layrnorm.bias",
            "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
        ),
    ],
)
def test_names(ours: str, theirs: str) -> None:
    assert original_name(ours) == theirs


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("projector_hidden_act", "relu"),
        ("multimodal_projector_bias", False),
        ("vision_feature_select_strategy", "full"),
    ],
)
def test_shapes_that_the_original_code_lacks(
    llava: Llava, tmp_path: Path, field: str, value: object
) -> None:
    setattr(llava.model.config, field, value)
    with pytest.raises(BackendError, match=f"{field}={value!r}: the original code has no such"):
        write_llava(llava.model, llava.tokenizer, tmp_path / "orig")
    assert not (tmp_path / "orig").exists()


def test_another_family_is_refused(llava: Llava, tmp_path: Path) -> None:
    from transformers import InternVLConfig

    llava.model.config = InternVLConfig()
    with pytest.raises(BackendError, match="model_type='internvl': the original code has no such"):
        write_llava(llava.model, llava.tokenizer, tmp_path / "orig")

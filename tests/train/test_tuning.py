"""What trains: frozen parts, adapters, groups, modes, and the table of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from internvl2_toy import internvl2_toy
from transformers import LlavaForConditionalGeneration

from imgdiff.backends.internvl2_weights import load
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.train.config import Tuning, TuningConfig
from imgdiff.train.tuning import (
    inner,
    numel,
    parameter_groups,
    parts,
    prepare,
    set_modes,
)

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def model(checkpoint: Path) -> Any:
    return LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)


def trained(model: Any) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def lora(**changes: Any) -> TuningConfig:
    return TuningConfig(kind=Tuning.lora, rank=4, alpha=8, **changes)


def test_full_trains_all_but_the_tower(model: Any) -> None:
    names = trained(prepare(model, TuningConfig()))
    assert not any("vision_tower" in name for name in names)
    everything = {name for name, _ in model.named_parameters() if "vision_tower" not in name}
    assert names == everything
    assert {"lm_head.weight"} < names


def test_projector_trains_the_projector_alone(model: Any) -> None:
    names = trained(prepare(model, TuningConfig(kind=Tuning.projector)))
    assert len(names) == 4
    assert all("multi_modal_projector" in name for name in names)


@pytest.mark.parametrize("train_projector", [True, False])
def test_adapters_hit_the_language_model_only(model: Any, train_projector: bool) -> None:
    names = trained(prepare(model, lora(train_projector=train_projector)))
    adapters = {name for name in names if "lora_" in name}
    assert len(adapters) == 2 * len(LINEARS) * 2  # A and B, 7 layers, 2 blocks
    assert all(".language_model.layers." in name for name in adapters)
    rest = names - adapters
    assert len(rest) == (4 if train_projector else 0)
    assert all("multi_modal_projector" in name for name in rest)


@pytest.mark.parametrize("kind", ["internlm2", "qwen2"])
def test_adapters_fit_an_internvl2(tmp_path: Path, kind: str) -> None:
    model = load(internvl2_toy(tmp_path, kind), torch.float32)
    names = trained(prepare(model, lora(train_projector=False)))
    blocks = model.config.text_config.num_hidden_layers
    assert len(names) == 2 * len(LINEARS) * blocks
    assert all(".language_model.layers." in name for name in names)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(BackendError, match=r"no language_model\.layers.*tuning=full"):
        prepare(torch.nn.Sequential(torch.nn.Linear(2, 2)), lora())


def test_modes_are_set_and_not_left_as_loaded(model: Any) -> None:
    tuned = prepare(model, lora())
    assert not inner(tuned).model.language_model.training  # as from_pretrained gives it
    set_modes(tuned, training=True)
    for name, part in tuned.named_modules():
        assert part.training == ("vision_tower" not in name), name


def test_one_group_per_rate_and_none_empty(model: Any, settings: Callable[..., Any]) -> None:
    config = settings(learning_rate=2e-4, projector_learning_rate=2e-5, weight_decay=0.01)
    groups = parameter_groups(prepare(model, lora()), config)
    assert sorted(group["lr"] for group in groups) == [2e-5, 2e-4]
    assert all(group["params"] and group["weight_decay"] == 0.01 for group in groups)


def test_a_rate_that_nothing_has_makes_no_group(model: Any, settings: Callable[..., Any]) -> None:
    config = settings(projector_learning_rate=2e-5)
    (only,) = parameter_groups(prepare(model, lora(train_projector=False)), config)
    assert only["lr"] == config.learning_rate


def test_nothing_to_train_is_refused(model: Any, settings: Callable[..., Any]) -> None:
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing would train"):
        parameter_groups(model, settings())


def test_the_table_counts_every_parameter_once(model: Any, settings: Callable[..., Any]) -> None:
    total = sum(value.numel() for value in model.parameters())
    found = {part.name: part for part in parts(prepare(model, TuningConfig()), settings())}
    assert list(found) == ["vision tower", "projector", "embeddings", "language model", "head"]
    assert sum(part.parameters for part in found.values()) == total
    assert (found["vision tower"].trained, found["vision tower"].rate) == (0, None)
    assert found["head"].trained == found["head"].parameters > 0


def test_a_projector_that_peft_copies_is_counted_once(
    model: Any, settings: Callable[..., Any]
) -> None:
    projector = sum(value.numel() for value in model.model.multi_modal_projector.parameters())
    found = {part.name: part for part in parts(prepare(model, lora()), settings())}
    assert (found["projector"].parameters, found["projector"].trained) == (projector, projector)


def test_four_bit_weights_count_as_what_they_stand_for() -> None:
    packed: Any = torch.nn.Parameter(torch.zeros(32, 1, dtype=torch.uint8), requires_grad=False)
    packed.quant_state = type("State", (), {"shape": torch.Size((8, 8))})()
    assert numel(packed) == 64

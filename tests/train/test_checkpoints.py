"""Gathered weights are written as a model of one device writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from imgdiff.backends.checkpoints import locate
from imgdiff.train.checkpoints import _unsharded


@pytest.fixture(params=["untied", "tied"])
def model(request: pytest.FixtureRequest, checkpoint: Path) -> Any:
    folder = checkpoint if request.param == "untied" else locate("path", "mini:llava")
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)


def test_gathered_weights_have_the_names_of_a_plain_model(model: Any, tmp_path: Path) -> None:
    """Under ZeRO-3 transformers notes every renaming it knows, used or not."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    model.save_pretrained(tmp_path / "plain")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model._weight_conversions = get_model_conversion_mapping(model)
    model.save_pretrained(tmp_path / "sharded")
    _unsharded(model, state).save_pretrained(tmp_path / "gathered")
    plain, sharded, gathered = (
        load_file(tmp_path / name / "model.safetensors")
        for name in ("plain", "sharded", "gathered")
    )
    assert sharded.keys() != plain.keys()
    assert gathered.keys() == plain.keys()
    assert all(torch.equal(gathered[name], plain[name]) for name in plain)
    for file in ("config.json", "generation_config.json"):
        texts = [(tmp_path / name / file).read_text() for name in ("plain", "gathered")]
        assert texts[0] == texts[1]


def test_weights_that_were_not_gathered_are_told(model: Any) -> None:
    state = dict(model.state_dict())
    name = "model.multi_modal_projector.linear_1.bias"
    state.pop(name)
    with pytest.raises(RuntimeError, match=name):
        _unsharded(model, state)

"""What is trained, in which mode, and at which rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from imgdiff.core.errors import BackendError
from imgdiff.train.module import FineTuning, rate_factor


@pytest.fixture
def module(settings: Callable[..., Any], checkpoint: Path) -> FineTuning:
    model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    return FineTuning(model, settings())


def test_the_tower_is_frozen_and_stays_in_evaluation_mode(module: FineTuning) -> None:
    assert not any(part.training for part in module.model.modules())  # as from_pretrained gives it
    module.on_fit_start()
    for name, part in module.model.named_modules():
        assert part.training == ("vision_tower" not in name), name
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any("vision_tower" in name for name in trained)
    for needed in ("lm_head", "embed_tokens", "multi_modal_projector", "layers.1.mlp.down_proj"):
        assert any(needed in name for name in trained)


def test_the_loss_is_the_mean_over_the_supervised_tokens_of_the_batch(module: FineTuning) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 2, 2]])
    labels = torch.tensor([[-100, -100, 7, 8, 9], [-100, -100, 7, -100, -100]])
    batch = {"input_ids": ids, "labels": labels, "attention_mask": torch.ones_like(ids)}
    output = module.model(**batch)
    logs = output.logits.log_softmax(-1)
    picked = [logs[0, 1, 7], logs[0, 2, 8], logs[0, 3, 9], logs[1, 1, 7]]
    assert output.loss.item() == pytest.approx(-torch.stack(picked).mean().item(), rel=1e-5)


def test_a_loss_that_is_no_number_stops_the_run(module: FineTuning) -> None:
    with torch.no_grad():
        module.model.lm_head.weight.fill_(float("nan"))
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(BackendError, match=r"loss is nan at step 1; lower learning_rate="):
        module.training_step({"input_ids": ids, "labels": ids}, 0)


def test_the_rate_warms_up_linearly_and_falls_to_zero_as_a_cosine() -> None:
    from transformers import get_cosine_schedule_with_warmup

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_cosine_schedule_with_warmup(optimiser, 4, 100)  # ceil(0.03 * 100) + 1
    ours = [rate_factor(step, 100, 0.031) for step in range(101)]
    assert ours == pytest.approx([reference.lr_lambdas[0](step) for step in range(101)])
    assert (ours[0], ours[4], ours[100]) == (0.0, 1.0, 0.0)
    assert rate_factor(0, 5, 0.0) == 1.0

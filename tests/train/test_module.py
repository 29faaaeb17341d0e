"""One forward pass: its loss, its tally, and what it does without an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from imgdiff.train.collate import MicroBatch
from imgdiff.train.module import FineTuning
from imgdiff.train.schedule import rate_factor
from imgdiff.train.tuning import prepare

IMAGE_TOKENS = 16


@pytest.fixture
def module(settings: Callable[..., Any], checkpoint: Path) -> FineTuning:
    config = settings()

    def opened() -> Any:
        model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        return prepare(model, config.tuning)

    made = FineTuning(opened, config, steps=10, vocabulary=400, sources=2, view_px=64)
    made.configure_model()
    made.on_fit_start()
    return made


def text_batch(positions: torch.Tensor | None = None) -> MicroBatch:
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 2, 2]])
    labels = torch.tensor([[-100, -100, 7, 8, 9], [-100, -100, 7, -100, -100]])
    sources = torch.tensor([[0] * 5, [1, 1, 1, -1, -1]])
    return MicroBatch(
        input_ids=ids,
        labels=labels,
        sources=sources,
        position_ids=positions,
        pixel_values=None,
        lengths=(5, 3),
        seen=7,
    )


def test_the_loss_is_the_mean_over_supervised_tokens_and_original_words(
    module: FineTuning,
) -> None:
    batch = text_batch()
    loss = module.training_step(batch, 0)
    logits = module.model(input_ids=batch.input_ids).logits[..., :400]
    logs = logits.log_softmax(-1)
    picked = [logs[0, 1, 7], logs[0, 2, 8], logs[0, 3, 9], logs[1, 1, 7]]
    assert loss.item() == pytest.approx(-torch.stack(picked).mean().item(), rel=1e-5)
    tally = module.take_tally()
    assert tally.tokens.tolist() == [3, 1]
    assert tally.token_losses.tolist() == pytest.approx(
        [-sum(x.item() for x in picked[:3]), -picked[3].item()], rel=1e-5
    )
    assert (tally.useful, tally.placed, tally.samples, tally.views) == (8, 10, 2, 0)
    assert (tally.squares, tally.seen) == (5**2 + 3**2, 7)


def test_tallies_add_up_over_a_step_and_begin_anew(module: FineTuning) -> None:
    for index in range(3):
        module.training_step(text_batch(), index)
    tally = module.take_tally()
    assert (tally.micro_batches, tally.samples, tally.tokens.tolist()) == (3, 6, [9, 3])
    with pytest.raises(RuntimeError, match="no micro-batch"):
        module.take_tally()


def test_without_an_image_the_projector_has_a_gradient_of_zero(module: FineTuning) -> None:
    module.training_step(text_batch(), 0).backward()
    projector = module.model.model.multi_modal_projector
    assert [p.grad is not None for p in projector.parameters()] == [True] * 4
    assert all(float(p.grad.abs().max()) == 0.0 for p in projector.parameters())
    head = module.model.lm_head.weight.grad
    assert float(head[:400].abs().max()) > 0.0
    assert float(head[400:].abs().max()) == 0.0  # rows that are no words are not trained


def test_dropout_follows_the_place_in_the_run(
    settings: Callable[..., Any], checkpoint: Path
) -> None:
    from imgdiff.train.config import Tuning, TuningConfig

    config = settings(tuning=TuningConfig(kind=Tuning.lora, rank=4, alpha=8, dropout=0.5))

    def opened() -> Any:
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
        tuned = prepare(model, config.tuning)
        for name, value in tuned.named_parameters():
            if "lora_B" in name:  # it begins at zero, and dropout would show nothing
                torch.nn.init.normal_(value)
        return tuned

    def losses(order: list[int]) -> list[float]:
        made = FineTuning(opened, config, steps=10, vocabulary=400, sources=2, view_px=64)
        made.configure_model()
        made.on_fit_start()
        return [made.training_step(text_batch(), index).item() for index in order]

    first, again = losses([0, 1, 2]), losses([2, 0])
    assert len(set(first)) == 3
    assert again == [first[2], first[0]]


def test_the_rate_warms_up_linearly_and_falls_to_zero_as_a_cosine() -> None:
    from transformers import get_cosine_schedule_with_warmup

    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_cosine_schedule_with_warmup(optimiser, 4, 100)  # ceil(0.031 * 100)
    ours = [rate_factor(step, 100, 0.031) for step in range(101)]
    assert ours == pytest.approx([reference.lr_lambdas[0](step) for step in range(101)])
    assert (ours[0], ours[4], ours[100]) == (0.0, 1.0, 0.0)
    assert rate_factor(0, 5, 0.0) == 1.0

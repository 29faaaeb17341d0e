"""Counted arithmetic beside the same figures worked out by hand. Models are on meta: no memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from imgdiff.train.config import Tuning, TuningConfig
from imgdiff.train.flops import arithmetic
from imgdiff.train.tuning import prepare

TERA = 1e12
CLIP_L = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "image_size": 336,
}  # fmt: skip
VICUNA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
VICUNA_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40}


def shaped(language: dict[str, int], **changes: Any) -> LlavaForConditionalGeneration:
    heads = language["hidden_size"] // 128
    text = LlamaConfig(
        vocab_size=32064, num_attention_heads=heads, num_key_value_heads=heads, **language
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP_L).to_dict(),
        text_config=text.to_dict(),
        **{"tie_word_embeddings": False} | changes,
    )
    with torch.device("meta"):
        return LlavaForConditionalGeneration(config)


def by_hand(language: dict[str, int], tokens: int, passes: int) -> float:
    """One sample of `tokens` tokens with one image, as PaLM (appendix B) counts."""
    width, inner, layers = language.values()
    block = 4 * width**2 + 3 * width * inner  # q, k, v, o; gate, up, down
    head = 32064 * width
    attention = 2 * tokens**2 * width * layers  # scores and sums, half of them behind the mask
    clip_block = 4 * 1024**2 + 2 * 1024 * 4096
    clip = 2 * 576 * 24 * clip_block + 4 * 576**2 * 1024 * 24
    projector = 1024 * width + width**2
    return (
        passes * (2 * tokens * (layers * block + head) + attention) + clip + 3 * 2 * 576 * projector
    )


@pytest.mark.parametrize(
    ("language", "tuning", "passes", "tera"),
    [
        (VICUNA_7B, Tuning.full, 3, 32.7),
        (VICUNA_7B, Tuning.lora, 2, 21.9),
        (VICUNA_7B, Tuning.projector, 2, 21.9),
        (VICUNA_13B, Tuning.full, 3, 62.9),
        (VICUNA_13B, Tuning.lora, 2, 42.1),
    ],
    ids=["7b-full", "7b-lora", "7b-projector", "13b-full", "13b-lora"],
)
def test_llava_at_800_tokens(
    language: dict[str, int], tuning: Tuning, passes: int, tera: float
) -> None:
    """`tera` are published shapes times 6 N (adapters: 4 N) with attention, rounded down."""
    found = arithmetic(shaped(language), tuning).step(800, 800**2, 1)
    assert found == pytest.approx(by_hand(language, 800, passes), rel=1e-6)
    assert found / TERA == pytest.approx(tera, abs=0.1)


@pytest.mark.parametrize("train_projector", [False, True])
def test_adapters_and_a_copied_projector_change_no_count(train_projector: bool) -> None:
    """Adapters are 5 % of the weights at rank 128, and progress is that of the model."""
    bare = shaped(VICUNA_7B | {"num_hidden_layers": 2})
    before = arithmetic(bare, Tuning.lora)
    with torch.device("meta"):
        adapted = prepare(bare, TuningConfig(kind=Tuning.lora, train_projector=train_projector))
    assert arithmetic(adapted, Tuning.lora) == before


def test_a_tied_head_is_counted_though_it_is_no_parameter() -> None:
    small = VICUNA_7B | {"num_hidden_layers": 2}
    tied = shaped(small, tie_word_embeddings=True)
    tied.tie_weights()
    assert arithmetic(tied, Tuning.full) == arithmetic(shaped(small), Tuning.full)


def test_samples_do_not_attend_to_each_other() -> None:
    """Two samples of 400 in one row cost less than one of 800."""
    counted = arithmetic(shaped(VICUNA_7B | {"num_hidden_layers": 2}), Tuning.full)
    together, apart = counted.step(800, 800**2, 0), counted.step(800, 2 * 400**2, 0)
    assert together - apart == pytest.approx(3 * 2 * (800**2 - 2 * 400**2) * 4096 * 2)

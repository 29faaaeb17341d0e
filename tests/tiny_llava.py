"""A random LLaVA of the real classes, small enough that a test can train it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

IMAGE_PX = 64
PATCH_PX = 16


@functools.lru_cache(maxsize=1)
def _built() -> Path:
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaImageProcessorPil,
        LlavaProcessor,
    )

    from imgdiff.backends.chat_templates import image_token_id
    from imgdiff.backends.loading import quietly
    from imgdiff.mini.build.llama_tokenizer import build_tokenizer

    folder = Path(tempfile.mkdtemp(prefix="tiny-llava-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = build_tokenizer(pieces=420)  # few merges: quick, and every text still encodes
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        patch_size=PATCH_PX,
        image_size=IMAGE_PX,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        image_token_index=image_token_id(tokenizer),
        image_seq_length=(IMAGE_PX // PATCH_PX) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessorPil(
            do_pad=True,
            size={"shortest_edge": IMAGE_PX},
            crop_size={"height": IMAGE_PX, "width": IMAGE_PX},
        ),
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    torch.manual_seed(0)
    with quietly():
        LlavaForConditionalGeneration(config).save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder


def tiny_llava(parent: Path) -> Path:
    """A copy of the checkpoint in `parent`."""
    return Path(shutil.copytree(_built(), parent / "llava"))

"""A text-to-image SDXL checkpoint of a few thousand random weights, in diffusers' own classes."""

import json
import string

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

WIDTH = 32


def tokenizer(folder):
    """CLIP's tokenizer over single letters."""
    ends = ["<|startoftext|>", "<|endoftext|>"]
    marks = list(string.ascii_lowercase + string.digits + ",.")
    words = [*marks, *(f"{mark}</w>" for mark in marks), *ends]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    made = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    made.model_max_length = 77
    return made, len(words)


def save(folder):
    """Write the checkpoint; equal bytes every time."""
    torch.manual_seed(0)
    words, count = tokenizer(folder.parent / "words")
    text = CLIPTextConfig(
        vocab_size=count, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=WIDTH, bos_token_id=count - 2,
        eos_token_id=count - 1, pad_token_id=count - 1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
        use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + WIDTH, cross_attention_dim=2 * WIDTH,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=[32, 64], down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4, sample_size=64,
    )  # fmt: skip
    pipeline = StableDiffusionXLPipeline(
        vae=vae, text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text), tokenizer=words, tokenizer_2=words,
        unet=unet, scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing"),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder

"""What LLaVA-1.5 starts from, small and random: a Vicuna, a CLIP, a projector, a tokenizer."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
)

from imgdiff.backends.chat_templates import VICUNA_V1
from imgdiff.backends.loading import quietly
from imgdiff.mini.language import describe
from imgdiff.mini.scene import Split, sample_scene

WIDTH, SEEN, SIDE_PX, PATCH_PX = 64, 32, 64, 16
PIECES = 700
SPACE = "\u2581"
# Llama 2 reads `USER` as one piece and ` USER` as two. The offsets of the authors' label rule rest
# on that one piece of difference, so a stand-in must have it.
ROLE_MERGES = [("U", "S"), ("E", "R"), (SPACE, "US"), ("US", "ER")]


@functools.lru_cache(maxsize=1)
def _learned() -> tuple[dict[str, int], list[tuple[str, str]]]:
    import numpy as np

    rng = np.random.default_rng(0)
    texts = [describe(sample_scene(rng, Split.train), rng) for _ in range(300)]
    texts += [f"{VICUNA_V1.system} USER: {texts[0]} ASSISTANT: {texts[1]}"] * 20
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    apart = pre_tokenizers.Split(Regex(rf"[^\p{{L}}{SPACE}]"), "isolated")  # as Llama 2: `ANT` `:`
    words = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trained.pre_tokenizer = pre_tokenizers.Sequence([words, apart])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=["<unk>", "<s>", "</s>", *bytes_],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    model = json.loads(trained.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    merges = [*ROLE_MERGES, *((left, right) for left, right in model["merges"])]
    for left, right in ROLE_MERGES:
        vocab.setdefault(left + right, len(vocab))
    return vocab, list(dict.fromkeys(merges))


def small_tokenizer() -> Any:
    """Llama's class with byte fallback and `legacy=False`, learned by the tokenizers library."""
    vocab, merges = _learned()
    return LlamaTokenizer(vocab=dict(vocab), merges=list(merges), legacy=False, add_bos_token=True)


def llama(dtype: torch.dtype = torch.float32) -> Any:
    """A random Llama with the vocabulary of `small_tokenizer`."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(small_tokenizer()),
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def _vision_config() -> Any:
    return CLIPVisionConfig(
        hidden_size=SEEN,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        patch_size=PATCH_PX,
        image_size=SIDE_PX,
        projection_dim=16,
    )


def clip_vision(dtype: torch.dtype = torch.float32) -> Any:
    """A random vision tower."""
    torch.manual_seed(2)
    return CLIPVisionModel(_vision_config()).to(dtype).eval()


def projector(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    """mlp2x_gelu."""
    torch.manual_seed(3)
    layers = [torch.nn.Linear(SEEN, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH)]
    return torch.nn.Sequential(*layers).to(dtype)


def write_vicuna(folder: Path, dtype: torch.dtype = torch.float32, **saving: Any) -> Path:
    """As lmsys/vicuna-7b-v1.5 stores it; `saving` goes to save_pretrained."""
    with quietly():
        llama(dtype).save_pretrained(folder, **saving)
        small_tokenizer().save_pretrained(folder)
    return folder


def write_clip(folder: Path, *, whole: bool) -> Path:
    """The vision tower alone, or as half of a CLIP with the very same weights."""
    with quietly():
        if not whole:
            clip_vision().save_pretrained(folder)
            return folder
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "vocab_size": 50, "projection_dim": 16}  # fmt: skip
        both = CLIPModel(
            CLIPConfig(
                text_config=text, vision_config=_vision_config().to_dict(), projection_dim=16
            )
        )
        missing = both.vision_model.load_state_dict(clip_vision().state_dict(), strict=False)
        assert not missing.unexpected_keys
        both.save_pretrained(folder)
    return folder


def write_projector(path: Path, prefix: str = "model.mm_projector.", **changed: Tensor) -> Path:
    """`mm_projector.bin` of the first stage."""
    state = {f"{prefix}{name}": value for name, value in projector().state_dict().items()}
    torch.save(state | changed, path)
    return path

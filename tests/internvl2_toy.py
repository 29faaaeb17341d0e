"""Tiny random InternVL2 checkpoints in the ORIGINAL format, of both kinds, as published.

`internvl2_toy(parent, "internlm2")` is a small InternVL2-8B (InternLM2 with grouped queries and
scaled rotary embedding, a sentencepiece file), `"qwen2"` a small InternVL2-1B (Qwen2 vocabulary
files). Views have 56 px: 16 patches, 4 tokens each. Weights come from a seed, names and shapes are
written down here from the authors' classes, independently of the code that reads them.
"""

# ruff: noqa: RUF001 - full-width marks are part of the texts
from __future__ import annotations

import atexit
import functools
import json
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

KINDS = ("internlm2", "qwen2")
VIEW_PX = 56
TOKENS_PER_VIEW = 4
IMAGE_TOKENS = "<img> </img> <IMG_CONTEXT> <quad> </quad> <ref> </ref> <box> </box>".split()
_TURN_TOKENS = "<|plugin|> <|interpreter|> <|action_end|> <|action_start|>".split()
_BLANK = "▁"
_VISION = {
    "architectures": ["InternVisionModel"], "model_type": "intern_vit_6b",
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "hidden_act": "gelu", "norm_type": "layer_norm", "layer_norm_eps": 1e-6, "num_channels": 3,
    "image_size": VIEW_PX, "patch_size": 14, "attention_dropout": 0.0, "dropout": 0.0,
    "drop_path_rate": 0.0, "qkv_bias": True, "qk_normalization": False, "use_flash_attn": True,
    "initializer_factor": 1.0, "initializer_range": 0.02,
}  # fmt: skip
_LANGUAGE: dict[str, dict[str, Any]] = {
    "internlm2": {
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False,
        "hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 2,
        "intermediate_size": 128, "num_hidden_layers": 2, "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "initializer_range": 0.02,
        "rope_theta": 1000000, "rope_scaling": {"type": "dynamic", "factor": 2.0},
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "tie_word_embeddings": False,
    },
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 64,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128,
        "num_hidden_layers": 2, "hidden_act": "silu", "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6, "initializer_range": 0.02, "rope_theta": 1000000.0,
        "rope_scaling": None, "use_sliding_window": False, "tie_word_embeddings": False,
    },
}  # fmt: skip
_TEMPLATES = {"internlm2": "internlm2-chat", "qwen2": "Hermes-2"}
_CORPUS = [
    "system user assistant What is different between the two images? There is a red cat on the "
    "left and a green dog on the right! The cup has 2 handles, not 3.\nYes, it is. No, it isn't.",
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。左边的图片里有一只猫，右边没有！",
    "Image-1: Image-2: Describe the difference in one sentence. (a) Yes (b) No  \n\n\tthen",
] * 4


def internvl2_toy(parent: Path, kind: str) -> Path:
    """A copy of the checkpoint of this kind in `parent`."""
    return Path(shutil.copytree(_built(kind), parent / f"internvl2-{kind}"))


@functools.lru_cache(maxsize=2)
def _built(kind: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"internvl2-{kind}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = _internlm2_files(folder) if kind == "internlm2" else _qwen2_files(folder)
    language = _LANGUAGE[kind] | {"vocab_size": words}
    config = {
        "architectures": ["InternVLChatModel"], "model_type": "internvl_chat",
        "vision_config": _VISION, "llm_config": language, "template": _TEMPLATES[kind],
        "downsample_ratio": 0.5, "ps_version": "v2", "select_layer": -1, "pad2square": False,
        "force_image_size": VIEW_PX, "dynamic_image_size": True, "use_thumbnail": True,
        "min_dynamic_patch": 1, "max_dynamic_patch": 12, "use_llm_lora": 0, "use_backbone_lora": 0,
        "torch_dtype": "float32", "transformers_version": "4.37.2",
    }  # fmt: skip
    _write(folder / "config.json", config)
    (folder / "modeling_internvl_chat.py").write_text("# remote code, never imported\n")
    save_tensors(folder, random_tensors(config), shards=2 if kind == "internlm2" else 1)
    return folder


def random_tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Every tensor of the original model, by the authors' names."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for name, shape in {**_vision_shapes(), **_language_shapes(config["llm_config"])}.items():
        values = torch.randn(shape, generator=generator)
        norm = name.endswith("weight") and len(shape) == 1
        tensors[name] = 1 + 0.1 * values if norm else 0.1 * values
    return tensors


def save_tensors(folder: Path, tensors: dict[str, Any], shards: int = 1) -> None:
    """Write safetensors, with an index where there are several files."""
    from safetensors.torch import save_file

    for old in folder.glob("*.safetensors"):
        old.unlink()
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    places: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    _write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def _vision_shapes() -> dict[str, tuple[int, ...]]:
    wide, inner = _VISION["hidden_size"], _VISION["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, wide),
        "vision_model.embeddings.position_embedding": (1, 17, wide),
        "vision_model.embeddings.patch_embedding.weight": (wide, 3, 14, 14),
        "vision_model.embeddings.patch_embedding.bias": (wide,),
    }
    for layer in range(_VISION["num_hidden_layers"]):
        at = f"vision_model.encoder.layers.{layer}."
        shapes |= {f"{at}{name}": (wide,) for name in ("ls1", "ls2", "attn.proj.bias")}
        shapes |= {f"{at}norm{n}.{part}": (wide,) for n in "12" for part in ("weight", "bias")}
        shapes |= {
            f"{at}attn.qkv.weight": (3 * wide, wide), f"{at}attn.qkv.bias": (3 * wide,),
            f"{at}attn.proj.weight": (wide, wide),
            f"{at}mlp.fc1.weight": (inner, wide), f"{at}mlp.fc1.bias": (inner,),
            f"{at}mlp.fc2.weight": (wide, inner), f"{at}mlp.fc2.bias": (wide,),
        }  # fmt: skip
    return shapes


def _language_shapes(language: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    wide, inner, words = (language[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    head = wide // language["num_attention_heads"]
    narrow = head * language["num_key_value_heads"]
    internlm2 = language["model_type"] == "internlm2"
    shapes: dict[str, tuple[int, ...]] = {
        "mlp1.0.weight": (128,), "mlp1.0.bias": (128,), "mlp1.1.weight": (wide, 128),
        "mlp1.1.bias": (wide,), "mlp1.3.weight": (wide, wide), "mlp1.3.bias": (wide,),
        "language_model.model.norm.weight": (wide,),
    }  # fmt: skip
    names = ("tok_embeddings", "output") if internlm2 else ("embed_tokens", "lm_head")
    shapes |= {f"language_model.model.{names[0]}.weight": (words, wide)}
    shapes |= {f"language_model.{names[1]}.weight": (words, wide)}
    for layer in range(language["num_hidden_layers"]):
        at = f"language_model.model.layers.{layer}."
        if internlm2:
            shapes |= {f"{at}{n}.weight": (wide,) for n in ("attention_norm", "ffn_norm")}
            shapes |= {f"{at}attention.wqkv.weight": (wide + 2 * narrow, wide)}
            shapes |= {f"{at}attention.wo.weight": (wide, wide)}
            gate, up, down = (f"{at}feed_forward.w{n}.weight" for n in "132")
        else:
            norms = ("input_layernorm", "post_attention_layernorm")
            shapes |= {f"{at}{n}.weight": (wide,) for n in norms}
            for letter, rows in (("q", wide), ("k", narrow), ("v", narrow)):
                shapes |= {f"{at}self_attn.{letter}_proj.weight": (rows, wide)}
                shapes |= {f"{at}self_attn.{letter}_proj.bias": (rows,)}
            shapes |= {f"{at}self_attn.o_proj.weight": (wide, wide)}
            gate, up, down = (f"{at}mlp.{n}_proj.weight" for n in ("gate", "up", "down"))
        shapes |= {gate: (inner, wide), up: (inner, wide), down: (wide, inner)}
    return shapes


def _trained(
    texts: list[str], normalizer: Any, splitter: Any, alphabet: list[str], size: int
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-pair encoding of the texts."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=alphabet, min_frequency=1
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _qwen2_files(folder: Path) -> int:
    """Write Qwen2's files; returns the size of the vocabulary. Id 0 is "!", as in the real one."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    words = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    splitter = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(words), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocab, merges = _trained(_CORPUS, normalizers.NFC(), splitter, alphabet, 700)
    assert vocab["!"] == 0
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *IMAGE_TOKENS]
    _write(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _tokenizer_config(folder, "Qwen2Tokenizer", {len(vocab) + n: t for n, t in enumerate(added)})
    return len(vocab) + len(added)


def _internlm2_files(folder: Path) -> int:
    """Write a sentencepiece model and its config; returns the size of the vocabulary.

    As in the real one no piece joins a line end with text, and the last six pieces are unused
    names that the turn tokens replace.
    """
    from tokenizers import normalizers, pre_tokenizers

    lines = [line for text in _CORPUS for line in text.split("\n")]
    splitter = pre_tokenizers.Metaspace(replacement=_BLANK, prepend_scheme="never")
    vocab, merges = _trained(lines, normalizers.Replace(" ", _BLANK), splitter, [], 500)
    joined = list(dict.fromkeys(left + right for left, right in merges))
    letters = sorted(set(vocab) - set(joined))
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [(text, -float(rank), 1) for rank, text in enumerate([*joined, *letters])]
    pieces += [(_BLANK * 4, 0.0, 4), ("\n", 0.0, 4)]
    pieces += [(f"[UNUSED_TOKEN_{number}]", 0.0, 4) for number in range(141, 147)]
    (folder / "tokenizer.model").write_bytes(piece_file(pieces))
    turns = [*_TURN_TOKENS, "<|im_end|>", "<|im_start|>"]
    added = {len(pieces) - len(turns) + n: t for n, t in enumerate([*turns, *IMAGE_TOKENS])}
    control = {0: "<unk>", 1: "<s>", 2: "</s>"}
    _tokenizer_config(folder, "InternLM2Tokenizer", control | added)
    return len(pieces) + len(IMAGE_TOKENS)


def _tokenizer_config(folder: Path, name: str, added: dict[int, str]) -> None:
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    decoder = {str(n): {"content": text, **flags, "special": True} for n, text in added.items()}
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    if name == "Qwen2Tokenizer":
        special = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": name,
            "model_max_length": 8192,
            "added_tokens_decoder": decoder,
            "clean_up_tokenization_spaces": False,
            **special,
        },
    )


def piece_file(
    pieces: list[tuple[str, float, int]], *, algorithm: int = 2, blank_first: bool = False,
    joins_blanks: bool = False,
) -> bytes:  # fmt: skip
    """A sentencepiece model file: (text, score, type) of every piece, and what encoding needs."""
    blob = b""
    for text, score, kind in pieces:
        body = _field(1, text.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score)
        blob += _field(1, body + bytes([3 << 3, kind]))
    blob += _field(2, bytes([3 << 3, algorithm, 4 << 3]) + _varint(len(pieces)))
    flags = bytes([3 << 3, blank_first, 4 << 3, joins_blanks])
    return blob + _field(3, _field(1, b"identity") + flags)


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")

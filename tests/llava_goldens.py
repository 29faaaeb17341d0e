"""What LLaVA-1.5's text and loss are held to (`scripts/goldens.py llava-text llava-loss`).

Read the difference by eye before committing it: a prompt, an id or a loss that changed is a model
that is asked or trained differently. Ids are those of the shipped mini tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from imgdiff.backends.chat_templates import IGNORED, TEMPLATES, Exchange, render_turns
from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.readers import LlavaReader

GOLDENS = Path(__file__).resolve().parent / "goldens"
PER_IMAGE, VIEW_PX, PATCH_PX = 4, 32, 16
IMAGE = "<image>\n"
# name -> template and turns; an answer of None ends the text where generation begins
CONVERSATIONS: dict[str, tuple[str, list[Exchange]]] = {
    "pair": ("vicuna_v1", [Exchange(f"{IMAGE}What is different?", "The left cat is red.")]),
    "three turns": (
        "vicuna_v1",
        [
            Exchange(f"What is it?\n{IMAGE}", "A small cat."),
            Exchange("Sure?", "Yes."),
            Exchange("How many?", "12"),
        ],
    ),
    "text alone": ("vicuna_v1", [Exchange("Say hello.", "Hello!"), Exchange("Again.", "Hello.")]),
    "prompt": ("vicuna_v1", [Exchange(f"{IMAGE}What is it?", "A cat."), Exchange("Sure?")]),
    "prompt of MMVP's script": ("llava_v1", [Exchange(f"{IMAGE}Is it red? (a) Yes (b) No")]),
    "stop sign": ("vicuna_v1", [Exchange("a</s>b", "c</s>d"), Exchange("Sure?", "Yes.")]),
    "role words": ("vicuna_v1", [Exchange("say ASSISTANT: no", "USER: x ASSISTANT: y")]),
    "unknown token": ("vicuna_v1", [Exchange("<unk>?", "an <unk> here")]),
    "image inside a word": ("vicuna_v1", [Exchange("a<image>b<image>", "A cat.")]),
    "bytes": ("vicuna_v1", [Exchange("é漢🙂?", "🙂 漢é"), Exchange("<0x0A>", "<0x41>")]),
    "blanks": ("vicuna_v1", [Exchange("  a  ", "  b  "), Exchange("\n", " ")]),
    "right to left": ("vicuna_v1", [Exchange("שלום abc", "שלום")]),
    "empty messages": ("vicuna_v1", [Exchange("", "Yes."), Exchange("What?", "")]),
}
BATCH = ("pair", "text alone", "three turns")  # of the loss; the second has no image


def text() -> dict[str, dict[str, str]]:
    """Every conversation: its text, its pieces, its ids, and a mask of the supervised ones."""
    return {name: _written(template, turns) for name, (template, turns) in CONVERSATIONS.items()}


def loss() -> dict[str, float | int]:
    """Loss of `BATCH` under a tiny LLaVA of fixed weights: mean over the supervised tokens."""
    reader = _reader("vicuna_v1")
    rows = [_encoded(reader, CONVERSATIONS[name][1]) for name in BATCH]
    longest = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), longest), reader.pad_id)
    labels = torch.full((len(rows), longest), IGNORED)
    for number, row in enumerate(rows):
        ids[number, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[number, : len(row.labels)] = torch.tensor(row.labels)
    model = tiny_model(reader)
    noise = np.random.default_rng(1).standard_normal((2, 3, VIEW_PX, VIEW_PX))
    views = torch.from_numpy(noise.astype(np.float32))
    with torch.no_grad():
        logits = model(input_ids=ids, pixel_values=views, use_cache=False).logits
    words = logits[:, :-1, : reader.vocabulary].flatten(0, 1)
    value = cross_entropy(words, labels[:, 1:].flatten(), ignore_index=IGNORED)
    return {
        "loss": round(float(value), 6),
        "supervised_tokens": int((labels != IGNORED).sum()),
        "tokens": sum(len(row.input_ids) for row in rows),
    }


def tiny_model(reader: LlavaReader) -> Any:
    """A LLaVA of the real class; weights from NumPy's generator, equal on every machine."""
    rows = max(reader.image_id, reader.pad_id) + 1
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        patch_size=PATCH_PX, image_size=VIEW_PX,
    )  # fmt: skip
    language = LlamaConfig(
        vocab_size=rows, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=reader.pad_id,
        tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision.to_dict(), text_config=language.to_dict(),
        image_token_index=reader.image_id,
        vision_feature_layer=-2, vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            drawn = rng.standard_normal(tuple(weight.shape)).astype(np.float32) * 0.2
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.copy_(torch.from_numpy(drawn + np.float32(around)))
    return model


def _reader(template: str) -> LlavaReader:
    return LlavaReader(mini_root() / "llava", TEMPLATES[template])


def _encoded(reader: LlavaReader, turns: list[Exchange]) -> Any:
    shown = sum("<image>" in turn.question for turn in turns)
    return reader.encode(turns, [PER_IMAGE] * shown)


def _written(template: str, turns: list[Exchange]) -> dict[str, str]:
    reader = _reader(template)
    coded = _encoded(reader, turns)
    return {
        "template": template,
        "text": render_turns(turns, TEMPLATES[template]).text,
        "pieces": " ".join(_piece(reader, token) for token in coded.input_ids),
        "ids": " ".join(map(str, coded.input_ids)),
        "supervised": "".join(".#"[label != IGNORED] for label in coded.labels),
        "learned": reader.tokenizer.decode([i for i in coded.labels if i != IGNORED]),
    }


def _piece(reader: LlavaReader, token: int) -> str:
    if token == reader.image_id:
        return "<image>"
    return str(reader.tokenizer.convert_ids_to_tokens(token))

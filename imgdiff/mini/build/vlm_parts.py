"""What the mini vision-language models share: tower, packed conversations, losses, saving.

Training packs all dialogues about one image into one row: they share the prompt up to the image,
restart their positions after it and do not see each other, so each one trains exactly the tokens
and positions of a conversation of its own, at a fraction of the cost.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaTokenizer,
    PreTrainedModel,
)
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from imgdiff.backends.chat_templates import IGNORED, Exchange, encode, image_token_id
from imgdiff.mini.build.export import WEIGHTS
from imgdiff.mini.scene import Scene
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CLIP_FOLDER = "clip"  # below the work folder
OBJECT_COVER, GROUND_COVER = 0.3, 0.06  # of a patch: enough to be labelled, little enough
CATEGORY_IDS = {name: index + 1 for index, name in enumerate(CATEGORIES)}
COLOUR_IDS = {name: index + 1 for index, name in enumerate(COLOURS)}
GAZE_LAYER = 1  # of the language model, counted from 0: after one that reads the box
STRIDE = 64  # rows are padded to multiples of it: few shapes to compile


def lean_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """Eager attention whose softmax stays in the working precision.

    On a processor with bfloat16 products the memory traffic of the float32 softmax of `eager`
    costs more than all products; training tolerates the difference.
    """
    scores = (query * scaling) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores + attention_mask
    return (scores.softmax(-1) @ value).transpose(1, 2).contiguous(), None


LEAN = "imgdiff_lean"
AttentionInterface.register(LEAN, lean_attention)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of packed dialogues. The image fills `image_count` places from `image_start` on."""

    ids_BT: Int[Tensor, "B T"]
    labels_BT: Int[Tensor, "B T"]
    positions_BT: Int[Tensor, "B T"]
    segments_BT: Int[Tensor, "B T"]  # 0 is shared, k is dialogue k, -1 is padding
    image_start: int
    image_count: int


def vision_config(work: Path, image_px: int) -> CLIPVisionConfig:
    """The mini CLIP's tower where it is trained, else the same shape untrained, at `image_px`."""
    config = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=3,
        patch_size=16,
        hidden_act="gelu",
        projection_dim=192,
    )
    if (work / CLIP_FOLDER / "config.json").exists():
        stored = json.loads((work / CLIP_FOLDER / "config.json").read_text())["vision_config"]
        config = CLIPVisionConfig(**{k: v for k, v in stored.items() if k != "model_type"})
    config.image_size = image_px
    return config


def language_config(tokenizer: LlamaTokenizer, layers: int, width: int, inner: int) -> LlamaConfig:
    """A small Llama."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )


def load_tower(model: Any, work: Path) -> bool:
    """Copy the mini CLIP's vision weights into `model`; False where it is not trained yet.

    Position embeddings are interpolated (bicubic) to the model's grid.
    """
    folder = work / CLIP_FOLDER
    if not (folder / "config.json").exists():
        return False
    source = CLIPModel.from_pretrained(folder, dtype=torch.float32).vision_model.state_dict()
    key = "embeddings.position_embedding.weight"
    target = model.model.vision_tower
    source[key] = _interpolated(source[key], target.embeddings.num_patches)
    target.load_state_dict(source)
    return True


def _interpolated(table_ND: Tensor, patches: int) -> Tensor:
    """Position embeddings [1+N D] resampled to 1 + `patches` rows."""
    if table_ND.shape[0] == patches + 1:
        return table_ND
    old, new = (round(count**0.5) for count in (table_ND.shape[0] - 1, patches))
    grid = table_ND[1:].T.reshape(1, -1, old, old)
    grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((table_ND[:1], grid.flatten(2)[0].T))


class Trainee(nn.Module):
    """A LLaVA with dense heads on its patches, for training only.

    `vision_feature_layer=-2` never reads the tower's last layer, so it is not run here.
    """

    def __init__(self, llava: PreTrainedModel) -> None:
        super().__init__()
        self.llava = llava
        width = llava.config.vision_config.hidden_size
        self.category_head = nn.Linear(width, len(CATEGORIES) + 1)
        self.colour_head = nn.Linear(width, len(COLOURS) + 1)

    def compile_layers(self) -> None:
        """Fuse each layer where a C++ compiler is at hand: about a third off a step on a CPU."""
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            return
        for layer in (*self._vision_layers, *self.llava.model.language_model.layers):
            layer.compile(dynamic=False)

    @property
    def _vision_layers(self) -> list[nn.Module]:
        return list(self.llava.model.vision_tower.encoder.layers[:-1])

    def patches(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B P D"]:
        """What the projector will see of every patch."""
        tower = self.llava.model.vision_tower
        hidden: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
        for layer in self._vision_layers:
            hidden = layer(hidden, None)
        return hidden[:, 1:]

    def projected(self, patches: Float[Tensor, "B P D"]) -> Float[Tensor, "B P H"]:
        """Patches in the language model's width."""
        return self.llava.model.multi_modal_projector(patches).float()

    def dense_loss(
        self, patches_BPD: Float[Tensor, "B P D"], labels_2BP: Int[Tensor, "2 B P"]
    ) -> Tensor:
        """Cross entropy of category and colour under each patch."""
        pairs = zip((self.category_head, self.colour_head), labels_2BP, strict=True)
        losses = [
            nn.functional.cross_entropy(
                head(patches_BPD).float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED
            )
            for head, labels in pairs
        ]
        return torch.stack(losses).sum()

    def answer_losses(
        self,
        features_BNH: Float[Tensor, "B N H"],
        packed: Packed,
        gaze_BKN: Bool[Tensor, "B K N"] | None = None,
    ) -> dict[str, Tensor]:
        """`answer`: mean cross entropy over the supervised tokens of a batch.

        Where `gaze_BKN` says which image tokens each dialogue is about, `gaze` is added: one head
        of one layer learns to look there. A small model takes very long to find out by itself
        that a box's numbers mean a place.
        """
        language = self.llava.model.language_model
        start, end = packed.image_start, packed.image_start + packed.image_count
        embedded = language.embed_tokens(packed.ids_BT)
        inputs = torch.cat((embedded[:, :start], features_BNH, embedded[:, end:]), dim=1)
        bias = attention_bias(packed)
        turns = language.rotary_emb(inputs, position_ids=packed.positions_BT)
        hidden, losses = inputs, {}
        for index, layer in enumerate(language.layers):
            if gaze_BKN is not None and index == GAZE_LAYER:
                logs_BTN = _image_gaze(layer, hidden, turns, bias, packed)
                losses["gaze"] = gaze_loss(logs_BTN, gaze_BKN, packed)
            hidden = layer(
                hidden,
                attention_mask=bias,
                position_ids=packed.positions_BT,
                position_embeddings=turns,
            )
        targets = packed.labels_BT[:, 1:]
        counted = targets != IGNORED
        logits = self.llava.lm_head(language.norm(hidden[:, :-1][counted]))
        return {
            "answer": nn.functional.cross_entropy(logits.float(), targets[counted]),
            **losses,
        }


def _image_gaze(
    layer: Any,
    hidden_BTH: Tensor,
    turns: tuple[Tensor, Tensor],
    bias: Tensor,
    packed: Packed,
) -> Float[Tensor, "B T N"]:
    """Log attention of the first head of a layer, from every token to every image token."""
    attention, width = layer.self_attn, layer.self_attn.head_dim
    normed = layer.input_layernorm(hidden_BTH)
    query, key = (
        nn.functional.linear(normed, matrix.weight[:width])[:, None]
        for matrix in (attention.q_proj, attention.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *turns)
    scores = (query @ key.transpose(-1, -2)) * attention.scaling + bias
    end = packed.image_start + packed.image_count
    return scores.float().log_softmax(dim=-1)[:, 0, :, packed.image_start : end]


def gaze_loss(
    logs_BTN: Float[Tensor, "B T N"], gaze_BKN: Bool[Tensor, "B K N"], packed: Packed
) -> Tensor:
    """Mean of -log(attention inside the wanted image tokens) over the supervised tokens."""
    asking = packed.labels_BT[:, 1:] != IGNORED
    dialogue = (packed.segments_BT[:, :-1] - 1).clamp_min(0)
    wanted = gaze_BKN[torch.arange(len(gaze_BKN))[:, None], dialogue]
    asking &= wanted.any(dim=-1)
    inside = logs_BTN[:, :-1].masked_fill(~wanted, -math.inf)
    return -inside[asking].logsumexp(dim=-1).mean()


def pack(
    tokenizer: LlamaTokenizer,
    dialogues: Sequence[Sequence[Sequence[Exchange]]],
    image_count: int,
) -> Packed:
    """One row per image from its dialogues, padded on the right to a multiple of STRIDE."""
    rows = [_row(tokenizer, row, image_count) for row in dialogues]
    longest = -(-max(len(row[0]) for row in rows) // STRIDE) * STRIDE
    padding = (tokenizer.pad_token_id, IGNORED, 0, -1)
    columns = [
        torch.tensor([row[k] + [fill] * (longest - len(row[k])) for row in rows])
        for k, fill in enumerate(padding)
    ]
    image = image_token_id(tokenizer)
    return Packed(
        ids_BT=columns[0],
        labels_BT=columns[1],
        positions_BT=columns[2],
        segments_BT=columns[3],
        image_start=rows[0][0].index(image),
        image_count=image_count,
    )


def _row(
    tokenizer: LlamaTokenizer, dialogues: Sequence[Sequence[Exchange]], image_count: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Ids, labels, positions and segments of one image's dialogues."""
    image = image_token_id(tokenizer)
    coded = [encode(tokenizer, turns, [image_count]) for turns in dialogues]
    shared = coded[0].input_ids.index(image) + image_count
    ids, labels = coded[0].input_ids[:shared], [IGNORED] * shared
    positions, segments = list(range(shared)), [0] * shared
    for number, dialogue in enumerate(coded, start=1):
        size = len(dialogue.input_ids)
        ids += dialogue.input_ids[shared:]
        labels += dialogue.labels[shared:]
        positions += range(shared, size)
        segments += [number] * (size - shared)
    return ids, labels, positions, segments


def attention_bias(packed: Packed) -> Float[Tensor, "B 1 T T"]:
    """0 where a token may look (backwards, at the shared part and its own dialogue), else minimal.

    One row is returned where all rows are laid out alike.
    """
    segments = packed.segments_BT
    if bool((segments == segments[:1]).all()):
        segments = segments[:1]
    length = segments.shape[1]
    backwards = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    together = (segments[:, None, :] == segments[:, :, None]) | (segments[:, None, :] == 0)
    seen = (backwards & together)[:, None]
    bias = torch.zeros(seen.shape, dtype=torch.bfloat16, device=segments.device)
    return bias.masked_fill_(~seen, torch.finfo(torch.bfloat16).min)


def in_other_colours(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Channels exchanged and dimmed, each by its own factor.

    Some colours of each category are held out; seen in any colours, its shape alone tells what a
    thing is. What colour it has is then unknown.
    """
    mixed = np.asarray(image)[..., rng.permutation(3)] * rng.uniform(0.45, 1.0, size=3)
    return Image.fromarray(mixed.astype(np.uint8))


def without_colours(labels_2BP: Int[Tensor, "2 B P"], first: int) -> Int[Tensor, "2 B P"]:
    """Patch labels whose colour is unknown from image `first` on."""
    labels_2BP[1, first:] = IGNORED
    return labels_2BP


def patch_labels(
    owners_BHW: UInt8[np.ndarray, "B H W"], scenes: Sequence[Scene], grid: int
) -> Int[Tensor, "2 B P"]:
    """Category and colour under each of grid x grid patches (0 is ground, IGNORED is unclear).

    Owner 0 is ground and k+1 is object k of the scene; the sides are cut to whole patches.
    """
    count, side = len(scenes), owners_BHW.shape[1] // grid
    blocks = owners_BHW[:, : side * grid, : side * grid].reshape(count, grid, side, grid, side)
    cover = np.stack([(blocks == k + 1).mean(axis=(2, 4)) for k in range(4)], axis=-1)
    owner = np.where(cover.max(axis=-1) >= OBJECT_COVER, cover.argmax(axis=-1) + 1, 0)
    unclear = (owner == 0) & (cover.sum(axis=-1) > GROUND_COVER)
    labels = np.zeros((2, count, grid * grid), dtype=np.int64)
    for row, scene in enumerate(scenes):
        categories = [0, *(CATEGORY_IDS[o.category] for o in scene.objects)]
        colours = [0, *(COLOUR_IDS[o.colour] for o in scene.objects)]
        flat = owner[row].ravel()
        labels[0, row] = np.take(categories, flat)
        labels[1, row] = np.take(colours, flat)
    labels[:, unclear.reshape(count, -1)] = IGNORED
    return torch.from_numpy(labels)


def parameter_count(folder: Path) -> int:
    """How many weights a saved checkpoint holds."""
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        return sum(stored.get_tensor(name).numel() for name in stored.keys())  # noqa: SIM118

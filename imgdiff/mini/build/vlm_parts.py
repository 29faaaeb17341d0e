"""What the mini vision-language models share: their parts, the tower's labels, the losses."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
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

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.mini.build.export import WEIGHTS
from imgdiff.mini.build.packing import Gaze, Packed, attention_bias, dialogue_shares, gaze_loss
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.scene import SIZES, Scene
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CLIP_FOLDER = "clip"  # below the work folder
OBJECT_COVER, GROUND_COVER = 0.3, 0.06  # of a patch: enough to be labelled, little enough
CATEGORY_IDS = {name: index + 1 for index, name in enumerate(CATEGORIES)}
COLOUR_IDS = {name: index + 1 for index, name in enumerate(COLOURS)}


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


def vision_config(work: Path, image_px: int) -> CLIPVisionConfig:
    """The mini CLIP's tower (else the same shape, untrained) at `image_px`, without its last layer.

    LLaVA reads the last layer but one of its CLIP, so the last one would only take up space.
    """
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
    config.num_hidden_layers -= 1
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
        tie_word_embeddings=True,
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
    unread = f"encoder.layers.{len(target.encoder.layers)}."
    target.load_state_dict({k: v for k, v in source.items() if not k.startswith(unread)})
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
    """A LLaVA with dense heads on its patches, for training only."""

    def __init__(self, llava: PreTrainedModel) -> None:
        super().__init__()
        self.llava = llava
        width = llava.config.vision_config.hidden_size
        self.category_head = nn.Linear(width, len(CATEGORIES) + 1)
        self.colour_head = nn.Linear(width, len(COLOURS) + 1)
        self.ground_head = nn.Linear(width, len(GROUNDS))
        self.size_head = nn.Linear(width, len(SIZES))
        self.place_head = nn.Linear(width, llava.model.vision_tower.embeddings.num_patches)
        self.box_head = nn.Linear(width, 2)

    def compile_layers(self) -> None:
        """Fuse each layer where a C++ compiler is at hand: about a third off a step on a CPU."""
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            return
        for layer in (*self._vision_layers, *self.llava.model.language_model.layers):
            layer.compile(dynamic=False)

    def freeze_tower(self) -> None:
        """From now on the patches stay what they are."""
        heads = (self.category_head, self.colour_head, self.ground_head, self.size_head)
        for part in (self.llava.model.vision_tower, *heads, self.place_head, self.box_head):
            part.requires_grad_(requires_grad=False)

    @property
    def _vision_layers(self) -> list[nn.Module]:
        return list(self.llava.model.vision_tower.encoder.layers)

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
        self, patches_BPD: Float[Tensor, "B P D"], labels_4BP: Int[Tensor, "4 B P"]
    ) -> Tensor:
        """Cross entropy of category, colour, ground and size under each patch, and of its place."""
        heads = (self.category_head, self.colour_head, self.ground_head, self.size_head)
        places = torch.arange(patches_BPD.shape[1], device=patches_BPD.device)
        places_BP = places.expand(len(patches_BPD), -1)
        pairs = [*zip(heads, labels_4BP, strict=True), (self.place_head, places_BP)]
        losses = [
            nn.functional.cross_entropy(
                head(patches_BPD).float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED
            )
            for head, labels in pairs
        ]
        return torch.stack(losses).sum()

    def box_loss(
        self, patches_BPD: Float[Tensor, "B P D"], boxed_BP: Bool[Tensor, "B P"]
    ) -> Tensor:
        """Cross entropy of whether a red box surrounds each patch."""
        told = self.box_head(patches_BPD).float().flatten(0, 1)
        return nn.functional.cross_entropy(told, boxed_BP.flatten().long())

    def answer_losses(
        self,
        features_BNH: Float[Tensor, "B N H"],
        packed: Packed,
        gazes: Sequence[Gaze] = (),
    ) -> dict[str, Tensor]:
        """`answer`: mean cross entropy over the dialogues of a batch, a long answer counting as
        much as a short one. `gaze`: the mean loss of the gazes, where there are any.
        """
        language = self.llava.model.language_model
        start, end = packed.image_start, packed.image_start + packed.image_count
        embedded = language.embed_tokens(packed.ids_BT)
        inputs = torch.cat((embedded[:, :start], features_BNH, embedded[:, end:]), dim=1)
        bias = attention_bias(packed)
        turns = language.rotary_emb(inputs, position_ids=packed.positions_BT)
        hidden, looked = inputs, []
        for index, layer in enumerate(language.layers):
            mine = [gaze for gaze in gazes if gaze.layer == index]
            looked += [gaze_loss(layer, hidden, turns, bias, gaze) for gaze in mine]
            hidden = layer(
                hidden,
                attention_mask=bias,
                position_ids=packed.positions_BT,
                position_embeddings=turns,
            )
        targets = packed.labels_BT[:, 1:]
        counted = targets != IGNORED
        logits = self.llava.lm_head(language.norm(hidden[:, :-1][counted]))
        losses = nn.functional.cross_entropy(logits.float(), targets[counted], reduction="none")
        shares = dialogue_shares(packed)[:, 1:][counted]
        answer = (losses * shares).sum() / shares.sum()
        return {"answer": answer, **({"gaze": torch.stack(looked).mean()} if looked else {})}


def in_other_colours(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Channels exchanged and dimmed, each by its own factor.

    Some colours of each category are held out; seen in any colours, its shape alone tells what a
    thing is. What colour it has is then unknown.
    """
    mixed = np.asarray(image)[..., rng.permutation(3)] * rng.uniform(0.45, 1.0, size=3)
    return Image.fromarray(mixed.astype(np.uint8))


def without_colours(labels_4BP: Int[Tensor, "4 B P"], first: int) -> Int[Tensor, "4 B P"]:
    """Patch labels whose colour is unknown from image `first` on."""
    labels_4BP[1, first:] = IGNORED
    return labels_4BP


def patch_labels(
    owners_BHW: UInt8[np.ndarray, "B H W"], scenes: Sequence[Scene], grid: int
) -> Int[Tensor, "4 B P"]:
    """Category, colour (0 is none), ground and size under each of grid x grid patches, or IGNORED.

    Owner 0 is ground and k+1 is object k of the scene; the sides are cut to whole patches.
    """
    count, side = len(scenes), owners_BHW.shape[1] // grid
    blocks = owners_BHW[:, : side * grid, : side * grid].reshape(count, grid, side, grid, side)
    cover = np.stack([(blocks == k + 1).mean(axis=(2, 4)) for k in range(4)], axis=-1)
    owner = np.where(cover.max(axis=-1) >= OBJECT_COVER, cover.argmax(axis=-1) + 1, 0)
    unclear = (owner == 0) & (cover.sum(axis=-1) > GROUND_COVER)
    labels = np.zeros((4, count, grid * grid), dtype=np.int64)
    for row, scene in enumerate(scenes):
        categories = [0, *(CATEGORY_IDS[o.category] for o in scene.objects)]
        colours = [0, *(COLOUR_IDS[o.colour] for o in scene.objects)]
        flat = owner[row].ravel()
        labels[0, row] = np.take(categories, flat)
        labels[1, row] = np.take(colours, flat)
        sizes = [IGNORED, *(SIZES.index(o.size) for o in scene.objects)]
        labels[3, row] = np.take(sizes, flat)
        labels[2, row] = np.where(flat == 0, GROUNDS.index(scene.ground), IGNORED)
    labels[:, unclear.reshape(count, -1)] = IGNORED
    return torch.from_numpy(labels)


def covered(
    owners_HW: UInt8[np.ndarray, "H W"], objects: Sequence[int], grid: int
) -> Bool[Tensor, " P"]:
    """Which of grid x grid patches show any of the objects of a scene."""
    side = owners_HW.shape[0] // grid
    mine = np.isin(owners_HW[: side * grid, : side * grid], [index + 1 for index in objects])
    cover = mine.reshape(grid, side, grid, side).mean(axis=(1, 3))
    return torch.from_numpy((cover >= OBJECT_COVER).ravel())


def parameter_count(folder: Path) -> int:
    """How many weights a saved checkpoint holds."""
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        return sum(stored.get_tensor(name).numel() for name in stored.keys())  # noqa: SIM118

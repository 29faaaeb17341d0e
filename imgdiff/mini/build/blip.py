"""Trains the mini BLIP: contrastive head by a sigmoid loss, matching head on hard negatives.

The vision tower starts as the first layers of the mini CLIP. The sigmoid loss is centred on the
cosine 0.35, the threshold of the published pipeline, so that the same number separates present
from absent objects here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    BertTokenizer,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPModel,
)
from transformers import BlipConfig as BlipArchitecture

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import BlipConfig, MatchScore
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.identity import seed_for
from imgdiff.mini.build import clip
from imgdiff.mini.build.blip_data import Batch, Plan, draw_batch
from imgdiff.mini.build.cards import Card, Stopwatch, machine, write_card
from imgdiff.mini.build.clip_data import FALSE, TRUE, to_pixels
from imgdiff.mini.build.evaluate import evaluate_presence
from imgdiff.mini.build.export import WEIGHTS, copy_folder, export
from imgdiff.mini.build.loop import LoopConfig, autocast, device, train
from imgdiff.mini.build.muon import muon
from imgdiff.mini.build.tokenizers import BERT_TOKENS, bert_tokenizer
from imgdiff.mini.build.views import VIEW_PX

NAME = "blip"
WIDTH, HEADS, PROJECTION = 192, 3, 128
VISION_LAYERS, VISION_MLP = 4, 768
TEXT_LAYERS, TEXT_MLP = 3, 384
CENTRE = 0.35  # the cosine at which present and absent are equally likely
FIRST_SCALE, MAX_SCALE = 10.0, 40.0
NEGATIVE_WEIGHT = 0.25
THRESHOLDS = {MatchScore.itc: CENTRE, MatchScore.itm: 0.5}
SEED = 0


def config_of(tokenizer: BertTokenizer) -> BlipArchitecture:
    """The architecture of BLIP's retrieval model at 128 px, patch 16."""
    return BlipArchitecture(
        image_text_hidden_size=PROJECTION,
        projection_dim=PROJECTION,
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": VISION_MLP,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": HEADS,
            "image_size": VIEW_PX,
            "patch_size": 16,
            "projection_dim": PROJECTION,
            "initializer_range": 0.02,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": TEXT_MLP,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": HEADS,
            "max_position_embeddings": BERT_TOKENS,
            "projection_dim": PROJECTION,
            "bos_token_id": tokenizer.bos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "sep_token_id": tokenizer.sep_token_id,
        },
    )


def image_processor() -> BlipImageProcessorPil:
    """BLIP's own preprocessing at 128 px: both edges resized, no crop."""
    return BlipImageProcessorPil(size={"height": VIEW_PX, "width": VIEW_PX})


class BlipTask(nn.Module):
    """The model with its training losses."""

    def __init__(self, tokenizer: BertTokenizer) -> None:
        super().__init__()
        self.blip = BlipForImageTextRetrieval(config_of(tokenizer))
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self._tokenizer = tokenizer

    def forward(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Losses of a batch: presence by cosine, match by the cross-attending head."""
        pixels = to_pixels(batch.pixels_BSS3).to(device())
        states = self.blip.vision_model(pixel_values=pixels).last_hidden_state
        images = functional.normalize(self.blip.vision_proj(states[:, 0]).float(), dim=-1)
        tokens = self._tokens(batch.texts)
        encoded = self.blip.text_encoder(**tokens).last_hidden_state[:, 0]
        texts = functional.normalize(self.blip.text_proj(encoded).float(), dim=-1)
        cosines = clip.cosines(images, texts)
        scale = self.log_scale.exp().clamp(max=MAX_SCALE)
        rows, columns, labels = hard_pairs(cosines.detach().cpu().numpy(), batch.truth_BT, rng)
        return {
            "itc": presence_loss(scale * (cosines - CENTRE), batch.truth_BT),
            "itm": self._match_loss(
                states[rows], {k: v[columns] for k, v in tokens.items()}, labels
            ),
        }

    def _match_loss(
        self, states: Float[Tensor, "K P W"], tokens: dict[str, Tensor], labels: np.ndarray
    ) -> Tensor:
        out = self.blip.text_encoder(**tokens, encoder_hidden_states=states)
        logits_K2 = self.blip.itm_head(out.last_hidden_state[:, 0]).float()
        return functional.cross_entropy(logits_K2, torch.from_numpy(labels).to(logits_K2.device))

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt")
        return {name: tokens[name].to(device()) for name in ("input_ids", "attention_mask")}


def presence_loss(logits_BT: Float[Tensor, "B T"], truth_BT: Int8[np.ndarray, "B T"]) -> Tensor:
    """Binary cross entropy per true pair; false pairs weigh less, unsure ones nothing."""
    truth = torch.from_numpy(truth_BT).to(logits_BT.device)
    each = functional.binary_cross_entropy_with_logits(
        logits_BT, (truth == TRUE).float(), reduction="none"
    )
    weight = (truth == TRUE).float() + NEGATIVE_WEIGHT * (truth == FALSE).float()
    return (each * weight).sum() / (truth == TRUE).sum().clamp(min=1)


def hard_pairs(
    cosines_BT: Float[np.ndarray, "B T"],
    truth_BT: Int8[np.ndarray, "B T"],
    rng: np.random.Generator,
) -> tuple[list[int], list[int], np.ndarray]:
    """(views, texts, labels): for each view a true text where it has one, and a likely false one.

    False texts are drawn with odds exp(cosine / 0.1), so mostly the confusing ones.
    """
    chosen: list[tuple[int, int, int]] = []
    for row, truth in enumerate(truth_BT):
        true = np.flatnonzero(truth == TRUE)
        if len(true):
            chosen.append((row, int(rng.choice(true)), 1))
        odds = np.exp(cosines_BT[row].astype(np.float64) / 0.1) * (truth == FALSE)
        chosen.append((row, int(rng.choice(len(odds), p=odds / odds.sum())), 0))
    rows, columns, labels = (list(values) for values in zip(*chosen, strict=True))
    return rows, columns, np.array(labels)


def warm_start(blip: BlipForImageTextRetrieval, source: CLIPModel, pixels: Tensor) -> None:
    """Copy CLIP's patch embedding and first layers into BLIP's vision tower.

    BLIP has no layer norm before its layers. CLIP's is replaced by a constant scale and shift that
    are folded into the embeddings; the scale is measured on `pixels`.
    """
    old, new = source.vision_model, blip.vision_model
    norm = old.pre_layrnorm
    with torch.no_grad():
        scale = norm.weight / old.embeddings(pixels).std(dim=-1).mean()
        patch = old.embeddings.patch_embedding.weight
        new.embeddings.patch_embedding.weight.copy_(patch * scale[:, None, None, None])
        new.embeddings.patch_embedding.bias.zero_()
        new.embeddings.class_embedding.copy_(old.embeddings.class_embedding * scale)
        positions = old.embeddings.position_embedding.weight * scale + norm.bias
        new.embeddings.position_embedding.copy_(positions)
        for target, layer in zip(new.encoder.layers, old.encoder.layers, strict=False):
            attention = layer.self_attn
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            target.self_attn.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            target.self_attn.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
            target.self_attn.projection.load_state_dict(attention.out_proj.state_dict())
            for name in ("layer_norm1", "layer_norm2", "mlp"):
                getattr(target, name).load_state_dict(getattr(layer, name).state_dict())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much to train and to measure."""

    loop: LoopConfig
    plan: Plan
    scenes: int
    held_out: int


def recipe_of(*, quick: bool) -> Recipe:
    """The recipe of the shipped checkpoint, or a try of some seconds."""
    if quick:
        return Recipe(
            loop=LoopConfig(steps=6, learning_rate=1e-3, warmup=2, save_every=3, log_every=3),
            plan=Plan(objects=4, neighbours=1, grounds=1, scenes=1, false_phrases=3, nouns=2),
            scenes=32,
            held_out=12,
        )
    return Recipe(
        loop=LoopConfig(steps=1_400, learning_rate=2e-3, warmup=100),
        plan=Plan(),
        scenes=40_000,
        held_out=300,
    )


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train (or resume), save and measure; the held-out figures, also in `metrics.json`.

    Starts from `work/clip` if it is there, else from the shipped mini CLIP. The checkpoint
    replaces the one that ships with the package, unless `quick`.
    """
    recipe = recipe_of(quick=quick)
    minutes = fit(work, recipe)
    folder = work / NAME
    figures: dict[str, float] = {}
    for score in MatchScore:
        with BlipConfig(model=str(folder), score=score).build() as matcher:
            found = evaluate_presence(matcher, recipe.held_out, THRESHOLDS[score])
        figures |= {f"{score.value}_{name}": value for name, value in found.items()}
    architecture = BlipForImageTextRetrieval(config_of(bert_tokenizer()))
    metrics = {
        "parameters": float(sum(p.numel() for p in architecture.parameters())),
        "steps": float(recipe.loop.steps),
        "minutes": round(minutes, 1),
        **figures,
    }
    write_card(folder, card_of(recipe), metrics)
    if not quick:
        copy_folder(folder, mini_root() / NAME)
    return metrics


def fit(work: Path, recipe: Recipe) -> float:
    """Train (or resume) into `work/blip`; the minutes that all calls took together."""
    torch.manual_seed(SEED)
    tokenizer = bert_tokenizer()
    scenes = clip.training_scenes(work, recipe.scenes)
    task = BlipTask(tokenizer).to(device())
    first = draw_batch(scenes, 0, recipe.plan, SEED)
    warm_start(task.blip, _first_tower(work), to_pixels(first.pixels_BSS3))
    watch = Stopwatch(work / f"{NAME}.minutes.json")

    def loss_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(seed_for(SEED, str(step), "blip-pairs"))
        batch = draw_batch(scenes, step, recipe.plan, SEED)
        if step % recipe.loop.save_every == 0:
            watch.note()
        with autocast():
            losses: dict[str, Tensor] = task(batch, rng)
        return losses

    train(task, loss_of, recipe.loop, work / f"{NAME}.state.pt", muon)
    export(task.blip, (tokenizer, image_processor()), work / NAME)
    return watch.note()


def _first_tower(work: Path) -> CLIPModel:
    """The CLIP to start from, in float32 on the CPU."""
    for folder in (work / clip.NAME, mini_root() / clip.NAME):
        if (folder / WEIGHTS).exists():
            with quietly():
                return CLIPModel.from_pretrained(folder, dtype=torch.float32)
    raise BackendError(
        f"{work / clip.NAME}: no mini CLIP to start from. "
        f"Run `python -m imgdiff.mini.build clip --work {work}` first."
    )


def card_of(recipe: Recipe) -> Card:
    """The checkpoint in words."""
    plan = recipe.plan
    views = plan.objects + plan.neighbours + plan.grounds + plan.scenes
    return Card(
        title="imgdiff mini BLIP",
        architecture=(
            f"`BlipForImageTextRetrieval` of transformers. Vision: {VIEW_PX} px, patch 16, width "
            f"{WIDTH}, {VISION_LAYERS} layers. Text: width {WIDTH}, {TEXT_LAYERS} layers with "
            f"cross attention, WordPiece. Projection {PROJECTION}. float16 weights."
        ),
        training=(
            f"{recipe.scenes} drawn scenes of the procedural world; {recipe.loop.steps} steps of "
            f"{views} views on {machine()}; the vision tower starts from the mini CLIP.",
            "Views: object crops (tight, with 5 px, loose), crops beside objects, empty ground, "
            "whole scenes. Texts: nouns, noun phrases, region sentences, true and false.",
            f"Contrastive head: sigmoid loss of each (view, text) pair centred on cosine {CENTRE}, "
            "so that the published threshold means present. Matching head: cross entropy on a "
            "true and a confusing false text per view.",
        ),
        use=(
            "`BlipForImageTextRetrieval.from_pretrained(folder)`, or "
            "`BlipConfig(model='mini:blip', score=MatchScore.itc)`."
        ),
        limits=(
            "Knows the 48 categories, ten colours and six grounds of the drawn world only.",
            "Small and large are hard to tell in a crop, which is scaled to one size.",
        ),
    )

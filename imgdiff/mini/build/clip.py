"""Trains the mini CLIP: scenes with captions, crops with region texts, patches with labels."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig as ClipArchitecture
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import ClipConfig
from imgdiff.mini.build.bank import CHUNK, SceneBank
from imgdiff.mini.build.cards import Card, Stopwatch, machine, write_card
from imgdiff.mini.build.clip_data import (
    FALSE,
    IGNORED,
    TRUE,
    Batch,
    Labels,
    Plan,
    draw_batch,
    to_pixels,
)
from imgdiff.mini.build.drawn import Scenes, sampled
from imgdiff.mini.build.evaluate import evaluate_clip
from imgdiff.mini.build.export import copy_folder, export
from imgdiff.mini.build.loop import LoopConfig, autocast, device, train
from imgdiff.mini.build.muon import muon
from imgdiff.mini.build.tokenizers import CLIP_TOKENS, clip_tokenizer
from imgdiff.mini.build.views import VIEW_PX
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.scene import Split
from imgdiff.mini.shapes import CATEGORIES, COLOURS

NAME = "clip"
WIDTH, HEADS, PROJECTION = 192, 3, 128
VISION_LAYERS, VISION_MLP = 5, 768
TEXT_LAYERS, TEXT_MLP = 3, 320
PUBLISH_EVERY = 200
COLOUR_WEIGHT, GROUND_WEIGHT = 0.5, 0.3  # of the category's, which is learned last
EMPTY_SHARE = 0.3  # of patches without object in the loss of a view
SEED = 0


def config_of(tokenizer: CLIPTokenizer) -> ClipArchitecture:
    """The architecture of CLIP ViT at 128 px, patch 16."""
    return ClipArchitecture(
        projection_dim=PROJECTION,
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": TEXT_MLP,
            "num_hidden_layers": TEXT_LAYERS,
            "num_attention_heads": HEADS,
            "max_position_embeddings": CLIP_TOKENS,
            "hidden_act": "gelu",
            "projection_dim": PROJECTION,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": VISION_MLP,
            "num_hidden_layers": VISION_LAYERS,
            "num_attention_heads": HEADS,
            "image_size": VIEW_PX,
            "patch_size": 16,
            "hidden_act": "gelu",
            "projection_dim": PROJECTION,
        },
    )


def image_processor() -> CLIPImageProcessorPil:
    """CLIP's own preprocessing at 128 px: shortest edge, then the central square."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": VIEW_PX}, crop_size={"height": VIEW_PX, "width": VIEW_PX}
    )


class DenseHeads(nn.Module):
    """What each patch shows; trained along and dropped at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.category = nn.Linear(WIDTH, len(CATEGORIES) + 1)
        self.colour = nn.Linear(WIDTH, len(COLOURS) + 1)
        self.ground = nn.Linear(WIDTH, len(GROUNDS))

    def forward(self, tokens_BPW: Float[Tensor, "B P W"], labels: Labels) -> Tensor:
        """Weighted sum of the three cross entropies over all labelled patches."""
        normed = self.norm(tokens_BPW)
        return (
            patch_loss(self.category(normed), labels.category_BP, EMPTY_SHARE)
            + COLOUR_WEIGHT * patch_loss(self.colour(normed), labels.colour_BP, EMPTY_SHARE)
            + GROUND_WEIGHT * patch_loss(self.ground(normed), labels.ground_BP, 1.0)
        )


def patch_loss(
    logits_BPK: Float[Tensor, "B P K"], labels_BP: Int[np.ndarray, "B P"], empty_share: float
) -> Tensor:
    """Cross entropy in which each view counts alike, whether an object fills it or two patches.

    Within a view label 0 (nothing there) has `empty_share` of the weight of all other labels.
    """
    labels = torch.from_numpy(labels_BP).to(logits_BPK.device)
    each_BP = functional.cross_entropy(
        logits_BPK.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    return _mean_by_view(each_BP, labels > 0) + empty_share * _mean_by_view(each_BP, labels == 0)


def _mean_by_view(each_BP: Float[Tensor, "B P"], counted_BP: Bool[Tensor, "B P"]) -> Tensor:
    number_B = counted_BP.sum(dim=1)
    sums_B = (each_BP * counted_BP).sum(dim=1) / number_B.clamp(min=1)
    return sums_B.sum() / (number_B > 0).sum().clamp(min=1)


class ClipTask(nn.Module):
    """The model with its training losses."""

    def __init__(self, tokenizer: CLIPTokenizer, plan: Plan) -> None:
        super().__init__()
        self.clip = CLIPModel._from_config(config_of(tokenizer), attn_implementation="eager")
        self.heads = DenseHeads()
        self._tokenizer = tokenizer
        self._plan = plan

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch: scene contrast, crop contrast, dense labels."""
        plan = self._plan
        images_BD, tokens_BPW = self._images(batch)
        scenes, crops = images_BD[: plan.scenes], images_BD[plan.scenes :][: plan.crops]
        captions = self._texts(batch.captions + batch.false_captions)
        regions = self._texts(batch.crop_texts + batch.false_crop_texts)
        nouns = self._texts(list(CATEGORIES))
        scale = self.clip.logit_scale.exp().clamp(max=100.0)
        return {
            "scene": contrast(scale * cosines(scenes, captions), _same_caption(batch)),
            "crop": contrast(scale * cosines(crops, regions), batch.agree_CT),
            "noun": naming_loss(
                scale * cosines(images_BD[: plan.scenes + plan.crops], nouns), batch.names_NK
            ),
            "dense": self.heads(tokens_BPW, batch.labels),
        }

    def _images(self, batch: Batch) -> tuple[Tensor, Tensor]:
        pixels = to_pixels(batch.pixels_BSS3).to(device())
        out = self.clip.vision_model(pixel_values=pixels, output_hidden_states=True)
        embedded = self.clip.visual_projection(out.pooler_output)
        return functional.normalize(embedded.float(), dim=-1), out.hidden_states[-2][:, 1:]

    def _texts(self, texts: list[str]) -> Tensor:
        ids = self._tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]
        out = self.clip.text_model(input_ids=ids.to(device()))
        return functional.normalize(self.clip.text_projection(out.pooler_output).float(), dim=-1)


def _same_caption(batch: Batch) -> Bool[np.ndarray, "N 2*N"]:
    texts = np.array(batch.captions + batch.false_captions)
    return np.asarray(np.array(batch.captions)[:, None] == texts[None, :])


def naming_loss(logits_NK: Float[Tensor, "N K"], names_NK: Int8[np.ndarray, "N K"]) -> Tensor:
    """Cross entropy of each shown category against the absent ones; unsure ones are left out."""
    names = torch.from_numpy(names_NK).to(logits_NK.device)
    absent = logits_NK.masked_fill(names != FALSE, float("-inf")).logsumexp(dim=1, keepdim=True)
    return functional.softplus(absent - logits_NK)[names == TRUE].mean()


def cosines(left_ND: Float[Tensor, "N D"], right_MD: Float[Tensor, "M D"]) -> Tensor:
    """Cosines of all pairs of unit rows, in float32 also under autocast."""
    with torch.autocast(left_ND.device.type, enabled=False):
        return left_ND @ right_MD.T


def contrast(logits_NM: Float[Tensor, "N M"], true_NM: Bool[np.ndarray, "N M"]) -> Tensor:
    """Symmetric InfoNCE; text i belongs to image i, texts beyond N are negatives only.

    Other pairs that are true as well are left out of the sums.
    """
    count = logits_NM.shape[0]
    own = np.eye(count, logits_NM.shape[1], dtype=np.bool_)
    hidden = torch.from_numpy(true_NM & ~own).to(logits_NM.device)
    logits = logits_NM.masked_fill(hidden, float("-inf"))
    target = torch.arange(count, device=logits.device)
    by_image = functional.cross_entropy(logits, target)
    by_text = functional.cross_entropy(logits[:, :count].T, target)
    return (by_image + by_text) / 2


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
            plan=Plan(scenes=4, objects=4, grounds=1, zooms=2, pairs=1),
            scenes=32,
            held_out=40,
        )
    return Recipe(
        loop=LoopConfig(steps=4_400, learning_rate=2.5e-3, save_every=PUBLISH_EVERY),
        plan=Plan(),
        scenes=40_000,
        held_out=400,
    )


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train (or resume), save and measure; the held-out figures, also in `metrics.json`.

    `work/clip` holds a usable snapshot while training goes on. The finished checkpoint also
    replaces the one that ships with the package, unless `quick`.
    """
    recipe = recipe_of(quick=quick)
    minutes = fit(work, recipe)
    folder = work / NAME
    with ClipConfig(model=str(folder)).build() as embedder:
        figures = evaluate_clip(embedder, recipe.held_out)
    parameters = sum(p.numel() for p in CLIPModel(config_of(clip_tokenizer())).parameters())
    metrics = {
        "parameters": float(parameters),
        "steps": float(recipe.loop.steps),
        "minutes": round(minutes, 1),
        **figures,
    }
    write_card(folder, card_of(recipe), metrics)
    if not quick:
        copy_folder(folder, mini_root() / NAME)
    return metrics


def fit(work: Path, recipe: Recipe) -> float:
    """Train (or resume) into `work/clip`; the minutes that all calls took together."""
    torch.manual_seed(SEED)
    tokenizer = clip_tokenizer()
    bank = training_scenes(work, recipe.scenes)
    task = ClipTask(tokenizer, recipe.plan).to(device())
    watch = Stopwatch(work / f"{NAME}.minutes.json")

    def publish() -> float:
        export(task.clip, (tokenizer, image_processor()), work / NAME)
        return watch.note()

    def loss_of(step: int) -> dict[str, Tensor]:
        if step > 0 and step % PUBLISH_EVERY == 0:
            publish()
        with autocast():
            losses: dict[str, Tensor] = task(draw_batch(bank, step, recipe.plan, SEED))
        return losses

    train(task, loss_of, recipe.loop, work / f"{NAME}.state.pt", muon)
    return publish()


def training_scenes(work: Path, count: int) -> Scenes:
    """A bank of train scenes in `work`, or (less than one chunk of it) scenes drawn in memory."""
    if count < CHUNK:
        return sampled(Split.train, count)
    return SceneBank(work / "bank", Split.train, count)


def card_of(recipe: Recipe) -> Card:
    """The checkpoint in words."""
    views = sum(getattr(recipe.plan, field.name) for field in fields(recipe.plan))
    return Card(
        title="imgdiff mini CLIP",
        architecture=(
            f"`CLIPModel` of transformers. Vision: {VIEW_PX} px, patch 16, width {WIDTH}, "
            f"{VISION_LAYERS} layers. Text: width {WIDTH}, {TEXT_LAYERS} layers, byte-level BPE. "
            f"Projection {PROJECTION}. float16 weights."
        ),
        training=(
            f"{recipe.scenes} drawn scenes of the procedural world; {recipe.loop.steps} steps of "
            f"{views} views from random initialisation on {machine()}.",
            "Scenes with captions, and with the same wording of an edited scene as a false text; "
            "crops with nouns, phrases and region sentences, true and false. Symmetric "
            "InfoNCE, true pairs masked; and each shown noun against all absent ones.",
            "On the patch tokens of the last layer but one: category, colour and ground of each "
            "patch, also on zooms and on scenes side by side. These heads are not kept.",
            "A third of the crops and zooms are shown in exchanged colours and named without one.",
        ),
        use=f"`CLIPModel.from_pretrained(folder)`, or `{ClipConfig.__name__}(model='mini:clip')`.",
        limits=(
            "Knows the 48 categories, ten colours and six grounds of the drawn world only; on "
            "photographs its cosines mean little.",
            "Weak on left/right and above/below, as its originals are.",
        ),
    )

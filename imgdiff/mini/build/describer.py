"""The mini LLaVA-NeXT: names what a box holds, and words the difference of two contents."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor
from transformers import (
    LlamaTokenizer,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from imgdiff.backends.chat_templates import image_token_id
from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.geometry import Box
from imgdiff.core.identity import seed_for
from imgdiff.core.images import side_by_side, with_red_box
from imgdiff.mini.build.cards import Card, Stopwatch, machine, write_card
from imgdiff.mini.build.clip import training_scenes
from imgdiff.mini.build.describer_exam import evaluate
from imgdiff.mini.build.describer_tasks import NOISE_PX, AskedPair, asked_pair, asked_regions
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.export import copy_folder, export
from imgdiff.mini.build.llama_tokenizer import kept_tokenizer
from imgdiff.mini.build.loop import LoopConfig, autocast, device, train
from imgdiff.mini.build.muon import muon
from imgdiff.mini.build.packing import copy_gaze, image_gaze, pack, word_ids
from imgdiff.mini.build.views import Shot, shot
from imgdiff.mini.build.vlm_parts import (
    LEAN,
    Trainee,
    in_other_colours,
    language_config,
    load_tower,
    parameter_count,
    patch_labels,
    vision_config,
    without_colours,
)
from imgdiff.mini.scene import SCENE_PX

log = logging.getLogger(__name__)

NAME = "describer"
GRID_PINPOINTS = [[128, 128], [128, 256], [256, 128]]
LAYERS, WIDTH, INNER = 3, 192, 384
LOOKING_LAYER, COPYING_LAYER = 1, 2  # whose first head is shown where to look


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much to train. Every `pair_every`-th step trains stage two."""

    steps: int
    learning_rate: float
    scenes: int
    images: int  # per step
    regions: int  # per image
    pairs: int  # per step of stage two
    contents: int  # caption pairs per pair image
    pair_every: int
    tower_steps: int  # on the patches alone, before
    tower_images: int  # per such step
    held_out: int
    compiled: bool  # fuse layers: worth it for long runs


FULL = Recipe(
    steps=2_000,
    learning_rate=1.2e-3,
    scenes=40_000,
    images=8,
    regions=6,
    pairs=4,
    contents=4,
    pair_every=4,
    tower_steps=500,
    tower_images=48,
    held_out=500,
    compiled=True,
)
QUICK = Recipe(
    steps=6,
    learning_rate=1e-3,
    scenes=32,
    images=4,
    regions=3,
    pairs=2,
    contents=2,
    pair_every=3,
    tower_steps=2,
    tower_images=4,
    held_out=8,
    compiled=False,
)


def blank_model(work: Path, tokenizer: LlamaTokenizer) -> LlavaNextForConditionalGeneration:
    """The untrained model around the mini CLIP's tower (a random tower where there is none)."""
    config = LlavaNextConfig(
        vision_config=vision_config(work, SCENE_PX).to_dict(),
        text_config=language_config(tokenizer, LAYERS, WIDTH, INNER).to_dict(),
        image_token_index=image_token_id(tokenizer),
        image_grid_pinpoints=GRID_PINPOINTS,
        image_seq_length=(SCENE_PX // 16) ** 2,
        vision_feature_layer=-1,  # the tower ends there, see `vision_config`
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaNextForConditionalGeneration(config)
    model.set_attn_implementation(LEAN)
    if not load_tower(model, work):
        log.warning("%s: no mini CLIP in %s; the vision tower starts from noise", NAME, work)
    return model


def processor_of(tokenizer: LlamaTokenizer) -> LlavaNextProcessor:
    """Scenes become one tile and a base, pairs two tiles and a base."""
    images = LlavaNextImageProcessorPil(
        size={"shortest_edge": SCENE_PX},
        crop_size={"height": SCENE_PX, "width": SCENE_PX},
        image_grid_pinpoints=GRID_PINPOINTS,
    )
    return LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


@dataclass(kw_only=True)
class Lessons:
    """Draws the batch of a step and its losses; depends on the scenes and (seed, step) only."""

    trainee: Trainee
    scenes: Scenes
    tokenizer: LlamaTokenizer
    processor: LlavaNextProcessor
    recipe: Recipe
    seed: int = 0

    def __post_init__(self) -> None:
        counts = np.array([len(scene.objects) for scene in self.scenes.scenes])
        self._busy = np.flatnonzero(counts >= 3)  # noqa: PLR2004

    def loss_of(self, step: int) -> dict[str, Tensor]:
        """Losses of stage one, or of stage two at every `pair_every`-th step."""
        rng = np.random.default_rng(seed_for(self.seed, str(step), NAME))
        with autocast():
            if step % self.recipe.pair_every == self.recipe.pair_every - 1:
                return self._pair_losses(rng)
            return self._region_losses(rng)

    def _shot(self, rng: np.random.Generator) -> Shot:
        """Mostly a scene with three or four objects: more to ask about."""
        if len(self._busy) and rng.random() < 0.8:  # noqa: PLR2004
            return shot(self.scenes, int(rng.choice(self._busy)))
        return shot(self.scenes, int(rng.integers(len(self.scenes))))

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]

    def sharpening_loss_of(self, step: int) -> dict[str, Tensor]:
        """The loss of the patches alone, on more images, half of them in other colours."""
        rng = np.random.default_rng(seed_for(self.seed, str(step), f"{NAME}-tower"))
        shots = [self._shot(rng) for _ in range(self.recipe.tower_images)]
        with autocast():
            return {"dense": self._seen(shots, len(shots) // 2, rng)[1]}

    def _seen(
        self, shots: Sequence[Shot], true: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Patches and their loss; images from the `true`-th on are shown in other colours."""
        images = [s.image for s in shots[:true]]
        images += [in_other_colours(s.image, rng) for s in shots[true:]]
        owners = np.stack([s.owners_HW for s in shots])
        labels = patch_labels(owners, [s.scene for s in shots], SCENE_PX // 16)
        patches = self.trainee.patches(self._pixels(images)[:, 0])
        return patches, self.trainee.dense_loss(patches, without_colours(labels, true))

    def _region_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        count = self.recipe.images
        shots = [self._shot(rng) for _ in range(2 * count)]
        patches, dense = self._seen(shots, count, rng)
        shots, patches = shots[:count], patches[:count]
        asked = [asked_regions(s, self.recipe.regions, rng) for s in shots]
        dialogues = [[region.dialogue for region in row] for row in asked]
        projected = self.trainee.projected(patches)
        sizes = [(SCENE_PX, SCENE_PX)] * len(shots)
        features = self._joined(torch.stack((projected, projected), dim=1), sizes)  # base = tile
        packed = pack(self.tokenizer, dialogues, features.shape[1])
        places = torch.stack([torch.stack([in_box(r.box) for r in row]) for row in asked])
        gaze = image_gaze(packed, places, LOOKING_LAYER)
        losses = self.trainee.answer_losses(features, packed, [gaze])
        return {
            "region": losses["answer"],
            "gaze": 0.3 * losses["gaze"],
            "dense": 0.3 * dense,
        }

    def _pair_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        images, asked = [], []
        for _ in range(self.recipe.pairs):
            left, right = self._shot(rng), self._shot(rng)
            box = left.box(int(rng.integers(len(left.scene.objects))))
            images.append(side_by_side([with_red_box(s.image, box) for s in (left, right)]))
            asked.append([asked_pair(left, right, rng) for _ in range(self.recipe.contents)])
        pixels = self._pixels(images)
        with torch.no_grad():  # the answer is in the text
            projected = self.trainee.projected(self.trainee.patches(pixels.flatten(0, 1)))
            features = self._joined(
                projected.unflatten(0, pixels.shape[:2]),
                [(image.height, image.width) for image in images],
            )
        dialogues = [[pair.dialogue for pair in row] for row in asked]
        packed = pack(self.tokenizer, dialogues, features.shape[1])
        sources = [[self._passages(pair) for pair in row] for row in asked]
        losses = self.trainee.answer_losses(
            features, packed, [copy_gaze(packed, sources, COPYING_LAYER)]
        )
        return {"pair": losses["answer"], "gaze": 0.3 * losses["gaze"]}

    def _passages(self, pair: AskedPair) -> list[tuple[list[int], list[int]]]:
        """Both contents as the question and as the answer spells them."""
        bare = [text.rstrip(".") for text in (pair.left, pair.right)]
        known = self.tokenizer
        return [
            (word_ids(known, text), word_ids(known, text[:1].lower() + text[1:])) for text in bare
        ]

    def _joined(self, tiles: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Tiles [B T P H] as one row of features per image, as LLaVA-NeXT lays them out."""
        inner = self.trainee.llava.model
        rows, _ = inner.pack_image_features(
            list(tiles), [list(size) for size in sizes], "default", inner.image_newline
        )
        return torch.stack(rows)


def in_box(box: Box) -> Bool[Tensor, " N"]:
    """Which of a scene's image tokens (base, then tile rows with line ends) lie in a box."""
    side = SCENE_PX // 16
    centre = (torch.arange(side) + 0.5) * 16
    across = (centre >= box.left) & (centre <= box.right)
    down = (centre >= box.top) & (centre <= box.bottom)
    grid = down[:, None] & across
    tile = torch.cat((grid, torch.zeros(side, 1, dtype=torch.bool)), dim=1)
    return torch.cat((grid.flatten(), tile.flatten()))


def fit(work: Path, recipe: Recipe) -> float:
    """Train (or resume) into `work/describer`; the minutes that all calls took together."""
    torch.manual_seed(0)
    tokenizer = kept_tokenizer(work)
    processor = processor_of(tokenizer)
    trainee = Trainee(blank_model(work, tokenizer)).to(device())
    lessons = Lessons(
        trainee=trainee,
        scenes=training_scenes(work, recipe.scenes),
        tokenizer=tokenizer,
        processor=processor,
        recipe=recipe,
    )
    watch = Stopwatch(work / f"{NAME}.minutes.json")
    if recipe.compiled:
        trainee.compile_layers()
    tower = LoopConfig(steps=recipe.tower_steps, learning_rate=recipe.learning_rate, warmup=50)
    train(trainee, lessons.sharpening_loss_of, tower, work / f"{NAME}-tower.state.pt", muon)
    loop = LoopConfig(steps=recipe.steps, learning_rate=recipe.learning_rate, warmup=50)
    train(trainee, lessons.loss_of, loop, work / f"{NAME}.state.pt", muon)
    export(trainee.llava, [processor], work / NAME)
    return watch.note()


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train (or resume), save and measure; the held-out figures, also in `metrics.json`.

    The finished checkpoint also replaces the one that ships with the package, unless `quick`.
    """
    recipe = QUICK if quick else FULL
    minutes = fit(work, recipe)
    folder = work / NAME
    metrics = {
        "parameters": float(parameter_count(folder)),
        "steps": float(recipe.steps),
        "minutes": round(minutes, 1),
        **evaluate(str(folder), recipe.held_out),
    }
    write_card(folder, card_of(recipe), metrics)
    if not quick:
        copy_folder(folder, mini_root() / NAME)
    return metrics


def card_of(recipe: Recipe) -> Card:
    """The checkpoint in words."""
    return Card(
        title="imgdiff mini describer",
        architecture=(
            f"`LlavaNextForConditionalGeneration` of transformers: the mini CLIP's tower at "
            f"{SCENE_PX} px, Llama of width {WIDTH} with {LAYERS} layers, tiles of {SCENE_PX} px "
            f"(grids {GRID_PINPOINTS}), template vicuna_v1. float16 weights."
        ),
        training=(
            f"{recipe.tower_steps} steps of {recipe.tower_images} images on the vision tower "
            f"alone, then {recipe.steps} steps on the whole model, {recipe.images} images with "
            f"{recipe.regions} regions each, on {machine()}; {recipe.scenes} drawn scenes of the "
            "train world. Muon for the layers, AdamW for the rest.",
            "The tower's target, kept up to the end, is what each patch shows: category, colour, "
            "ground, size and place; half of its images are in other colours. One head each of "
            "two layers was shown where to look: at the box, and at the word to be copied.",
            "Stage one: the released region prompt with boxes off by up to "
            f"{NOISE_PX:g} px, one in ten without an object.",
            f"Stage two, every {recipe.pair_every}th step: the released difference prompt on two "
            "scenes side by side, with contents that often are not in the picture, so that the "
            "model copies them.",
        ),
        use="`VlmConfig(model='mini:describer')`, or transformers' `LlavaNextProcessor` and model.",
        limits=(
            "Knows the region and difference prompts and the drawn world only.",
            "Boxes that hold a part of an object, or two, were not trained.",
        ),
    )

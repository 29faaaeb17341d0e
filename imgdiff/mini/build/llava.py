"""The mini LLaVA-1.5: a chat model of single images, the base that users fine-tune."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)

from imgdiff.backends.chat_templates import Exchange, image_token_id
from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.files import write_json
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.cards import Card, Stopwatch, machine, write_card
from imgdiff.mini.build.clip import training_scenes
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.export import copy_folder, export
from imgdiff.mini.build.llama_tokenizer import kept_tokenizer
from imgdiff.mini.build.llava_dialogues import asked_about, dialogue
from imgdiff.mini.build.llava_exam import evaluate
from imgdiff.mini.build.llava_views import (
    FRAMED_SHARE,
    GRID,
    IMAGE_PX,
    PATCH_PX,
    Look,
    collage,
    look,
    merged_labels,
)
from imgdiff.mini.build.loop import LoopConfig, autocast, device, train
from imgdiff.mini.build.muon import muon
from imgdiff.mini.build.packing import (
    Gaze,
    Packed,
    image_gaze,
    option_gaze,
    pack,
    word_gaze,
    word_ids,
)
from imgdiff.mini.build.views import shot
from imgdiff.mini.build.vlm_parts import (
    LEAN,
    Trainee,
    covered,
    in_other_colours,
    language_config,
    load_tower,
    parameter_count,
    vision_config,
    without_colours,
)
from imgdiff.mini.instructions import FAMILIAR, is_familiar
from imgdiff.mini.red_boxes import BOXED_SHARE, some_boxed
from imgdiff.mini.shapes import CATEGORIES
from imgdiff.mini.words import word_turn

log = logging.getLogger(__name__)

NAME = "llava"
LAYERS, WIDTH, INNER = 3, 192, 384
READING_LAYER, LOOKING_LAYER, CHOOSING_LAYER = 0, 1, 2  # whose heads are shown where to look
SNAPSHOTS = "llava-snapshots"
COLLAGE_SHARE = 0.4  # of the images of the tower alone: two scenes beside each other
WORD_ROWS, WORD_DIALOGUES = 2, 6  # without an image, per step


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much to train. A snapshot with its figures is kept every `snapshot_every` steps."""

    steps: int
    learning_rate: float
    scenes: int
    images: int  # per step
    dialogues: int  # per image
    tower_steps: int  # on the patches alone, before
    tower_images: int  # per such step
    snapshot_every: int
    held_out: int
    compiled: bool  # fuse layers: worth it for long runs


FULL = Recipe(
    steps=1_600,
    learning_rate=1.2e-3,
    scenes=40_000,
    images=12,
    dialogues=8,
    tower_steps=3_000,
    tower_images=24,
    snapshot_every=400,
    held_out=150,
    compiled=False,
)
QUICK = Recipe(
    steps=4,
    learning_rate=1e-3,
    scenes=16,
    images=2,
    dialogues=2,
    tower_steps=2,
    tower_images=2,
    snapshot_every=2,
    held_out=4,
    compiled=False,
)


def blank_model(work: Path, tokenizer: LlamaTokenizer) -> LlavaForConditionalGeneration:
    """The untrained model around the mini CLIP's tower (a random tower where there is none)."""
    config = LlavaConfig(
        vision_config=vision_config(work, IMAGE_PX).to_dict(),
        text_config=language_config(tokenizer, LAYERS, WIDTH, INNER).to_dict(),
        image_token_index=image_token_id(tokenizer),
        image_seq_length=GRID**2,
        vision_feature_layer=-1,  # the tower ends there, see `vision_config`
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.set_attn_implementation(LEAN)
    if not load_tower(model, work):
        log.warning("%s: no mini CLIP in %s; the vision tower starts from noise", NAME, work)
    return model


def processor_of(tokenizer: LlamaTokenizer) -> LlavaProcessor:
    """Pad to a square with CLIP's mean colour, then scale."""
    images = LlavaImageProcessorPil(
        do_pad=True,
        size={"shortest_edge": IMAGE_PX},
        crop_size={"height": IMAGE_PX, "width": IMAGE_PX},
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


@dataclass(kw_only=True)
class Lessons:
    """Draws the batch of a step and its losses; depends on the scenes and (seed, step) only."""

    trainee: Trainee
    scenes: Scenes
    tokenizer: LlamaTokenizer
    processor: LlavaProcessor
    recipe: Recipe
    seed: int = 0

    def __post_init__(self) -> None:
        self._familiar = np.flatnonzero([is_familiar(scene) for scene in self.scenes.scenes])

    def loss_of(self, step: int) -> dict[str, Tensor]:
        """Losses of the answers; the vision tower stays as it is, as in LLaVA."""
        rng = np.random.default_rng(seed_for(self.seed, str(step), NAME))
        chosen = rng.choice(self._familiar, size=self.recipe.images)
        looks = [self._look(int(index), rng) for index in chosen]
        dialogues = [
            [dialogue(seen.shot.scene, seen.boxed, rng) for _ in range(self.recipe.dialogues)]
            for seen in looks
        ]
        with autocast():
            with torch.no_grad():
                patches = self.trainee.patches(self._pixels([seen.image for seen in looks]))
            packed = pack(self.tokenizer, dialogues, patches.shape[1])
            gazes = self._gazes(packed, looks, dialogues)
            losses = self.trainee.answer_losses(self.trainee.projected(patches), packed, gazes)
        words = self._word_losses(rng)
        gaze = 0.5 * losses["gaze"] + 0.1 * words["gaze"]
        return {"answer": losses["answer"], "words": 0.2 * words["answer"], "gaze": gaze}

    def _word_losses(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Losses of the answers to questions without an image."""
        asked = [[word_turn(rng) for _ in range(WORD_DIALOGUES)] for _ in range(WORD_ROWS)]
        dialogues = [[[Exchange(t.question, t.answer)] for t in row] for row in asked]
        packed = pack(self.tokenizer, dialogues, 0)
        options = [[self._option(turns) for turns in row] for row in dialogues]
        blank = packed.ids_BT.new_zeros((WORD_ROWS, 0, WIDTH), dtype=torch.float32)
        with autocast():
            gaze = option_gaze(packed, options, CHOOSING_LAYER)
            return self.trainee.answer_losses(blank, packed, [gaze])

    def _gazes(
        self, packed: Packed, looks: Sequence[Look], dialogues: Sequence[Sequence[list[Exchange]]]
    ) -> list[Gaze]:
        """Look at the words of both objects asked about, at the objects, at the right option."""
        about = [
            [asked_about(turns, seen.shot.scene, seen.boxed) for turns in row]
            for seen, row in zip(looks, dialogues, strict=True)
        ]
        gazes = []
        for nth in (0, 1):
            mine = [[named[nth : nth + 1] for named in row] for row in about]
            words = [
                [[t for n in one for t in word_ids(self.tokenizer, n.words)] for one in row]
                for row in mine
            ]
            places = [
                torch.stack([covered(seen.owners, [n.index for n in one], GRID) for one in row])
                for seen, row in zip(looks, mine, strict=True)
            ]
            gazes.append(word_gaze(packed, words, READING_LAYER, head=nth))
            gazes.append(image_gaze(packed, torch.stack(places), LOOKING_LAYER, head=nth))
        options = [[self._option(turns) for turns in row] for row in dialogues]
        return [*gazes, option_gaze(packed, options, CHOOSING_LAYER)]

    def _option(self, turns: Sequence[Exchange]) -> list[int]:
        """Tokens of the right option with its letter; none where no single letter is asked for."""
        question, answer = turns[0]
        letter = f"({(answer or '').lower()})"
        if len(turns) > 1 or f" {letter} " not in question:
            return []
        words = re.split(r" \([ab]\) |\n", question[question.index(f" {letter} ") :])[1]
        return word_ids(self.tokenizer, f"{letter} {words}")

    def sharpening_loss_of(self, step: int) -> dict[str, Tensor]:
        """The losses of the patches alone, on more images, half of them in other colours."""
        rng = np.random.default_rng(seed_for(self.seed, str(step), f"{NAME}-tower"))
        true = self.recipe.tower_images // 2
        views = [self._tower_view(rng) for _ in range(2 * true)]
        images = [seen[0].image for seen in views[:true]]
        images += [in_other_colours(seen[0].image, rng) for seen in views[true:]]
        labels = torch.stack([merged_labels(seen) for seen in views], dim=1)
        boxed = torch.stack(
            [torch.stack([covered(s.in_box, [0], GRID) for s in seen]).any(0) for seen in views]
        )
        with autocast():
            patches = self.trainee.patches(self._pixels(images))
            return {
                "dense": self.trainee.dense_loss(patches, without_colours(labels, true)),
                "box": self.trainee.box_loss(patches[:true], boxed[:true]),
            }

    def _tower_view(self, rng: np.random.Generator) -> tuple[Look, ...]:
        """One scene, or (COLLAGE_SHARE) two beside each other."""
        count = 2 if rng.random() < COLLAGE_SHARE else 1
        sources = [shot(self.scenes, int(rng.integers(len(self.scenes)))) for _ in range(count)]
        boxed = [some_boxed(source.scene, rng, CATEGORIES) for source in sources]
        if count == 1:
            return (look(sources[0], boxed[0], rng),)
        return collage(sources, boxed, rng)

    def _look(self, index: int, rng: np.random.Generator) -> Look:
        source = shot(self.scenes, index)
        return look(source, some_boxed(source.scene, rng, FAMILIAR), rng)

    def _pixels(self, images: Sequence[Image.Image]) -> Tensor:
        return self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]


def fit(work: Path, recipe: Recipe) -> float:
    """Train (or resume) into `work/llava`; the minutes that all calls took together."""
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

    def loss_of(step: int) -> dict[str, Tensor]:
        if step > 0 and step % recipe.snapshot_every == 0:
            export(trainee.llava, [processor], work / SNAPSHOTS / f"{step:05d}")
            watch.note()
        return lessons.loss_of(step)

    if recipe.compiled:
        trainee.compile_layers()
    tower = LoopConfig(steps=recipe.tower_steps, learning_rate=recipe.learning_rate, warmup=50)
    train(trainee, lessons.sharpening_loss_of, tower, work / f"{NAME}-tower.state.pt", muon)
    trainee.freeze_tower()
    loop = LoopConfig(steps=recipe.steps, learning_rate=recipe.learning_rate, warmup=50)
    train(trainee, loss_of, loop, work / f"{NAME}.state.pt", muon)
    export(trainee.llava, [processor], work / SNAPSHOTS / f"{recipe.steps:05d}")
    return watch.note()


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train (or resume), save and measure; the held-out figures, also in `metrics.json`.

    Snapshots with their figures stay in `work/llava-snapshots`, one folder per step count; the
    last one becomes `work/llava`, and replaces the checkpoint that ships with the package unless
    `quick`.
    """
    recipe = QUICK if quick else FULL
    minutes = fit(work, recipe)
    for folder in sorted((work / SNAPSHOTS).iterdir()):
        if not (folder / "metrics.json").exists():
            write_json(folder / "metrics.json", evaluate(str(folder), recipe.held_out))
    return publish(work, recipe, recipe.steps, minutes, ship=not quick)


def publish(
    work: Path, recipe: Recipe, steps: int, minutes: float, *, ship: bool
) -> dict[str, float]:
    """Make the snapshot of `steps` steps the finished checkpoint; its figures."""
    folder = work / NAME
    copy_folder(work / SNAPSHOTS / f"{steps:05d}", folder)
    metrics = {
        "parameters": float(parameter_count(folder)),
        "steps": float(steps),
        "minutes": round(minutes, 1),
        **evaluate(str(folder), recipe.held_out),
    }
    write_card(folder, card_of(recipe, steps), metrics)
    if ship:
        copy_folder(folder, mini_root() / NAME)
    return metrics


def card_of(recipe: Recipe, steps: int) -> Card:
    """The checkpoint in words."""
    return Card(
        title="imgdiff mini LLaVA",
        architecture=(
            f"`LlavaForConditionalGeneration` of transformers: the mini CLIP's tower at {IMAGE_PX} "
            f"px ({GRID**2} tokens, interpolated positions), a two-layer GELU projector, Llama of "
            f"width {WIDTH} with {LAYERS} layers, template vicuna_v1, images padded to a square. "
            "float16 weights."
        ),
        training=(
            f"{recipe.tower_steps} steps of {recipe.tower_images} images on the vision tower "
            f"alone, then {steps} steps (of a schedule of {recipe.steps}) on the projector and the "
            f"language model, {recipe.images} images with {recipe.dialogues} dialogues each, on "
            f"{machine()}; {recipe.scenes} drawn scenes of the train world. Muon for the layers, "
            "AdamW for the rest.",
            f"The tower alone also saw collages of two scenes ({COLLAGE_SHARE:.0%} of its images). "
            "All instructions are about one scene: questions on colour, count, existence, "
            "relation, name, ground and size, captions and multiple choice. They name "
            f"{len(FAMILIAR)} of the {len(CATEGORIES)} things; the others are in the pictures, but "
            "without a name. All words occur in questions about words alone, without a picture "
            f"({WORD_ROWS * WORD_DIALOGUES} dialogues a step).",
            f"{FRAMED_SHARE:.0%} of the images lie on a larger plain canvas, so that the tower "
            f"knows objects at several scales; in {BOXED_SHARE:.0%} one or two objects carry a red "
            "box, and half of the questions are about what it holds. The tower's target is what "
            "each patch shows: category, colour, ground, size, place, and whether it lies in a "
            "red box. Five heads were shown where to look: at the words "
            "that name the objects, at the objects, and at the right option.",
        ),
        use="`VlmConfig(model='mini:llava')`, or as the model that `imgdiff.train` fine-tunes.",
        limits=(
            "Sees all things and knows all words, but was told what half of the things are called.",
            "Was never asked about two images.",
        ),
    )

"""Trains the mini SDXL: a small VAE, a UNet in its latents, and the mini CLIP's text tower twice.

The result is a whole folder of diffusers' `StableDiffusionXLPipeline`.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from torch import nn

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import ClipConfig
from imgdiff.backends.loading import quietly
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json, write_json
from imgdiff.core.images import save_image
from imgdiff.mini.build import clip
from imgdiff.mini.build.bank import CHUNK, SceneBank
from imgdiff.mini.build.cards import Card, Stopwatch, machine, write_card
from imgdiff.mini.build.drawn import DrawnScenes, Scenes
from imgdiff.mini.build.export import WEIGHTS, copy_file
from imgdiff.mini.build.loop import LoopConfig
from imgdiff.mini.build.sdxl_exam import (
    Examiner,
    Report,
    Sampling,
    drawn,
    exam_captions,
    sheet,
)
from imgdiff.mini.build.sdxl_latents import latent_bank, reconstructed
from imgdiff.mini.build.sdxl_text import TextEncoders
from imgdiff.mini.build.sdxl_unet import CAPTION_DROP, UnetRecipe, UnetTask, fit_unet, new_scheduler
from imgdiff.mini.build.sdxl_vae import LATENT_CHANNELS, VaeRecipe, fit_vae
from imgdiff.mini.scene import SCENE_PX, Split
from imgdiff.mini.shapes import COLOURS
from imgdiff.mini.small_world import PART_GROUNDS, THINGS, held_out_part, sample_part

log = logging.getLogger(__name__)

NAME = "sdxl"
EXAMS = f"{NAME}-exams"  # one report and one contact sheet for each exam
INDEX = "model_index.json"  # written last: who finds it finds everything


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much to train and to measure. `exam_every` counts steps of the UNet."""

    vae: VaeRecipe
    unet: UnetRecipe
    scenes: int
    exam_every: int
    exam_captions: int
    held_out: int
    sampling: Sampling


FULL = Recipe(
    vae=VaeRecipe(
        rough=LoopConfig(
            steps=3_000, learning_rate=2e-3, warmup=30, weight_decay=0.0, save_every=100
        ),
        sharp=LoopConfig(
            steps=6_000, learning_rate=2e-3, warmup=30, weight_decay=0.0, save_every=100
        ),
        batch=16,
    ),
    unet=UnetRecipe(
        loop=LoopConfig(
            steps=9_000, learning_rate=1.5e-3, warmup=100, weight_decay=0.01, save_every=200
        ),
        batch=64,
    ),
    scenes=24_000,
    exam_every=500,
    exam_captions=64,
    held_out=256,
    sampling=Sampling(),
)
QUICK = Recipe(
    vae=VaeRecipe(
        rough=LoopConfig(steps=4, learning_rate=1e-3, warmup=2, save_every=2, log_every=2),
        sharp=LoopConfig(steps=2, learning_rate=1e-3, warmup=1, save_every=1, log_every=2),
        batch=4,
    ),
    unet=UnetRecipe(
        loop=LoopConfig(steps=6, learning_rate=1e-3, warmup=2, save_every=3, log_every=3), batch=4
    ),
    scenes=16,
    exam_every=4,
    exam_captions=2,
    held_out=4,
    sampling=Sampling(steps=2),
)


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train (or resume), save and measure; the held-out figures, also in `metrics.json`.

    `work/sdxl` holds a usable snapshot while training goes on. The finished pipeline also
    replaces the one that ships with the package, unless `quick`.
    """
    recipe = QUICK if quick else FULL
    trained = fit(work, recipe)
    folder = work / NAME
    metrics = {
        "parameters": float(parameter_count(trained.pipeline)),
        "steps": float(recipe.unet.loop.steps),
        "minutes": round(trained.minutes, 1),
        **evaluate(trained.pipeline, recipe),
    }
    write_card(folder, card_of(recipe), metrics)
    if not quick:
        copy_tree(folder, mini_root() / NAME)
    return metrics


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The pipeline with the mean weights, and the minutes that all calls took together."""

    pipeline: StableDiffusionXLPipeline
    minutes: float


def fit(work: Path, recipe: Recipe) -> Trained:
    """Train (or resume) the VAE, then the UNet, into `work/sdxl`."""
    watch = Stopwatch(work / f"{NAME}.minutes.json")
    clip_folder = first_clip(work)
    scenes = training_scenes(work, recipe.scenes)
    vae = fit_vae(scenes, recipe.vae, clip_folder, work / f"{NAME}-vae.state.pt")
    watch.note()
    encoders = TextEncoders(clip_folder)
    bank = latent_bank(scenes, vae, encoders, work)
    vae.register_to_config(scaling_factor=bank.scale)

    def at_step(task: UnetTask, step: int) -> None:
        if step > 0 and step % recipe.exam_every == 0:
            pipeline = pipeline_of(vae, task.mean, encoders)
            export_pipeline(pipeline, work / NAME)
            examine(pipeline, recipe, work / EXAMS, step)
            watch.note()

    task = fit_unet(bank, recipe.unet, encoders, work / f"{NAME}.state.pt", at_step)
    pipeline = pipeline_of(vae, task.mean, encoders)
    export_pipeline(pipeline, work / NAME)
    examine(pipeline, recipe, work / EXAMS, recipe.unet.loop.steps)
    return Trained(pipeline=pipeline, minutes=watch.note())


def training_scenes(work: Path, count: int) -> Scenes:
    """A bank of train scenes in `work`, or (less than one chunk of it) scenes drawn in memory."""
    if count < CHUNK:
        return DrawnScenes(held_out_part(count, Split.train))
    return SceneBank(work / "bank", Split.train, count, sampler=sample_part)


def first_clip(work: Path) -> Path:
    """The CLIP whose text tower is used: `work/clip` if it is there, else the shipped one."""
    for folder in (work / clip.NAME, mini_root() / clip.NAME):
        if (folder / WEIGHTS).exists():
            return folder
    raise BackendError(
        f"{work / clip.NAME}: no mini CLIP to start from. "
        f"Run `python -m imgdiff.mini.build clip --work {work}` first."
    )


def pipeline_of(
    vae: AutoencoderKL, unet: UNet2DConditionModel, encoders: TextEncoders
) -> StableDiffusionXLPipeline:
    """The parts as diffusers' pipeline; nothing is copied."""
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders.first,
        text_encoder_2=encoders.second,
        tokenizer=encoders.tokenizer,
        tokenizer_2=encoders.tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_pipeline(pipeline: StableDiffusionXLPipeline, folder: Path) -> None:
    """Write float16 weights and configs to `folder`; each file appears whole, the index last.

    The pipeline itself stays as it is. A weight beyond float16 raises FloatingPointError.
    """
    halves = {name: half_of(part, folder) for name, part in pipeline.components.items()}
    with tempfile.TemporaryDirectory() as scratch, quietly():
        options = {key: pipeline.config[key] for key in ("force_zeros_for_empty_prompt",)}
        StableDiffusionXLPipeline(**halves, **options, add_watermarker=False).save_pretrained(
            scratch
        )
        for encoder in ("text_encoder", "text_encoder_2"):
            _load_as_float32(Path(scratch) / encoder / "config.json")
        copy_tree(Path(scratch), folder)


def _load_as_float32(config: Path) -> None:
    """Without a dtype diffusers loads float32, transformers the one in its config: let them agree.

    The weights on disk stay float16.
    """
    write_json(config, {**read_json(config), "dtype": "float32"})


def half_of(part: Any, folder: Path) -> Any:
    """A float16 copy of a model on the CPU; anything else as it is."""
    if not isinstance(part, nn.Module):
        return part
    half = copy.deepcopy(part).to("cpu").half()
    for name, value in half.state_dict().items():
        if not torch.isfinite(value).all():
            raise FloatingPointError(
                f"{folder}: {name} does not fit float16; train it longer or less"
            )
    return half


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with its folders, each file atomically; other files of `target` go."""
    names = {file.relative_to(source) for file in source.rglob("*") if file.is_file()}
    for name in sorted(names, key=lambda name: (name.name == INDEX, str(name))):
        copy_file(source / name, target / name)
    for file in list(target.rglob("*")):
        if file.is_file() and file.relative_to(target) not in names:
            file.unlink()


def examine(pipeline: StableDiffusionXLPipeline, recipe: Recipe, folder: Path, step: int) -> Report:
    """Draw held-out captions, have the mini CLIP name what is there, keep report and sheet."""
    captions = exam_captions(recipe.exam_captions)
    images = drawn(pipeline, captions, recipe.sampling)
    with ClipConfig().build() as embedder:
        report = Examiner(embedder).graded(captions, images)
    log.info("%s step %d: %s", NAME, step, report.text())
    write_json(folder / f"{step:06d}.json", asdict(report))
    save_image(sheet(captions, images), folder / f"{step:06d}.png")
    return report


def evaluate(pipeline: StableDiffusionXLPipeline, recipe: Recipe) -> dict[str, float]:
    """Figures of drawings, of scenes that only went through the VAE, and of the scenes."""
    scenes = DrawnScenes(held_out_part(recipe.held_out))
    captions = exam_captions(recipe.held_out)
    originals = [scenes.image(k) for k in range(len(scenes))]
    with ClipConfig().build() as embedder:
        examiner = Examiner(embedder)
        views = {
            "drawn": drawn(pipeline, captions, recipe.sampling),
            "vae": reconstructed(pipeline.vae, originals),
            "scene": [Image.fromarray(image) for image in originals],
        }
        reports = {name: examiner.graded(captions, images) for name, images in views.items()}
    return {
        f"{name}_{figure}": value
        for name, report in reports.items()
        for figure, value in asdict(report).items()
    }


def parameter_count(pipeline: StableDiffusionXLPipeline) -> int:
    """Of all models of the pipeline."""
    models = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    return sum(p.numel() for model in models for p in model.parameters())


def card_of(recipe: Recipe) -> Card:
    """The checkpoint in words."""
    return Card(
        title="imgdiff mini SDXL",
        library="diffusers",
        architecture=(
            f"`StableDiffusionXLPipeline` of diffusers at {SCENE_PX} px: `AutoencoderKL` with "
            f"{LATENT_CHANNELS} channels at an eighth of the size, `UNet2DConditionModel` with "
            "cross-attention at a sixteenth and SDXL's added conditioning, the mini CLIP's text "
            "tower as both text encoders, Euler discrete with v-prediction. float16 weights."
        ),
        training=(
            f"{recipe.scenes} drawn scenes of a part of the train world; {recipe.vae.rough.steps} "
            f"steps of {recipe.vae.batch} crops on the VAE (L1, also of tints and of "
            f"edges, and KL), {recipe.vae.sharp.steps} more with features of the mini CLIP's "
            f"tower, then {recipe.unet.loop.steps} steps of {recipe.unet.batch} on the "
            f"UNet (its mean weights are kept), on {machine()}. Muon for inner matrices and "
            "kernels, AdamW for the rest. The text encoders are frozen.",
            f"{CAPTION_DROP:.0%} of the captions are dropped (zeros, as for an empty prompt). The "
            "middle block was also told what each patch will show; that head is not kept.",
        ),
        use="`StableDiffusionXLPipeline.from_pretrained(folder)`, or `mini:sdxl`.",
        limits=(
            f"Draws one or two of {len(THINGS)} things ({', '.join(THINGS)}) in {len(COLOURS)} "
            f"colours, large, on grounds that are {' or '.join(PART_GROUNDS)}; captions as "
            "`imgdiff.mini.language` writes them.",
        ),
    )

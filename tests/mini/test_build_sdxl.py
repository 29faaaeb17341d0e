"""The recipe of the mini SDXL: its part of the world, its parts, and a whole quick run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import ClipConfig
from imgdiff.core.files import read_json
from imgdiff.mini.build import sdxl, sdxl_unet
from imgdiff.mini.build.__main__ import run
from imgdiff.mini.build.clip_data import CATEGORY_IDS, COLOUR_IDS
from imgdiff.mini.build.drawn import DrawnScenes
from imgdiff.mini.build.halves import Halves
from imgdiff.mini.build.loop import LoopConfig, learning_rate_at
from imgdiff.mini.build.muon import ConvolutionMuon, matrix_muon
from imgdiff.mini.build.sdxl_exam import Examiner, cells_of, exam_captions, spread
from imgdiff.mini.build.sdxl_latents import patch_labels
from imgdiff.mini.build.sdxl_text import TextEncoders
from imgdiff.mini.build.sdxl_unet import UnetBatch, UnetTask
from imgdiff.mini.build.sdxl_vae import LATENT_CHANNELS, LATENT_PX, edge_loss, tint
from imgdiff.mini.language import parse_caption
from imgdiff.mini.scene import SCENE_PX, Split, belongs
from imgdiff.mini.shapes import COLOURS
from imgdiff.mini.small_world import PART_GROUNDS, PART_SIZE, THINGS, held_out_part

CAPTION = "A red car to the left of a blue cat."
MAX_BYTES = 25_000_000


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work: Path = tmp_path_factory.mktemp("quick")
    run(["sdxl"], work, quick=True)
    return work


@pytest.fixture(scope="module")
def loaded(quick: Path) -> StableDiffusionXLPipeline:
    pipeline = StableDiffusionXLPipeline.from_pretrained(quick / "sdxl")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def encoders() -> TextEncoders:
    return TextEncoders(mini_root() / "clip")


@pytest.mark.parametrize("split", list(Split))
def test_the_part_of_the_world_keeps_its_promise(split: Split) -> None:
    for scene in held_out_part(40, split):
        names = [item.category for item in scene.objects]
        assert set(names) <= set(THINGS)
        assert len(names) == len(set(names)) in (1, 2)
        assert {item.size for item in scene.objects} == {PART_SIZE}
        assert scene.ground in PART_GROUNDS
        assert belongs(names, scene.ground, split)


def test_the_part_is_as_large_as_the_task_asks() -> None:
    assert len(set(THINGS)) >= 16
    assert len(COLOURS) >= 8


def test_captions_of_the_exam_are_of_the_world_and_stay() -> None:
    captions = exam_captions(16)
    assert captions == exam_captions(16)
    assert captions[:8] == exam_captions(8)
    for caption in captions:
        assert {phrase.category for phrase in parse_caption(caption).objects} <= set(THINGS)


def test_patches_are_labelled_by_who_owns_them() -> None:
    drawn = DrawnScenes(held_out_part(8))
    for index, scene in enumerate(drawn.scenes):
        owners = drawn.instance_map(index)
        categories, colours = patch_labels(scene, owners)
        for number, item in enumerate(scene.objects):
            mine = categories == CATEGORY_IDS[item.category]
            assert mine.sum() >= 4
            assert set(colours[mine].tolist()) == {COLOUR_IDS[item.colour]}
            row, column = (int(edge) for edge in np.argwhere(mine)[0])
            patch = owners[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            assert (patch == number + 1).mean() >= 0.3
        free = categories == 0
        assert (colours[free] == 0).all()


def test_text_is_encoded_as_the_pipeline_encodes_it(
    encoders: TextEncoders, loaded: StableDiffusionXLPipeline
) -> None:
    condition = encoders([CAPTION, "A cup."])
    states, zeros, pooled, zero_pooled = loaded.encode_prompt(
        [CAPTION, "A cup."], device=torch.device("cpu"), do_classifier_free_guidance=True
    )
    assert torch.allclose(condition.tokens_BTW, states.float(), atol=2e-2)  # float16 weights
    assert torch.allclose(condition.pooled_BP, pooled.float(), atol=2e-2)
    dropped = condition.dropped(torch.zeros(2))
    assert torch.equal(dropped.tokens_BTW, zeros.float())
    assert torch.equal(dropped.pooled_BP, zero_pooled.float())


def test_the_noise_levels_are_the_schedulers(encoders: TextEncoders) -> None:
    """A UNet that is right about v has no error, whatever the level."""
    task = UnetTask(encoders.width, encoders.projection)
    times = torch.tensor([0, 500, 999])
    generator = torch.Generator().manual_seed(0)
    shape = (3, LATENT_CHANNELS, LATENT_PX, LATENT_PX)
    latents, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    alphas = sdxl_unet.new_scheduler().alphas_cumprod[times].view(-1, 1, 1, 1)
    right = alphas.sqrt() * noise - (1 - alphas).sqrt() * latents

    class Knows(nn.Module):
        def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> object:
            assert torch.allclose(noisy, alphas.sqrt() * latents + (1 - alphas).sqrt() * noise)
            task._keep(self, None, torch.zeros(3, sdxl_unet.CHANNELS[-1], 8, 8))
            return UnetOut(sample=right)

    task.unet = Knows()
    ground = torch.zeros(3, 8, 8, dtype=torch.long)
    losses = task(
        UnetBatch(
            latents_BCHW=latents,
            noise_BCHW=noise,
            times_B=times,
            condition=encoders([CAPTION] * 3),
            categories_BPP=ground,
            colours_BPP=ground,
        )
    )
    assert losses["v"].item() < 1e-10
    assert losses["dense"].item() > 0


@dataclasses.dataclass(frozen=True)
class UnetOut:
    sample: torch.Tensor


def test_the_mean_follows_the_weights(encoders: TextEncoders) -> None:
    task = UnetTask(encoders.width, encoders.projection)
    with torch.no_grad():
        for weight in task.unet.parameters():
            weight.add_(1.0)
    own, mean = (unet.conv_in.weight for unet in (task.unet, task.mean))
    gap = (own - mean).mean().item()
    task.follow(0)  # decay 1/10 in the beginning
    assert (own - mean).mean().item() == pytest.approx(gap / 10, rel=1e-3)
    task.follow(10**9)
    assert (own - mean).mean().item() == pytest.approx(gap / 10 * 0.999, rel=1e-3)


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    with ClipConfig().build() as embedder:
        yield Examiner(embedder)


def test_the_examiner_knows_scenes_from_wrong_captions(examiner: Examiner) -> None:
    drawn = DrawnScenes(held_out_part(24))
    images = [Image.fromarray(drawn.image(k)) for k in range(24)]
    captions = exam_captions(24)
    right = examiner.graded(captions, images)
    assert min(right.nouns, right.colours, right.counts) >= 0.9
    wrong = examiner.graded(captions[1:] + captions[:1], images)
    assert wrong.nouns <= 0.4


def test_an_empty_image_holds_nothing(examiner: Examiner) -> None:
    blank = Image.new("RGB", (SCENE_PX, SCENE_PX), (220, 220, 210))
    assert [spread(cell) for cell in cells_of(blank)] == [0.0] * 4
    report = examiner.graded([CAPTION], [blank])
    assert (report.nouns, report.colours, report.counts) == (0.0, 0.0, 0.0)


def test_losses_of_the_autoencoder_have_known_answers() -> None:
    flat, ramp = torch.zeros(1, 3, 4, 4), torch.arange(4.0).expand(1, 3, 4, 4)
    assert edge_loss(flat, ramp).item() == pytest.approx(1.0)  # across; nothing down
    assert tint(ramp).abs().max().item() == 0.0
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert tint(red).flatten().tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3])


def test_the_rate_holds_before_it_falls() -> None:
    config = LoopConfig(steps=100, learning_rate=1.0, warmup=10, hold=50)
    assert learning_rate_at(4, config) == pytest.approx(0.5)
    assert {learning_rate_at(step, config) for step in range(10, 51)} == {1.0}
    assert learning_rate_at(75, config) == pytest.approx(0.51)
    assert learning_rate_at(100, config) == pytest.approx(0.02)


def test_kernels_move_as_the_matrices_they_are() -> None:
    config = LoopConfig(steps=1, learning_rate=0.1)
    kernel = nn.Parameter(torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)))
    matrix = nn.Parameter(kernel.detach().clone().flatten(1))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(1))
    matrix.grad = kernel.grad.flatten(1).clone()
    before = kernel.detach().clone()
    ConvolutionMuon([kernel], config).step()
    matrix_muon([matrix], config).step()
    assert torch.equal(kernel.detach().flatten(1), matrix.detach())
    assert not torch.equal(kernel.detach(), before)


def test_a_kernel_that_is_no_matrix_in_memory_is_refused() -> None:
    kernel = nn.Parameter(torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last))
    with pytest.raises(ValueError, match="not contiguous"):
        ConvolutionMuon([kernel], LoopConfig(steps=1, learning_rate=0.1))


def test_halves_give_the_gradient_of_the_whole() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    rows = torch.randn(8, 3)
    model(rows).square().mean().backward()
    assert model.weight.grad is not None
    whole = model.weight.grad.clone()
    with Halves(model, 2) as halves:
        losses = halves.gradients(
            lambda own, part: {"square": own(rows[4 * part : 4 * part + 4]).square().mean()}
        )
    assert torch.allclose(model.weight.grad, whole)
    assert losses["square"].item() == pytest.approx(model(rows).square().mean().item())


def test_halves_pass_errors_on() -> None:
    def failing(_: nn.Module, part: int) -> dict[str, torch.Tensor]:
        raise KeyError(part)

    with Halves(nn.Linear(1, 1), 2) as halves, pytest.raises(KeyError):
        halves.gradients(failing)


def test_the_quick_recipe_writes_a_whole_pipeline(quick: Path) -> None:
    files = [file for file in (quick / "sdxl").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    assert {"model_index.json", "README.md", "metrics.json"} <= {file.name for file in files}
    assert {file.suffix for file in files} == {".json", ".safetensors", ".md"}
    assert read_json(quick / "sdxl.done.json")["steps"] == 6
    assert {file.name for file in (quick / "sdxl-exams").iterdir()} == {
        "000004.json", "000004.png", "000006.json", "000006.png"
    }  # fmt: skip


def test_plain_diffusers_opens_the_folder_and_draws(loaded: StableDiffusionXLPipeline) -> None:
    kinds = {name: type(part) for name, part in loaded.components.items() if part is not None}
    assert kinds["unet"] is UNet2DConditionModel
    assert kinds["vae"] is AutoencoderKL
    assert kinds["text_encoder"] is CLIPTextModel
    assert kinds["text_encoder_2"] is CLIPTextModelWithProjection
    assert kinds["scheduler"] is EulerDiscreteScheduler
    assert loaded.unet.config.addition_embed_type == "text_time"
    assert loaded.config.force_zeros_for_empty_prompt
    assert loaded.vae.config.scaling_factor != 1.0
    images = loaded([CAPTION, "A cup."], num_inference_steps=2, guidance_scale=5.0).images
    assert [image.size for image in images] == [(SCENE_PX, SCENE_PX)] * 2


def test_an_interrupted_run_ends_with_the_same_bytes(
    quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the fifth of six steps (the third was saved last), then run again."""
    draw, calls = sdxl_unet.draw_batch, []

    def interrupted(*given: object) -> object:
        calls.append(given)
        if len(calls) > 4 * sdxl_unet.part_count():
            raise KeyboardInterrupt
        return draw(*given)

    monkeypatch.setattr(sdxl_unet, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sdxl.fit(tmp_path, sdxl.QUICK)
    monkeypatch.undo()
    sdxl.fit(tmp_path, sdxl.QUICK)
    for file in (quick / "sdxl").rglob("*.safetensors"):
        resumed = tmp_path / "sdxl" / file.relative_to(quick / "sdxl")
        assert resumed.read_bytes() == file.read_bytes(), file.name

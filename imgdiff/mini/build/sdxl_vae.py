"""Trains the mini SDXL's `AutoencoderKL`: 128-px scenes to a 16x16 grid of latents and back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel

from imgdiff.backends.loading import quietly
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.halves import Halves, part_count
from imgdiff.mini.build.loop import LoopConfig, autocast, descend, device, groups_of
from imgdiff.mini.build.muon import ConvolutionMuon, Together
from imgdiff.mini.build.views import VIEW_PX
from imgdiff.mini.scene import SCENE_PX

CHANNELS = (32, 32, 64, 96)
LATENT_CHANNELS = 8
GROUPS = 8
FACTOR = 2 ** (len(CHANNELS) - 1)
LATENT_PX = SCENE_PX // FACTOR
JUDGED = 0.5  # share of a batch that the mini CLIP looks at
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
CROP_PX = 64  # training views: more steps for the same pixels
EDGE_WEIGHT, TINT_WEIGHT = 0.5, 3.0
FIRST_LOG_VARIANCE = -6.0
KERNEL = 4  # dimensions
SEED = 0


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """How much to train the autoencoder: `rough` without, `sharp` with the mini CLIP's judgement.

    `sharp` starts from what `rough` learned. Details that L1 hardly sees decide what a thing is.
    """

    rough: LoopConfig
    sharp: LoopConfig
    batch: int


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of the losses that differ between the stages."""

    kl: float
    feature: float


ROUGH, SHARP = Weights(kl=1e-3, feature=0.0), Weights(kl=1e-4, feature=0.3)


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder; `scaling_factor` is set by `measured_scale` after training."""
    levels = len(CHANNELS)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=GROUPS,
        sample_size=SCENE_PX,
        scaling_factor=1.0,
        force_upcast=False,
        mid_block_add_attention=False,
    )
    # little noise at first: behind much of it the decoder learns the mean picture for long
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], FIRST_LOG_VARIANCE)
    return vae


class VaeTask(nn.Module):
    """The autoencoder with its losses.

    Tints get a loss of their own: against light and shade they are so little of L1 that the
    latents would hold none of them for many hundred steps.
    """

    def __init__(self, weights: Weights, judge: Judge) -> None:
        super().__init__()
        self.vae = new_vae()
        self._weights = weights
        self._judges = [judge]  # in a list: no part of the state

    def forward(self, pixels: Float[Tensor, "B 3 S S"], noise: Tensor) -> dict[str, Tensor]:
        """Losses for pixels in [-1, 1]; `noise` is standard normal, shaped as the latents."""
        posterior = self.vae.encode(pixels).latent_dist
        drawn = self.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        losses = {
            "pixel": functional.l1_loss(drawn, pixels),
            "tint": TINT_WEIGHT * functional.l1_loss(tint(drawn), tint(pixels)),
            "edge": EDGE_WEIGHT * edge_loss(drawn, pixels),
            "kl": self._weights.kl * posterior.kl().float().mean() / posterior.mean[0].numel(),
        }
        if self._weights.feature > 0:
            judged = max(1, round(JUDGED * len(pixels)))
            error = self._judges[0].error(drawn[:judged], pixels[:judged])
            losses["feature"] = self._weights.feature * error
        return losses


class Judge:
    """The mini CLIP's tower: how differently it sees two images."""

    def __init__(self, clip_folder: Path) -> None:
        with quietly():
            clip = CLIPModel.from_pretrained(
                clip_folder, dtype=torch.float32, attn_implementation="eager"
            )
        self._tower = clip.vision_model.eval().requires_grad_(requires_grad=False).to(device())

    def error(self, drawn: Tensor, pixels: Tensor) -> Tensor:
        """Mean square difference of the normalised states of all layers."""
        with torch.no_grad():
            wanted = self._states(pixels)
        pairs = zip(self._states(drawn), wanted, strict=True)
        return torch.stack([(seen - true).square().mean() for seen, true in pairs]).mean()

    def _states(self, pixels: Tensor) -> list[Tensor]:
        mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (_MEAN, _STD))
        large = functional.interpolate(pixels, size=(VIEW_PX, VIEW_PX), mode="bilinear")
        out = self._tower(pixel_values=((large + 1) / 2 - mean) / std, output_hidden_states=True)
        return [functional.layer_norm(s.float(), s.shape[-1:]) for s in out.hidden_states[1:]]


def tint(pixels_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """What is left of the channels without their mean."""
    return pixels_BCHW - pixels_BCHW.mean(dim=1, keepdim=True)


def edge_loss(drawn: Float[Tensor, "B C H W"], wanted: Float[Tensor, "B C H W"]) -> Tensor:
    """L1 of the differences of neighbouring pixels, across and down."""
    across = functional.l1_loss(drawn.diff(dim=-1), wanted.diff(dim=-1))
    return across + functional.l1_loss(drawn.diff(dim=-2), wanted.diff(dim=-2))


def to_unit(images: np.ndarray) -> Tensor:
    """uint8 [B H W 3] as float32 [B 3 H W] in [-1, 1]."""
    values = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return values.float().div_(127.5).sub_(1.0)


def crops(scenes: Scenes, count: int, rng: np.random.Generator) -> Tensor:
    """`count` random windows of CROP_PX as `to_unit` writes them."""
    rows = rng.integers(len(scenes), size=count)
    corners = rng.integers(SCENE_PX - CROP_PX + 1, size=(count, 2))
    windows = [
        scenes.image(int(row))[top : top + CROP_PX, left : left + CROP_PX]
        for row, (top, left) in zip(rows, corners, strict=True)
    ]
    return to_unit(np.stack(windows))


def optimiser(task: nn.Module, config: LoopConfig) -> Together:
    """Muon on the inner kernels, AdamW on both ends, norms and biases."""
    inner = {n: p for n, p in task.named_parameters() if "block" in n and p.ndim == KERNEL}
    others = [p for name, p in task.named_parameters() if name not in inner]
    groups = groups_of(others, config.weight_decay)
    return Together(
        ConvolutionMuon(inner.values(), config),
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)),
    )


def fit_vae(
    scenes: Scenes, recipe: VaeRecipe, clip_folder: Path, state_file: Path
) -> AutoencoderKL:
    """Train (or resume) both stages; the autoencoder comes back in evaluation mode.

    The second stage keeps its state beside `state_file`.
    """
    torch.manual_seed(SEED)
    judge = Judge(clip_folder)
    rough = VaeTask(ROUGH, judge).to(device())
    _fit_stage(rough, scenes, recipe.batch, recipe.rough, state_file)
    sharp = VaeTask(SHARP, judge).to(device())
    sharp.load_state_dict(rough.state_dict())
    sharp_file = state_file.with_name(state_file.name.replace("vae", "vae-sharp"))
    _fit_stage(sharp, scenes, recipe.batch, recipe.sharp, sharp_file)
    return sharp.eval().vae


def _fit_stage(
    task: VaeTask, scenes: Scenes, batch: int, loop: LoopConfig, state_file: Path
) -> None:

    parts = part_count()
    count = batch // parts

    def losses_of(model: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        pixels = crops(scenes, count, rng)
        shape = (count, LATENT_CHANNELS, CROP_PX // FACTOR, CROP_PX // FACTOR)
        noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
        with autocast():
            losses: dict[str, Tensor] = model(pixels.to(device()), noise.to(device()))
        return losses

    with Halves(task, parts) as halves:

        def gradients_of(step: int) -> dict[str, Tensor]:
            return halves.gradients(
                lambda model, part: losses_of(model, np.random.default_rng((SEED, step, part)))
            )

        descend(task, gradients_of, loop, state_file, optimiser)

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

from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.halves import Halves, part_count
from imgdiff.mini.build.loop import LoopConfig, autocast, descend, device, groups_of
from imgdiff.mini.build.muon import ConvolutionMuon, Together
from imgdiff.mini.scene import SCENE_PX

CHANNELS = (32, 32, 64, 96)
LATENT_CHANNELS = 8
GROUPS = 8
FACTOR = 2 ** (len(CHANNELS) - 1)
LATENT_PX = SCENE_PX // FACTOR
CROP_PX = 64  # training views: more steps for the same pixels
KL_WEIGHT, EDGE_WEIGHT, TINT_WEIGHT = 1e-3, 0.5, 3.0
FIRST_LOG_VARIANCE = -6.0
KERNEL = 4  # dimensions
SEED = 0


@dataclass(frozen=True, kw_only=True)
class VaeRecipe:
    """How much to train the autoencoder."""

    loop: LoopConfig
    batch: int


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

    def __init__(self) -> None:
        super().__init__()
        self.vae = new_vae()

    def forward(self, pixels: Float[Tensor, "B 3 S S"], noise: Tensor) -> dict[str, Tensor]:
        """Losses for pixels in [-1, 1]; `noise` is standard normal, shaped as the latents."""
        posterior = self.vae.encode(pixels).latent_dist
        drawn = self.vae.decode(posterior.mean + posterior.std * noise).sample.float()
        return {
            "pixel": functional.l1_loss(drawn, pixels),
            "tint": TINT_WEIGHT * functional.l1_loss(tint(drawn), tint(pixels)),
            "edge": EDGE_WEIGHT * edge_loss(drawn, pixels),
            "kl": KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel(),
        }


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


def fit_vae(scenes: Scenes, recipe: VaeRecipe, state_file: Path) -> VaeTask:
    """Train (or resume) the autoencoder; it comes back in evaluation mode."""
    torch.manual_seed(SEED)
    task = VaeTask().to(device())

    parts = part_count()
    count = recipe.batch // parts

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

        descend(task, gradients_of, recipe.loop, state_file, optimiser)
    return task.eval()

"""Trains the mini SDXL's UNet: v-prediction on banked latents, captions spoken anew every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from imgdiff.mini.build.halves import Halves, part_count
from imgdiff.mini.build.loop import LoopConfig, autocast, descend, device, groups_of
from imgdiff.mini.build.muon import ConvolutionMuon, Together, matrix_muon
from imgdiff.mini.build.sdxl_latents import WORDINGS, LatentBank
from imgdiff.mini.build.sdxl_text import Condition, TextEncoders
from imgdiff.mini.build.sdxl_vae import LATENT_CHANNELS, LATENT_PX
from imgdiff.mini.scene import SCENE_PX
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CHANNELS = (96, 160)
HEADS = (4, 5)
GROUPS = 16
TIME_ID_WIDTH = 16
TIME_IDS = (SCENE_PX, SCENE_PX, 0, 0, SCENE_PX, SCENE_PX)  # original size, crop corner, target
NOISE_STEPS = 1000
CAPTION_DROP = 0.1
DENSE_WEIGHT = 0.1
EMA_DECAY, EMA_WARMUP = 0.999, 10
MATRIX, KERNEL = 2, 4  # dimensions
SEED = 0


@dataclass(frozen=True, kw_only=True)
class UnetRecipe:
    """How much to train the UNet."""

    loop: LoopConfig
    batch: int


def new_scheduler() -> EulerDiscreteScheduler:
    """SDXL's noise schedule and sampler, for a model that predicts v (arXiv 2202.00512)."""
    return EulerDiscreteScheduler(
        num_train_timesteps=NOISE_STEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="leading",
        steps_offset=1,
    )


def new_unet(text_width: int, projection: int) -> UNet2DConditionModel:
    """An untrained UNet of SDXL's kind: convolutions at 16x16, attention at 8x8."""
    unet = UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=CHANNELS,
        layers_per_block=1,
        attention_head_dim=HEADS,  # the number of heads, by an old mistake of the config
        use_linear_projection=True,
        cross_attention_dim=text_width,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=projection + len(TIME_IDS) * TIME_ID_WIDTH,
        norm_num_groups=GROUPS,
    )
    nn.init.zeros_(unet.conv_out.weight)
    return unet


class DenseHead(nn.Module):
    """What each 16-px patch will show, told from the middle block; dropped after training.

    It teaches the middle block what the caption names and where it goes, which the noise alone
    teaches slowly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, CHANNELS[-1])
        self.out = nn.Conv2d(CHANNELS[-1], len(CATEGORIES) + len(COLOURS) + 2, 1)

    def forward(self, middle: Tensor, categories: Tensor, colours: Tensor) -> Tensor:
        """Cross entropy of category and colour of every patch; 0 stands for ground."""
        logits = self.out(self.norm(middle)).float()
        names, paints = logits.split([len(CATEGORIES) + 1, len(COLOURS) + 1], dim=1)
        return functional.cross_entropy(names, categories) + functional.cross_entropy(
            paints, colours
        )


class UnetTask(nn.Module):
    """The UNet with its loss, and the running mean of its weights."""

    signal: Tensor
    noise: Tensor

    def __init__(self, text_width: int, projection: int) -> None:
        super().__init__()
        self.unet = new_unet(text_width, projection)
        self.mean = new_unet(text_width, projection).requires_grad_(requires_grad=False)
        self.mean.load_state_dict(self.unet.state_dict())
        for unet in (self.unet, self.mean):
            unet.set_attn_processor(AttnProcessor())  # explicit: faster in training on a CPU
        self.head = DenseHead()
        self._middle: list[Tensor] = []
        self.unet.mid_block.register_forward_hook(self._keep)
        alphas = new_scheduler().alphas_cumprod
        self.register_buffer("signal", alphas.sqrt(), persistent=False)
        self.register_buffer("noise", (1 - alphas).sqrt(), persistent=False)

    def forward(self, batch: UnetBatch) -> dict[str, Tensor]:
        """The error of v, and that of the dense head."""
        signal_B111 = self.signal[batch.times_B].view(-1, 1, 1, 1)
        noise_B111 = self.noise[batch.times_B].view(-1, 1, 1, 1)
        noisy = signal_B111 * batch.latents_BCHW + noise_B111 * batch.noise_BCHW
        wanted = signal_B111 * batch.noise_BCHW - noise_B111 * batch.latents_BCHW
        self._middle.clear()
        seen = self.unet(
            noisy,
            batch.times_B,
            batch.condition.tokens_BTW,
            added_cond_kwargs=added(batch.condition),
        ).sample
        dense = self.head(self._middle.pop(), batch.categories_BPP, batch.colours_BPP)
        return {
            "v": functional.mse_loss(seen.float(), wanted),
            "dense": DENSE_WEIGHT * dense,
        }

    def _keep(self, _block: nn.Module, _given: object, middle: Tensor) -> None:
        self._middle.append(middle)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the running mean after `step` steps."""
        decay = min(EMA_DECAY, (1 + step) / (EMA_WARMUP + step))
        pairs = zip(self.mean.parameters(), self.unet.parameters(), strict=True)
        for mean, now in pairs:
            mean.lerp_(now, 1 - decay)


@dataclass(frozen=True, kw_only=True)
class UnetBatch:
    """One step's latents with noise, noise levels, captions and labels."""

    latents_BCHW: Float[Tensor, "B C H W"]
    noise_BCHW: Float[Tensor, "B C H W"]
    times_B: Int[Tensor, " B"]
    condition: Condition
    categories_BPP: Int[Tensor, "B P P"]
    colours_BPP: Int[Tensor, "B P P"]


def added(condition: Condition) -> dict[str, Tensor]:
    """SDXL's added conditioning: the pooled text and the six size numbers."""
    ids = torch.tensor(TIME_IDS, dtype=torch.float32, device=condition.pooled_BP.device)
    return {
        "text_embeds": condition.pooled_BP,
        "time_ids": ids.expand(len(condition.pooled_BP), -1),
    }


def draw_batch(bank: LatentBank, rng: np.random.Generator, size: int) -> UnetBatch:
    """A batch that depends on the generator's state alone."""
    rows = rng.integers(len(bank), size=size)
    wordings = rows * WORDINGS + rng.integers(WORDINGS, size=size)
    keep_B = torch.from_numpy((rng.random(size) >= CAPTION_DROP).astype(np.float32))
    latents = torch.from_numpy(bank.latents_NCHW[rows].astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    # one level from each of `size` equal parts of the schedule: less noise in the gradient
    levels = (rng.permutation(size) + rng.random(size)) / size * NOISE_STEPS
    return UnetBatch(
        latents_BCHW=latents.to(device()),
        noise_BCHW=noise.to(device()),
        times_B=torch.from_numpy(levels.astype(np.int64)).to(device()),
        condition=bank.texts.condition(wordings).dropped(keep_B.to(device())),
        categories_BPP=torch.from_numpy(bank.categories_NPP[rows].astype(np.int64)).to(device()),
        colours_BPP=torch.from_numpy(bank.colours_NPP[rows].astype(np.int64)).to(device()),
    )


def optimiser(task: nn.Module, config: LoopConfig) -> Together:
    """Muon on the inner matrices and kernels, AdamW on embeddings, ends, norms and the head."""
    inner = {
        name: p
        for name, p in task.named_parameters()
        if p.requires_grad and "_block" in name and p.ndim in (MATRIX, KERNEL)
    }
    others = [p for name, p in task.named_parameters() if name not in inner]
    return Together(
        matrix_muon([p for p in inner.values() if p.ndim == MATRIX], config),
        ConvolutionMuon([p for p in inner.values() if p.ndim == KERNEL], config),
        torch.optim.AdamW(
            groups_of(others, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98)
        ),
    )


def fit_unet(
    bank: LatentBank,
    recipe: UnetRecipe,
    encoders: TextEncoders,
    state_file: Path,
    watch: Callable[[UnetTask, int], None],
) -> UnetTask:
    """Train (or resume) the UNet; `watch(task, step)` is called before every step."""
    torch.manual_seed(SEED)
    task = UnetTask(encoders.width, encoders.projection).to(device())

    parts = part_count()
    count = recipe.batch // parts

    def losses_of(model: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        with autocast():
            losses: dict[str, Tensor] = model(draw_batch(bank, rng, count))
        return losses

    with Halves(task, parts) as halves:

        def gradients_of(step: int) -> dict[str, Tensor]:
            task.follow(step)
            watch(task, step)
            return halves.gradients(
                lambda model, part: losses_of(model, np.random.default_rng((SEED, step, part)))
            )

        descend(task, gradients_of, recipe.loop, state_file, optimiser)
    task.follow(recipe.loop.steps)
    return task.eval()

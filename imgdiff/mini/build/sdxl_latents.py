"""What the UNet learns from: the scenes of a bank as latents, and what each patch of them shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, Float16, Int8, Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from imgdiff.core.files import atomic_path
from imgdiff.core.identity import fingerprint, seed_for
from imgdiff.mini.build.clip_data import CATEGORY_IDS, COLOUR_IDS
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.build.halves import spread
from imgdiff.mini.build.loop import autocast, device
from imgdiff.mini.build.sdxl_text import Condition, TextEncoders
from imgdiff.mini.build.sdxl_vae import to_unit
from imgdiff.mini.language import describe
from imgdiff.mini.scene import SCENE_PX, Scene

PATCH_PX = 16
PATCHES = SCENE_PX // PATCH_PX
MIN_COVER = 0.3  # of a patch that an object owns
ENCODED_AT_ONCE = 32
SCALE_SCENES = 512
WORDINGS = 2  # captions of each scene
SEED = 0


@dataclass(frozen=True, kw_only=True)
class LatentBank:
    """Scaled latents (mean of the posterior), and per patch the category and colour; 0 is ground.

    `scale` is what the latents were multiplied by to have unit variance. Each scene has WORDINGS
    captions, as the text encoders see them.
    """

    scenes: Sequence[Scene]
    latents_NCHW: Float16[np.ndarray, "N C H W"]
    categories_NPP: Int8[np.ndarray, "N P P"]
    colours_NPP: Int8[np.ndarray, "N P P"]
    scale: float
    texts: TextBank

    def __len__(self) -> int:
        return len(self.scenes)


@dataclass(frozen=True, kw_only=True)
class TextBank:
    """Encoded captions; wording k of scene n is row n * WORDINGS + k."""

    states_RTW: Float16[np.ndarray, "R T W"]  # of one encoder, memory-mapped
    pooled_RP: Float16[np.ndarray, "R P"]

    def condition(self, rows: Int64[np.ndarray, " B"]) -> Condition:
        """As `TextEncoders` writes them."""
        states = torch.from_numpy(self.states_RTW[rows].astype(np.float32)).to(device())
        pooled = torch.from_numpy(self.pooled_RP[rows].astype(np.float32)).to(device())
        return Condition(tokens_BTW=torch.cat([states, states], dim=-1), pooled_BP=pooled)


def text_bank(scenes: Sequence[Scene], encoders: TextEncoders, folder: Path) -> TextBank:
    """Write and encode the captions of all scenes, or read them from `folder`."""
    captions = [
        describe(scene, np.random.default_rng(seed_for(SEED, f"{n}-{k}", "wording")))
        for n, scene in enumerate(scenes)
        for k in range(WORDINGS)
    ]
    key = fingerprint(captions, weights_key(encoders.second))
    states, pooled = (folder / f"{kind}-{key}.npy" for kind in ("states", "pooled"))
    if not states.exists():
        starts = range(0, len(captions), ENCODED_AT_ONCE)
        parts = spread(
            lambda start: _encoded_texts(encoders, captions[start : start + ENCODED_AT_ONCE]),
            starts,
        )
        width = encoders.width // 2
        _save(pooled, [part.pooled_BP for part in parts])
        _save(states, [part.tokens_BTW[..., :width] for part in parts])
    return TextBank(states_RTW=np.load(states, mmap_mode="r"), pooled_RP=np.load(pooled))


def _encoded_texts(encoders: TextEncoders, captions: Sequence[str]) -> Condition:
    with autocast():
        return encoders(captions)


def weights_key(model: nn.Module) -> str:
    """Changes with any weight."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest()


def latent_bank(
    scenes: Scenes, vae: AutoencoderKL, encoders: TextEncoders, folder: Path
) -> LatentBank:
    """Encode all scenes, or read them from `folder` if these weights have encoded them before."""
    file = folder / f"latents-{fingerprint(weights_key(vae), len(scenes))}.npy"
    if not file.exists():
        starts = range(0, len(scenes), ENCODED_AT_ONCE)
        spans = [range(start, min(len(scenes), start + ENCODED_AT_ONCE)) for start in starts]
        parts = spread(lambda span: encoded(vae, np.stack([scenes.image(k) for k in span])), spans)
        _save(file, parts)
    means_NCHW = np.load(file)
    scale = float(1.0 / means_NCHW[:SCALE_SCENES].astype(np.float64).std())
    labels = [patch_labels(scenes.scenes[k], scenes.instance_map(k)) for k in range(len(scenes))]
    return LatentBank(
        scenes=scenes.scenes,
        latents_NCHW=(means_NCHW * np.float16(scale)).astype(np.float16),
        categories_NPP=np.stack([categories for categories, _ in labels]),
        colours_NPP=np.stack([colours for _, colours in labels]),
        scale=scale,
        texts=text_bank(scenes.scenes, encoders, folder),
    )


def _save(file: Path, parts: Sequence[Tensor]) -> None:
    """Write the parts after each other as one float16 array."""
    with atomic_path(file) as temporary, temporary.open("wb") as handle:
        np.save(handle, torch.cat([part.half() for part in parts]).cpu().numpy())


def encoded(
    vae: AutoencoderKL, images_BHW3: UInt8[np.ndarray, "B H W 3"]
) -> Float[Tensor, "B C h w"]:
    """Means of the posterior, not scaled."""
    with torch.inference_mode(), autocast():
        latents: Tensor = vae.encode(to_unit(images_BHW3).to(device())).latent_dist.mean
    return latents.float()


def patch_labels(
    scene: Scene, owners_HW: UInt8[np.ndarray, "H W"]
) -> tuple[Int8[np.ndarray, "P P"], Int8[np.ndarray, "P P"]]:
    """Category and colour of the object that owns most of each patch, 0 where none owns enough."""
    blocks = owners_HW.reshape(PATCHES, PATCH_PX, PATCHES, PATCH_PX)
    numbers = np.arange(1, len(scene.objects) + 1).reshape(-1, 1, 1, 1, 1)
    covers = (blocks[None] == numbers).mean(axis=(2, 4))
    owner = np.where(covers.max(axis=0) >= MIN_COVER, covers.argmax(axis=0) + 1, 0)
    categories = [0, *(CATEGORY_IDS[item.category] for item in scene.objects)]
    colours = [0, *(COLOUR_IDS[item.colour] for item in scene.objects)]
    return np.array(categories, dtype=np.int8)[owner], np.array(colours, dtype=np.int8)[owner]


def reconstructed(
    vae: AutoencoderKL, images: Sequence[UInt8[np.ndarray, "H W 3"]]
) -> list[Image.Image]:
    """Images as they come back from the autoencoder (means, not scaled)."""
    drawings: list[Image.Image] = []
    for start in range(0, len(images), ENCODED_AT_ONCE):
        pixels = to_unit(np.stack(images[start : start + ENCODED_AT_ONCE])).to(device(), vae.dtype)
        with torch.inference_mode():
            back = vae.decode(vae.encode(pixels).latent_dist.mean).sample.float()
        levels = ((back.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
        drawings += [Image.fromarray(picture) for picture in levels.cpu().numpy()]
    return drawings

"""Settings of the pair generator `sdxl_p2p`: SDXL with Prompt-to-Prompt (paper §3.2).

Light: diffusers is imported by what `build()` returns, when it is entered.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Optional

from imgdiff.backends.checkpoints import Needed, content_identity, find, locate
from imgdiff.backends.configs import Dtype
from imgdiff.backends.handles import PairGeneratorHandle
from imgdiff.backends.p2p_plan import Edit, EditSettings
from imgdiff.backends.protocols import DrawsPairs
from imgdiff.backends.token_alignment import PadMap
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.files import read_json
from imgdiff.core.identity import fingerprint

PIXEL_STEP = 8  # diffusers' SDXL takes sizes that are multiples of it, whatever the VAE


class Scheduler(str, enum.Enum):
    """How noise is removed. `own`: as the checkpoint says (SDXL-base: euler; turbo: ancestral)."""

    own = "own"
    euler = "euler"
    euler_ancestral = "euler_ancestral"
    ddim = "ddim"
    dpm_multistep = "dpm_multistep"
    unipc = "unipc"


@dataclass(kw_only=True, slots=True)
class SdxlP2pConfig:
    """SDXL with Prompt-to-Prompt. The defaults are the published ones, but for the model.

    The published pipeline: stabilityai/stable-diffusion-xl-base-1.0 in float16 at 1024 px with
    `pad_map=reference`. SDXL-turbo: steps 1 to 4, guidance 0 (with one step no self attention is
    replaced at `self_replace` 0.4: a share is rounded down to whole steps).
    """

    model: str = "mini:sdxl"
    edit: Edit = Edit.refine
    pad_map: PadMap = PadMap.identity
    cross_replace: float = 1.0  # share of the steps in which cross attention is the source's
    self_replace: float = 0.4  # the same for self attention
    self_token_px: Optional[int] = None  # noqa: UP045
    """Self attention is the source's, and local blend looks, where a token covers so many pixels
    a side. null: the UNet's coarsest layers, as published (SDXL: 32; 60 of its 70 layers)."""
    word_shares: dict[str, float] = field(default_factory=dict)
    """`cross_replace` of single words of the target; a target without such a word is refused."""
    word_weights: dict[str, float] = field(default_factory=dict)
    """Factors on the attention to single words of the target; refused likewise."""
    local_blend: bool = False  # keep the source's latents where neither image shows the change
    blend_threshold: float = 0.3  # relative attention above which a place belongs to the change
    blend_start: float = 0.2  # share of the steps before the first blend
    steps: int = 50
    guidance: float = 7.5  # at or below 1 there is no guidance, and half the work
    width: Optional[int] = None  # noqa: UP045  pixels; null: as the checkpoint was trained
    height: Optional[int] = None  # noqa: UP045
    scheduler: Scheduler = Scheduler.own
    dtype: Dtype = Dtype.float32
    vae_upcast: Optional[bool] = None  # noqa: UP045  decode in float32; null: as the VAE says
    batch_pairs: int = 4  # pairs per pass, four images each under guidance; speed and memory only

    MODEL_KEY: ClassVar[str] = "generator.model"
    VERSION: ClassVar[int] = 2  # of everything in sdxl_p2p.py and below that changes a pixel

    def __post_init__(self) -> None:
        """Raise ConfigError naming the key, the value, the rule and the remedy."""
        if not self.model.strip():
            raise ConfigError(
                f"{self.MODEL_KEY}={self.model!r}: names no checkpoint; give mini:sdxl, a folder "
                "in diffusers' layout or a hub name"
            )
        for key in ("cross_replace", "self_replace", "blend_threshold", "blend_start"):
            _check_share(key, getattr(self, key))
        for word, share in self.word_shares.items():
            _check_share(f"word_shares.{word}", share)
        for word, weight in self.word_weights.items():
            _check_number(f"word_weights.{word}", weight, "1 leaves the word as it is")
        _check_number("guidance", self.guidance, "7.5 is SDXL's, 0 is SDXL-turbo's")
        for key in ("steps", "self_token_px", "batch_pairs"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise ConfigError(f"generator.{key}={value}: must be at least 1")
        for key in ("width", "height"):
            _check_side(key, getattr(self, key), PIXEL_STEP)

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        size, dtype = "7 GB in float16", self.dtype.value
        return Needed(key=self.MODEL_KEY, model=self.model, size=size, dtype=dtype)

    def folder(self) -> Path:
        """The checkpoint's folder. BackendError where it is absent or no diffusers pipeline."""
        folder = locate(self.MODEL_KEY, self.model)
        if not (folder / "model_index.json").is_file():
            raise BackendError(
                f"{self.MODEL_KEY}={self.model}: {folder} lacks model_index.json. Point the "
                "setting at a whole SDXL checkpoint in diffusers' layout."
            )
        return folder

    def edit_settings(self) -> EditSettings:
        """What decides over the attention."""
        return EditSettings(
            steps=self.steps,
            edit=self.edit,
            pad_map=self.pad_map,
            cross_replace=self.cross_replace,
            self_replace=self.self_replace,
            word_shares=dict(self.word_shares),
            word_weights=dict(self.word_weights),
        )

    def identity(self) -> str:
        """Checkpoint contents, number type, sampling, and a hash of all that changes a pixel."""
        content = content_identity(self.folder())
        settings = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("model", "dtype", "batch_pairs")
        }
        return (
            f"sdxl-p2p:{content}:{self.dtype.effective()}:{self.edit.value}:{self.steps}steps"
            f":guidance={self.guidance}:{fingerprint(settings)}:v{self.VERSION}"
        )

    def build(self) -> PairGeneratorHandle:
        """The backend; loads nothing before it is entered.

        ConfigError for a size that the checkpoint's VAE cannot take, where the checkpoint is here.
        """
        if find(self.model) is not None:
            factor = vae_factor(self.folder())
            for key in ("width", "height"):
                _check_side(key, getattr(self, key), max(PIXEL_STEP, factor))
        return PairGeneratorHandle(self.identity, self._open)

    def _open(self) -> DrawsPairs:
        from imgdiff.backends.sdxl_p2p import SdxlPairs

        return SdxlPairs(self)


def vae_factor(folder: Path) -> int:
    """Pixels a side that one latent stands for."""
    file = folder / "vae" / "config.json"
    if not file.is_file():
        raise BackendError(
            f"{SdxlP2pConfig.MODEL_KEY}={folder}: lacks vae/config.json. Download the whole "
            "checkpoint again."
        )
    return int(2 ** (len(read_json(file).get("block_out_channels", [0])) - 1))


def _check_share(key: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ConfigError(
            f"generator.{key}={value}: must lie in [0, 1], a share; 0 turns it off, 1 is all of it"
        )


def _check_number(key: str, value: float, usual: str) -> None:
    if not 0.0 <= value < math.inf:
        raise ConfigError(f"generator.{key}={value}: must be a number >= 0; {usual}")


def _check_side(key: str, value: int | None, step: int) -> None:
    if value is not None and (value < step or value % step):
        raise ConfigError(
            f"generator.{key}={value}: must be a multiple of {step} pixels, which the VAE works "
            "in; null takes the size that the checkpoint was trained at"
        )

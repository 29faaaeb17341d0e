"""What there is to export, recognised and checked against the settings before a weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from imgdiff.backends.adapters import Adapters, find_adapters, holds_adapters
from imgdiff.backends.checkpoint_kind import Kind, kind_of
from imgdiff.backends.checkpoints import locate
from imgdiff.backends.internvl2_config import original_config
from imgdiff.backends.llava_export import VISION_TOWER
from imgdiff.backends.llava_layout import model_config
from imgdiff.backends.loading import loading
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.train.export.config import ExportConfig, Format
from imgdiff.train.trained import KEY, trained_folder

# Of openai/clip-vit-large-patch14-336, which the original code loads by its name.
_PUBLISHED_TOWER = {
    "hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 336,
}  # fmt: skip


_FORMATS = {
    Kind.llava: (Format.hf, Format.llava),
    Kind.llava_original: (Format.hf,),
    Kind.internvl: (Format.hf, Format.internvl2),
    Kind.internvl_original: (Format.hf,),
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint to export. `weights` is its own folder, or that of the adapters' base."""

    name: str
    folder: Path
    weights: Path
    kind: Kind
    adapters: Adapters | None
    companions: Path | None  # the original InternVL2 folder that goes with it


def find_source(config: ExportConfig) -> Source:
    """The checkpoint of these settings; ConfigError or BackendError for all that cannot be done."""
    folder = trained_folder(config.checkpoint)
    adapters = None
    if holds_adapters(folder):
        adapters = find_adapters(KEY, config.checkpoint, folder, config.base)
    weights = folder if adapters is None else adapters.base
    kind = kind_of(KEY, config.checkpoint, weights, _FORMATS)
    _check_format(config, kind, adapters)
    source = Source(
        name=config.checkpoint,
        folder=folder,
        weights=weights,
        kind=kind,
        adapters=adapters,
        companions=_companions(config, kind, adapters, weights),
    )
    _check_vision_tower(config, source)
    check_output(config)
    return source


def _check_format(config: ExportConfig, kind: Kind, adapters: Adapters | None) -> None:
    allowed = _FORMATS[kind]
    if adapters is not None and kind is Kind.internvl_original:
        allowed = (Format.hf, Format.internvl2)
    if adapters is not None and kind is Kind.llava_original:
        raise BackendError(
            f"{KEY}={config.checkpoint}: its base {adapters.base_name} is {kind.value}. Export "
            "that with format=hf first, and name the result as base."
        )
    if config.format not in allowed:
        ways = " or ".join(f"format={way.value}" for way in allowed)
        raise ConfigError(
            f"format={config.format.value}: {KEY}={config.checkpoint} is {kind.value}, which can "
            f"be written with {ways}."
        )
    if adapters is None and not config.merge:
        raise ConfigError(
            f"merge=false: {KEY}={config.checkpoint} holds a whole model and no adapters. Remove "
            "merge=false."
        )


def _companions(
    config: ExportConfig, kind: Kind, adapters: Adapters | None, weights: Path
) -> Path | None:
    """The original folder beside which the authors' format is written; None for other formats."""
    if adapters is None and config.base is not None and config.format is not Format.internvl2:
        raise ConfigError(
            f"base={config.base}: {KEY}={config.checkpoint} is a whole model, which needs no base "
            f"for format={config.format.value}. Remove base=."
        )
    if config.format is not Format.internvl2:
        return None
    if adapters is not None and kind is Kind.internvl:
        raise ConfigError(
            f"format=internvl2: the adapters of {KEY}={config.checkpoint} belong to a converted "
            "base. Merge them first (format=hf), then export that folder with base=ORIGINAL_FOLDER."
        )
    if adapters is not None:
        return adapters.base
    original_config(SimpleNamespace(**model_config(weights)))
    if config.base is None:
        raise ConfigError(
            "format=internvl2 needs base=FOLDER: the original checkpoint, whose tokenizer and "
            "remote code are copied. Without them nothing opens the folder."
        )
    folder = locate("base", config.base)
    kind_of("base", config.base, folder, [Kind.internvl_original])
    return folder


def _check_vision_tower(config: ExportConfig, source: Source) -> None:
    """ConfigError where a tower is missing, or named and not used."""
    kind, tower = source.kind, config.vision_tower
    if kind is Kind.llava_original:
        name = model_config(source.weights).get("mm_vision_tower", VISION_TOWER)
        if tower is None:
            raise ConfigError(
                f"{KEY}={source.name} is {kind.value}: it needs vision_tower=FOLDER, the CLIP that "
                f"it sees with ({name})."
            )
        locate("vision_tower", tower)
    elif config.format is Format.llava:
        shape = _tower_shape(source.weights)
        if tower is None and shape != _PUBLISHED_TOWER:
            raise ConfigError(
                f"format=llava needs vision_tower=NAME: the original code would load "
                f"{VISION_TOWER}, and this model sees with another CLIP ({shape}). Name the folder "
                "or hub name of its own."
            )
    elif tower is not None:
        raise ConfigError(
            f"vision_tower={tower}: not used for {kind.value} and format={config.format.value}. "
            "Remove it."
        )


def _tower_shape(folder: Path) -> dict[str, int]:
    from transformers import LlavaConfig

    with loading(KEY, str(folder)):
        vision = LlavaConfig.from_pretrained(folder).vision_config
    return {key: getattr(vision, key) for key in _PUBLISHED_TOWER}


def check_output(config: ExportConfig) -> None:
    """ConfigError where `output_dir` holds anything."""
    folder = Path(config.output_dir)
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken:
        raise ConfigError(
            f"output_dir={config.output_dir}: is not empty. Choose another folder, or remove it."
        )

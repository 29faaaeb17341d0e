"""Settings of `python -m imgdiff.train.export`. Light: imports no deep learning."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from imgdiff.backends.configs import Dtype
from imgdiff.core.errors import ConfigError
from imgdiff.train.trained import DEFAULT


class Format(str, enum.Enum):
    """Who is to open the folder."""

    hf = "hf"  # transformers, and every command of imgdiff
    llava = "llava"  # the code of haotian-liu/LLaVA
    internvl2 = "internvl2"  # the authors' remote code, vLLM, lmdeploy


@dataclass(kw_only=True, slots=True)
class ExportConfig:
    """One checkpoint, written anew."""

    checkpoint: str = DEFAULT  # a folder, `mini:NAME`, a name in the hub's cache
    format: Format = Format.hf
    output_dir: str = "outputs/export"  # must not hold anything yet
    # Of adapters: null takes the one that their folder names. With format=internvl2 and a full
    # checkpoint: the original folder, whose tokenizer and remote code are copied.
    base: str | None = None
    # The CLIP of an original LLaVA folder; with format=llava, what the original code loads.
    vision_tower: str | None = None
    merge: bool = True  # false keeps adapters as such (format=llava only)
    dtype: Dtype | None = None  # number type of the weights; null: that of the base

    def __post_init__(self) -> None:
        for key in ("checkpoint", "output_dir"):
            if not getattr(self, key).strip():
                raise ConfigError(f"{key} is empty: name a folder")
        if not self.merge and self.format is not Format.llava:
            raise ConfigError(
                f"merge=false: adapters of their own are written with format=llava, not "
                f"{self.format.value}. Remove merge=false; the checkpoint itself is peft's form."
            )


def register() -> None:
    """Make the schema known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="export", node=ExportConfig, package="_global_")

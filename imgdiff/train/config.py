"""Settings of `python -m imgdiff.train`. Light: imports no deep learning."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from imgdiff.backends.configs import ChatTemplate
from imgdiff.core.errors import ConfigError

WORLD = "world"


class Precision(str, enum.Enum):
    """What the matrices are multiplied in; weights and optimiser state stay float32."""

    bfloat16 = "bfloat16"
    float32 = "float32"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The model to start from: a LLaVA checkpoint of transformers."""

    path: str = "mini:llava"  # `mini:NAME`, a folder, or a name in the hub's local cache
    template: ChatTemplate = ChatTemplate.vicuna_v1  # LLaVA-1.5's own
    max_tokens: int = 2048  # of a sample with its image tokens; a longer one is refused

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"model.max_tokens={self.max_tokens}: must be at least 1")


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where instructions come from and in which shares."""

    # `world`: drawn on demand; else a LLaVA JSON whose image paths are relative to its folder.
    base: str | None = WORLD
    world_samples: int = 3000  # how many are drawn for base=world
    synth: str | None = "outputs/synth"  # folder of imgdiff.synth; null: no difference data
    synth_share: float = 0.6  # of the samples of the run; the rest is base

    def __post_init__(self) -> None:
        if not 0.0 <= self.synth_share <= 1.0:
            raise ConfigError(
                f"data.synth_share={self.synth_share}: must lie in [0, 1]; it is the fraction of "
                "samples drawn from the difference data"
            )
        if self.world_samples < 1:
            raise ConfigError(f"data.world_samples={self.world_samples}: must be at least 1")
        if self.base is None and self.synth is None:
            raise ConfigError(
                "data.base=null and data.synth=null leave nothing to train on; set one of them"
            )

    @property
    def share(self) -> float:
        """The fraction of difference data, with a source that is switched off left out."""
        if self.synth is None:
            return 0.0
        return 1.0 if self.base is None else self.synth_share


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """One fine-tuning run."""

    output_dir: str = "outputs/train"
    overwrite: bool = False  # replace what another run left in output_dir
    cache_dir: str = "outputs/cache"  # instructions that are drawn on demand
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    max_steps: int = 700
    batch_size: int = 8  # samples of one step; the loss is the mean over its supervised tokens
    learning_rate: float = 3e-4  # peak; cosine to 0
    warmup_ratio: float = 0.03  # of max_steps, linear from 0
    weight_decay: float = 0.0
    precision: Precision = Precision.bfloat16
    seed: int = 42
    threads: int = 2  # of the CPU; results are reproducible for one number of threads

    def __post_init__(self) -> None:
        for key in ("max_steps", "batch_size", "threads"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}={getattr(self, key)}: must be at least 1")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate={self.learning_rate}: must be above 0")
        if not 0.0 <= self.warmup_ratio < 1.0:
            raise ConfigError(f"warmup_ratio={self.warmup_ratio}: must lie in [0, 1)")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay={self.weight_decay}: must be 0 or more")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}: must be 0 or more")


# Runs that differ only here are the same run. (Another number of threads rounds otherwise, but
# a finished run is not done again for it.)
NOT_IN_IDENTITY = frozenset({"output_dir", "overwrite", "cache_dir", "threads"})


def register() -> None:
    """Make the schema known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")

"""Settings of `python -m imgdiff.train`. Light: imports no deep learning."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Any

from imgdiff.backends.configs import ChatTemplate
from imgdiff.core.errors import ConfigError
from imgdiff.train.plan import Batching
from imgdiff.train.source_config import RowRules, typed_source

WORLD = "world"
BASE = "base"
SYNTH = "synth"


class Precision(str, enum.Enum):
    """What matrices are multiplied in. Weights that train and optimiser state stay float32."""

    bfloat16 = "bfloat16"
    float32 = "float32"


class Attention(str, enum.Enum):
    """The implementation of attention in transformers. flash needs a GPU and its own package."""

    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


@dataclass(kw_only=True, slots=True)
class AssemblyConfig:
    """The start of LLaVA-1.5's second stage, put together from its three parts."""

    language: str | None = None  # a Vicuna (Llama) checkpoint
    vision: str | None = None  # a CLIP checkpoint
    projector: str | None = None  # mm_projector.bin of the first stage

    def __post_init__(self) -> None:
        given = [name for name in ("language", "vision", "projector") if getattr(self, name)]
        if given and len(given) < len(("language", "vision", "projector")):
            raise ConfigError(
                f"model.assembly names {', '.join(given)} only: language, vision and projector "
                "belong together. Set all three, or none and model.path."
            )

    @property
    def wanted(self) -> bool:
        """Whether the model is assembled, and model.path not used."""
        return self.language is not None


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The model to start from: a LLaVA-1.5 or an InternVL2."""

    path: str = "mini:llava"  # `mini:NAME`, a folder, or a name in the hub's local cache
    assembly: AssemblyConfig = field(default_factory=AssemblyConfig)
    template: ChatTemplate = ChatTemplate.vicuna_v1  # of a LLaVA; an InternVL2 brings its own
    max_tokens: int = 2048  # of a sample with its image tokens; what is longer is cut there
    max_tiles: int = 6  # of an image, for an InternVL2; the thumbnail comes on top
    attention: Attention = Attention.sdpa
    recompute: bool = False  # activations of the language model in the backward pass: less memory
    size: str = "6 MB"  # of the published weights, for messages

    def __post_init__(self) -> None:
        for key in ("max_tokens", "max_tiles"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key}={getattr(self, key)}: must be at least 1")
        if not self.path.strip():
            raise ConfigError(
                "model.path is empty: give mini:llava, a folder, or a name of the hub"
            )


class Tuning(str, enum.Enum):
    """What trains. The vision tower never does, as in the published recipes."""

    full = "full"  # projector and language model
    lora = "lora"  # adapters on the language model's linear layers
    qlora = "qlora"  # the same on a language model held in 4 bits (GPU, bitsandbytes)
    projector = "projector"  # the projector alone: the first stage


@dataclass(kw_only=True, slots=True)
class TuningConfig:
    """What trains, and at which rate."""

    kind: Tuning = Tuning.full
    rank: int = 128  # of the adapters
    alpha: int = 256  # their update is scaled by alpha / rank
    dropout: float = 0.05  # before the adapters
    train_projector: bool = True  # beside the adapters

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"tuning.rank={self.rank}: must be at least 1; 16 to 128 are usual")
        if self.alpha < 1:
            raise ConfigError(f"tuning.alpha={self.alpha}: must be at least 1; 2 * rank is usual")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"tuning.dropout={self.dropout}: must lie in [0, 1)")

    @property
    def has_adapters(self) -> bool:
        """Whether peft is needed."""
        return self.kind in (Tuning.lora, Tuning.qlora)


class StrategyKind(str, enum.Enum):
    """How a run is spread over devices."""

    single = "single"
    ddp = "ddp"  # a copy of the model on each device
    fsdp = "fsdp"  # weights, gradients and optimiser state sharded (GPUs)
    deepspeed_zero2 = "deepspeed_zero2"  # gradients and optimiser state sharded (GPUs)
    deepspeed_zero3 = "deepspeed_zero3"  # weights too (GPUs)


@dataclass(kw_only=True, slots=True)
class StrategyConfig:
    """Devices and how they share the work."""

    kind: StrategyKind = StrategyKind.single
    devices: int = 1  # per node; 0: all GPUs that are there
    nodes: int = 1
    offload: bool = False  # DeepSpeed: optimiser state in the memory of the CPU

    @property
    def shards(self) -> bool:
        """Whether a resume point holds one part per device."""
        return self.kind not in (StrategyKind.single, StrategyKind.ddp)

    def __post_init__(self) -> None:
        if self.devices < 0 or self.nodes < 1:
            raise ConfigError(
                f"strategy.devices={self.devices}, strategy.nodes={self.nodes}: devices must be "
                "0 (all) or more, nodes at least 1"
            )
        if self.kind is StrategyKind.single and (self.devices, self.nodes) != (1, 1):
            raise ConfigError(
                f"strategy=single runs on one device, not {self.devices} x {self.nodes}. "
                "Choose strategy=ddp, fsdp or deepspeed_zero2."
            )
        if self.offload and "deepspeed" not in self.kind.value:
            raise ConfigError(
                f"strategy.offload=true needs a deepspeed strategy, not {self.kind.value}"
            )


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where instructions come from and how they are mixed."""

    # `world`: drawn on demand; else a file in LLaVA's format.
    base: str | None = WORLD
    world_samples: int = 3000  # how many are drawn for base=world
    synth: str | None = "outputs/synth"  # folder of imgdiff.synth; null: no difference data
    # Of the samples of the run, evenly spread; null: every row of every source once an epoch.
    synth_share: float | None = 0.6
    # Any number more, by name. Any, not SourceConfig: OmegaConf adds no typed entry to a map.
    sources: dict[str, Any] = field(default_factory=dict)
    rules: RowRules = field(default_factory=RowRules)

    def __post_init__(self) -> None:
        if self.synth_share is not None and not 0.0 <= self.synth_share <= 1.0:
            raise ConfigError(
                f"data.synth_share={self.synth_share}: must lie in [0, 1]; it is the fraction of "
                "samples drawn from the difference data. null takes every row once an epoch."
            )
        if self.world_samples < 1:
            raise ConfigError(f"data.world_samples={self.world_samples}: must be at least 1")
        if self.base is None and self.synth is None and not self.sources:
            raise ConfigError(
                "data.base=null and data.synth=null leave nothing to train on; set one of them, "
                "or data.sources"
            )
        self.sources = {name: typed_source(name, value) for name, value in self.sources.items()}
        taken = sorted({BASE, SYNTH} & set(self.sources))
        if taken:
            raise ConfigError(
                f"data.sources.{taken[0]}: that name belongs to data.{taken[0]}; choose another"
            )

    @property
    def share(self) -> float | None:
        """The fraction of difference data where both are on; None: mixed by rows."""
        return self.synth_share if self.base is not None and self.synth is not None else None


@dataclass(kw_only=True, slots=True)
class LoggingConfig:
    """Where the figures of a run go, beside the terminal; metrics.csv is always written."""

    tensorboard: bool = True
    wandb_project: str | None = None  # needs the package wandb


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """One fine-tuning run."""

    output_dir: str = "outputs/train"
    overwrite: bool = False  # replace what another run left in output_dir
    cache_dir: str = "outputs/cache"  # tables of the data; instructions that are drawn on demand
    model: ModelConfig = field(default_factory=ModelConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    data: DataConfig = field(default_factory=DataConfig)
    epochs: float = 1.0  # over the data; not used where max_steps is set
    max_steps: int | None = 700
    batch_size: int = 8  # samples of one optimiser step, over all devices
    # Samples of one forward pass; the loss is the mean over its supervised tokens, so it is part
    # of a recipe. null: batch_size.
    micro_batch_size: int | None = None
    batching: Batching = Batching.plain
    # Samples of a micro-batch end to end in one row, without padding; null: for batching=pack.
    padding_free: bool | None = None
    bucket_steps: int = 16  # that are sorted together, batching=length_bucket
    # Micro-batches of a step that are of like length, batching=length_bucket: as many as there are
    # devices, so that none waits.
    lockstep: int = 1
    learning_rate: float = 3e-4  # peak; linear warm-up, cosine to 0
    projector_learning_rate: float | None = None  # null: learning_rate
    weight_decay: float = 0.0  # of every trained parameter, norms and biases too
    warmup_ratio: float = 0.03  # of the steps, linear from 0
    clip_norm: float | None = None  # of the gradient of a step; null: no clipping
    precision: Precision = Precision.bfloat16
    save_every: int = 200  # steps between two points that a killed run continues from
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    workers: int = 0  # processes that read images; no result depends on it
    seed: int = 42
    threads: int = 2  # of the CPU; results are reproducible for one number of threads

    def __post_init__(self) -> None:
        counts = ("batch_size", "threads", "save_every", "bucket_steps", "lockstep")
        for key in counts:
            _at_least(key, getattr(self, key), 1)
        for key in ("max_steps", "micro_batch_size"):
            if getattr(self, key) is not None:
                _at_least(key, getattr(self, key), 1)
        for key in ("workers", "seed"):
            _at_least(key, getattr(self, key), 0)
        for key in ("learning_rate", "projector_learning_rate", "clip_norm", "epochs"):
            value = getattr(self, key)
            if value is not None and not 0.0 < value < math.inf:
                raise ConfigError(f"{key}={value}: must be above 0")
        if not 0.0 <= self.warmup_ratio < 1.0:
            raise ConfigError(f"warmup_ratio={self.warmup_ratio}: must lie in [0, 1)")
        if not 0.0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay={self.weight_decay}: must be 0 or more")
        if self.batch_size % self.micro_samples:
            raise ConfigError(
                f"micro_batch_size={self.micro_batch_size} does not divide batch_size="
                f"{self.batch_size}. Choose a divisor."
            )

        self._check_layout()

    def _check_layout(self) -> None:
        if self.without_padding and self.model.attention is Attention.eager:
            raise ConfigError(
                "model.attention=eager cannot keep samples apart that share a row (batching="
                f"{self.batching.value}, padding_free={self.padding_free}). Set model.attention="
                "sdpa or flash_attention_2, or padding_free=false."
            )

    @property
    def without_padding(self) -> bool:
        """Whether the samples of a micro-batch lie end to end in one row."""
        if self.padding_free is None:
            return self.batching is Batching.pack
        return self.padding_free

    @property
    def micro_samples(self) -> int:
        """Samples of one forward pass on one device."""
        return self.micro_batch_size or self.batch_size

    @property
    def micro_per_step(self) -> int:
        """Forward passes of one optimiser step, over all devices."""
        return self.batch_size // self.micro_samples


def _at_least(key: str, value: int, low: int) -> None:
    if value < low:
        raise ConfigError(f"{key}={value}: must be at least {low}")


# Runs that differ only here are the same run. (Another number of threads rounds otherwise, but
# a finished run is not done again for it.)
NOT_IN_IDENTITY = frozenset(
    {"output_dir", "overwrite", "cache_dir", "threads", "workers", "logging", "save_every"}
)


def register() -> None:
    """Make the schemas known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=TrainConfig, package="_global_")

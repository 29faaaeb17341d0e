"""Settings of `python -m imgdiff.eval`. Light: imports no deep learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from imgdiff.backends.checkpoints import find
from imgdiff.backends.configs import ChatTemplate, Dtype, VlmConfig
from imgdiff.core.errors import ConfigError
from imgdiff.eval.mmvp import PromptStyle

if TYPE_CHECKING:
    from imgdiff.backends.protocols import Chat


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The model that is asked. Decoding is greedy."""

    path: str = "outputs/train/checkpoint"  # or `mini:NAME`, or a name in the hub's local cache
    template: ChatTemplate = ChatTemplate.vicuna_v1  # llava_v1 is what MMVP's own script uses
    max_new_tokens: int = 32
    batch_size: int = 32  # no answer depends on it
    dtype: Dtype = Dtype.float32  # on a GPU; a CPU computes in float32

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"model.{key}={getattr(self, key)}: must be at least 1")

    def build(self) -> Chat:
        """The backend, light until entered; ConfigError where there is no such checkpoint."""
        if find(self.path) is None:
            raise ConfigError(
                f"model.path={self.path}: no checkpoint there. Run `python -m imgdiff.train` first "
                "(it writes outputs/train/checkpoint), or give a folder, mini:llava, or a name "
                "that is in the hub's local cache."
            )
        return _AskedConfig(
            model=self.path,
            template=self.template,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            dtype=self.dtype,
        ).build()


@dataclass(kw_only=True, slots=True)
class _AskedConfig(VlmConfig):
    MODEL_KEY: ClassVar[str] = "model.path"


@dataclass(kw_only=True, slots=True)
class MmvpConfig:
    """A benchmark in MMVP's format: a folder, or the procedural set where root is null."""

    root: str | None = None
    pairs: int = 150  # of the procedural set
    seed: int = 0  # of the procedural set
    prompt: PromptStyle = PromptStyle.letter

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise ConfigError(f"benchmark.pairs={self.pairs}: must be at least 1")


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """One model on one benchmark."""

    output_dir: str = "outputs/eval"
    overwrite: bool = False  # replace the evaluation of another model or benchmark in output_dir
    cache_dir: str = "outputs/cache"  # the procedural set is drawn into it
    benchmark: MmvpConfig = field(default_factory=MmvpConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


def register() -> None:
    """Make the schema known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="eval", node=EvalConfig, package="_global_")

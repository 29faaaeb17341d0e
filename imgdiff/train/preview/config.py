"""Settings of `python -m imgdiff.train.preview`: those of a run, and how much of it is shown.

Light: imports no deep learning.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgdiff.core.errors import ConfigError
from imgdiff.train.config import TrainConfig


@dataclass(kw_only=True, slots=True)
class PreviewConfig(TrainConfig):
    """A fine-tuning run of which the first samples are shown."""

    samples: int = 8
    output_dir: str = "outputs/preview"  # preview.html and one picture per sample

    def __post_init__(self) -> None:
        # By name: a dataclass with slots is another class than the one `super()` knows here.
        TrainConfig.__post_init__(self)
        if self.samples < 1:
            raise ConfigError(f"samples={self.samples}: must be at least 1; 8 fill a screen or two")


def register() -> None:
    """Make the schema known to Hydra, in the place of imgdiff.train's.

    conf/preview.yaml includes conf/train.yaml whole, which names that place.
    """
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="train", node=PreviewConfig, package="_global_")

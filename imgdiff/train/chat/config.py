"""Settings of `python -m imgdiff.train.chat`. Light: imports no deep learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from imgdiff.backends.configs import ChatTemplate, Dtype, VlmConfig
from imgdiff.core.errors import ConfigError
from imgdiff.train.trained import DEFAULT, KEY

TEXTS = ("question", "image", "image2")  # values that are no Hydra syntax: a comma is a comma


@dataclass(kw_only=True, slots=True)
class ChatConfig:
    """One checkpoint and what it is asked about. Decoding is greedy."""

    checkpoint: str = DEFAULT  # a model or adapters; or `mini:NAME`, or a name in the hub's cache
    image: str | None = None  # null: a question without an image
    image2: str | None = None  # the right image of a pair: beside the left one, as in training
    question: str | None = None  # null: questions are typed at the terminal
    template: ChatTemplate = ChatTemplate.vicuna_v1  # of a LLaVA; an InternVL2 brings its own
    max_new_tokens: int = 256
    dtype: Dtype = Dtype.float32  # on a GPU; a CPU computes in float32

    def __post_init__(self) -> None:
        if self.image2 is not None and self.image is None:
            raise ConfigError(f"image2={self.image2} is the right image of a pair: set image= too")
        if self.question is not None and not self.question.strip():
            raise ConfigError("question is empty: ask something, or leave it out to type questions")
        if self.max_new_tokens < 1:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens}: must be at least 1; 256 is a paragraph"
            )

    def asked(self) -> VlmConfig:
        """The chat backend's settings: one question at a time."""
        return _AskedConfig(
            model=self.checkpoint,
            template=self.template,
            max_new_tokens=self.max_new_tokens,
            batch_size=1,
            image_batch_size=1,
            dtype=self.dtype,
        )


@dataclass(kw_only=True, slots=True)
class _AskedConfig(VlmConfig):
    MODEL_KEY: ClassVar[str] = KEY


def register() -> None:
    """Make the schema known to Hydra, in the group `schema` that no menu shows."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.store(group="schema", name="chat", node=ChatConfig, package="_global_")

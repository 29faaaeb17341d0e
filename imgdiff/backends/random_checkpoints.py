"""Published models at their true size with random weights, for dry runs without downloads.

`random:NAME` is a folder of the package with the published configuration of NAME (see the README
beside the folders) and no weights. Loaders open such a folder and a real one by the same calls of
this module, which alone knows the difference:

* weights are drawn on the device and in the number type that the model runs in, by a seed from its
  name: one copy in memory, and the same weights in every run on one kind of device;
* published vocabularies do not ship with the package: the mini family's tokenizer cuts the texts.
  The embeddings have their published size, of which texts use the lowest ids;
* a language model says only words of that tokenizer and never ends before its limit, so that every
  stage after it has text, and the longest answers are what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from imgdiff.backends.checkpoints import (
    MINI_PREFIX,
    PUBLISHED_CARD,
    RANDOM_PREFIX,
    Needed,
    draws_weights,
    is_random,
    locate,
    published_names,
)
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.files import read_json
from imgdiff.core.identity import seed_for

if TYPE_CHECKING:
    import torch

SHORTEST_WORD = 3  # letters; shorter pieces are parts of words
WORD_MARK = "\u2581"  # a piece that begins a word begins with it
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the package says of a published checkpoint, beside its configuration."""

    source: str  # where the configuration is published
    parameters: int
    parameters_source: str  # what the number is compared with
    tokenizer: str = ""  # the checkpoint whose tokenizer stands in; empty: reads no text


@runtime_checkable
class NamesModel(Protocol):
    """A part of the settings that names a checkpoint."""

    model: str


def use_random_weights(parts: Sequence[NamesModel]) -> None:
    """Name `random:NAME` wherever a part names a published checkpoint, on this machine or not."""
    known = published_names()
    for part in parts:
        if part.model in known:
            part.model = RANDOM_PREFIX + part.model


def check_random(needed: Sequence[Needed]) -> None:
    """BackendError for a checkpoint without a configuration here; the mini family's are trained.

    ConfigError where a run loads no checkpoint with random weights: such a run is no dry run.
    """
    names = ", ".join(published_names())
    for item in needed:
        if not (item.model.startswith(MINI_PREFIX) or draws_weights(item.model)):
            raise BackendError(
                f"checkpoints=random with {item.key}={item.model}: the package has no published "
                f"configuration of that name, so its shape is not known. Name one of {names}, or a "
                "mini: checkpoint, or set checkpoints=local."
            )
    if not any(draws_weights(item.model) for item in needed):
        raise ConfigError(
            "checkpoints=random: this run loads no published checkpoint, so there is nothing to "
            "draw weights for. Add preset=paper, or leave checkpoints=random out."
        )


def parameters(needed: Needed) -> int:
    """Number of parameters of a checkpoint `random:NAME`, as published."""
    return card(locate(needed.key, needed.model)).parameters


def card(folder: Path) -> Card:
    """The card of a folder with a published configuration."""
    return Card(**read_json(folder / PUBLISHED_CARD))


def tokenizer_folder(folder: Path) -> Path:
    """Where the tokenizer of a checkpoint folder lies: in it, or in the mini one that stands in."""
    if not is_random(folder):
        return folder
    return locate("tokenizer", card(folder).tokenizer)


def opened(
    folder: Path, dtype: torch.dtype, trained: Callable[[], T], untrained: Callable[[], T]
) -> T:
    """What `trained` reads from the folder; without weights, what `untrained` initialises.

    `untrained` runs with the device and number type of its tensors and the random seed set.
    """
    if not is_random(folder):
        return trained()
    with _initialising(folder, dtype):
        return untrained()


@contextmanager
def _initialising(folder: Path, dtype: torch.dtype) -> Iterator[None]:
    import torch

    from imgdiff.backends.loading import device

    usual = torch.get_default_dtype()
    with torch.random.fork_rng(), torch.device(device()):
        torch.manual_seed(seed_for(0, folder.name, "random weights"))
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)


def open_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of the transformers class `kind`, as `kind.from_pretrained` gives it."""

    def untrained() -> Any:
        config = kind.config_class.from_pretrained(folder)
        model = kind._from_config(config, dtype=dtype).eval()
        if getattr(model, "lm_head", None) is not None:
            _say_words_only(model.lm_head, tokenizer_folder(folder))
        return model

    return opened(folder, dtype, lambda: kind.from_pretrained(folder, dtype=dtype), untrained)


def _say_words_only(head: torch.nn.Linear, tokenizer: Path) -> None:
    """Score every id that is no whole word -inf: parts of words, marks, the end, the unknown."""
    import torch

    pieces = read_json(tokenizer / "tokenizer.json")["model"]["vocab"]
    silent_V = torch.ones(head.out_features, dtype=torch.bool)
    silent_V[[number for piece, number in pieces.items() if _is_word(piece)]] = False

    def hook(_module: Any, _inputs: Any, scores: torch.Tensor) -> torch.Tensor:
        return scores.masked_fill(silent_V.to(scores.device), -torch.inf)

    head.register_forward_hook(hook)


def _is_word(piece: str) -> bool:
    letters = piece.removeprefix(WORD_MARK)
    return piece.startswith(WORD_MARK) and letters.isalpha() and len(letters) >= SHORTEST_WORD


def pipeline_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """What a diffusers pipeline must be handed because its SDXL folder does not hold it.

    All models and tokenizers of a folder without weights; nothing of any other.
    """
    return opened(folder, dtype, dict, lambda: _sdxl_parts(folder, dtype))


def _sdxl_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    from transformers import CLIPTokenizer as Tokenizer

    def text_encoder(kind: Any, name: str) -> Any:
        config = CLIPTextConfig.from_pretrained(folder / name)
        return kind._from_config(config, dtype=dtype).eval()

    def of_diffusers(kind: Any, name: str) -> Any:
        return kind.from_config(kind.load_config(folder / name)).eval()

    words = tokenizer_folder(folder)
    return {
        "text_encoder": text_encoder(CLIPTextModel, "text_encoder"),
        "text_encoder_2": text_encoder(CLIPTextModelWithProjection, "text_encoder_2"),
        "unet": of_diffusers(UNet2DConditionModel, "unet"),
        "vae": of_diffusers(AutoencoderKL, "vae"),
        "tokenizer": Tokenizer.from_pretrained(words),
        "tokenizer_2": Tokenizer.from_pretrained(words),
    }

"""Instruction data in LLaVA's format: reading it, and planning which sample is seen when."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.backends.chat_templates import IMAGE_TOKEN, Exchange
from imgdiff.backends.world_data import instructions_folder
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.files import inside, read_json
from imgdiff.train.config import WORLD, DataConfig

BASE = "base"
SYNTH = "synth"
WORLD_SEED = 0  # the drawn base instructions are one data set, whatever the seed of the run
_HUMAN, _MODEL = ("human", "user"), ("gpt", "assistant")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One conversation. `image` exists; None for a conversation without one."""

    id: str
    image: Path | None
    turns: tuple[Exchange, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The samples of one data set; `identity` changes with its JSON file."""

    name: str
    path: Path
    samples: tuple[Sample, ...]
    identity: str


def open_sources(config: DataConfig, cache: Path) -> list[Source]:
    """The sources that the shares need, base first.

    A missing folder raises ConfigError with the setting; a bad file or row raises DataError.
    """
    sources = []
    if config.share < 1.0:
        sources.append(read_llava_json(BASE, _base_file(config, cache)))
    if config.share > 0.0:
        sources.append(read_llava_json(SYNTH, _synth_file(config)))
    return sources


def _base_file(config: DataConfig, cache: Path) -> Path:
    if config.base == WORLD:
        return instructions_folder(cache, config.world_samples, WORLD_SEED) / "instructions.json"
    path = Path(str(config.base)).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"data.base={config.base}: no such file. Point it at a LLaVA JSON, or set "
            f"data.base={WORLD} for instructions that are drawn on demand."
        )
    return path


def _synth_file(config: DataConfig) -> Path:
    path = Path(str(config.synth)).expanduser() / "dataset" / "img_diff.json"
    if not path.is_file():
        raise ConfigError(
            f"data.synth={config.synth}: no dataset/img_diff.json there. Run `python -m "
            f"imgdiff.synth output_dir={config.synth}` first, or set data.synth=null to train "
            "without difference data."
        )
    return path


def read_llava_json(name: str, path: Path) -> Source:
    """All samples of a LLaVA JSON; image paths are relative to its folder.

    Every row is checked (roles, answers, image inside the folder and present), so that a run does
    not stop halfway. Raises DataError with file, row, value and remedy.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(
            f"{path}: not a list of samples. LLaVA's format is a JSON list of objects with 'id', "
            "'image' and 'conversations'."
        )
    return Source(
        name=name,
        path=path,
        samples=tuple(_sample(path, number, row) for number, row in enumerate(rows)),
        identity=hashlib.sha256(path.read_bytes()).hexdigest()[:20],
    )


def _sample(path: Path, number: int, row: Any) -> Sample:
    place = f"{path}: sample {number}"
    if not isinstance(row, dict):
        raise DataError(f"{place}: {type(row).__name__}, must be an object with 'conversations'")
    place += f" (id {row.get('id')!r})"
    turns = _turns(place, row.get("conversations"))
    image = _image(place, path.parent, row.get("image"))
    shown = sum(IMAGE_TOKEN in turn.question for turn in turns)
    if shown != (image is not None):
        raise DataError(
            f"{place}: {shown} messages show {IMAGE_TOKEN}, but it has "
            f"{'one image' if image else 'no image'}. Write {IMAGE_TOKEN} in exactly one message "
            "of a sample with an image, and in none without."
        )
    return Sample(id=str(row.get("id", number)), image=image, turns=turns)


def _turns(place: str, messages: Any) -> tuple[Exchange, ...]:
    """Question and answer in turn; an opening message that is not the user's is left out."""
    remedy = "'conversations' alternates {'from': 'human', 'value': ...} and {'from': 'gpt', ...}."
    if not isinstance(messages, list) or not all(_is_message(item) for item in messages):
        raise DataError(f"{place}: no usable 'conversations'. {remedy}")
    if messages and messages[0]["from"] not in _HUMAN:
        messages = messages[1:]
    asked, answered = messages[::2], messages[1::2]
    alternate = all(item["from"] in _HUMAN for item in asked) and all(
        item["from"] in _MODEL for item in answered
    )
    if not alternate or len(asked) != len(answered) or not asked:
        raise DataError(f"{place}: {[m['from'] for m in messages]} do not alternate. {remedy}")
    if not any(item["value"].strip() for item in answered):
        raise DataError(f"{place}: every answer is empty: nothing to learn. Remove the sample.")
    return tuple(
        Exchange(question["value"], answer["value"])
        for question, answer in zip(asked, answered, strict=True)
    )


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and isinstance(item.get("from"), str)
        and isinstance(item.get("value"), str)
    )


def _image(place: str, root: Path, name: Any) -> Path | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name:
        raise DataError(f"{place}: 'image' is {name!r}, must be one path relative to {root}")
    try:
        path = inside(root, name)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if not path.is_file():
        raise DataError(f"{place}: image {name!r} is not in {root}. Restore it or remove the row.")
    return path


def plan_samples(
    sizes: Sequence[int], share: float, total: int, seed: int
) -> list[tuple[int, int]]:
    """(source, sample) for each of `total` places; a function of the arguments alone.

    With two sources the second one fills `share` of every stretch of the run, evenly spread
    (round(share * total) places in all); within a source each epoch is a new permutation.
    """
    orders = [_endless_order(size, seed, source) for source, size in enumerate(sizes)]
    last = len(sizes) - 1
    filled = [math.floor(share * place + 0.5) for place in range(total + 1)]
    sources = [last if filled[place + 1] > filled[place] else 0 for place in range(total)]
    return [(source, next(orders[source])) for source in sources]


def _endless_order(size: int, seed: int, source: int) -> Iterator[int]:
    epoch = 0
    while True:
        order = np.random.default_rng([seed, source, epoch]).permutation(size)
        yield from (int(index) for index in order)
        epoch += 1

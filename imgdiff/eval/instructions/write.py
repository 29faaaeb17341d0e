"""Writing a split in LLaVA's row format."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say
from imgdiff.core.errors import ConfigError
from imgdiff.core.files import write_json
from imgdiff.eval.annotations import check_images
from imgdiff.eval.config import CaptionConfig, EditSplit
from imgdiff.eval.config import register as register_benchmarks
from imgdiff.eval.data import caption_data
from imgdiff.eval.records import CaptionItem

PLACEHOLDER = "<image>"
TEST = EditSplit.test.value
_PLAIN = re.compile(r"[\w./-]+", re.ASCII)  # needs no quotes


@dataclass(kw_only=True)
class InstructionsConfig:
    """Which split, and where the rows go. `benchmark.split` is train unless it is named."""

    benchmark: Any = "???"  # whichever class the config group chose (required)
    output: str = "outputs/instructions.json"
    cache_dir: str = "outputs/cache"  # the procedural sets

    def __post_init__(self) -> None:
        if not isinstance(self.benchmark, CaptionConfig):
            raise ConfigError(
                "benchmark=mmvp: has no captions to learn from; take benchmark=spot_the_diff or "
                "benchmark=image_edit_request"
            )


def run(config: InstructionsConfig) -> Path:
    """Write the rows and say how to train on them."""
    data = caption_data(config.benchmark, Path(config.cache_dir), needs_images=True)
    if data.split == TEST:
        say("note: this is the test split; a model that learned it cannot be measured on it")
    items = data.content.items
    folder = Path(os.path.commonpath([path.parent for item in items for path in item.images]))
    check_images((path for item in items for path in item.images), data.images_remedy)
    rows, empty = _rows(items, folder, config.benchmark.prompt)
    output = Path(config.output)
    write_json(output, rows)
    say(f"{output}: {len(rows)} rows of {len(items)} items; {empty} empty sentences left out")
    name = config.benchmark.NAME
    say(
        f"python -m imgdiff.train experiment=train/{name} "
        f"{_setting(f'data.sources.{name}.path', output)} "
        f"{_setting(f'data.sources.{name}.images', folder)}"
    )
    return output


def _setting(key: str, path: Path) -> str:
    """An argument that the shell and Hydra both read as this path."""
    if _PLAIN.fullmatch(str(path)):
        return f"{key}={path}"
    escaped = str(path).replace('"', '\\"')
    return shlex.quote(f'{key}="{escaped}"')


def _rows(
    items: Sequence[CaptionItem], folder: Path, prompt: str
) -> tuple[list[dict[str, Any]], int]:
    """One row per sentence that is not empty, and how many are."""
    rows, empty = [], 0
    for item in items:
        for number, sentence in enumerate(item.references):
            if not sentence.strip():
                empty += 1
                continue
            rows.append(
                {
                    "id": f"{item.id}-{number}",
                    "image": [path.relative_to(folder).as_posix() for path in item.images],
                    "conversations": [
                        {"from": "human", "value": f"{PLACEHOLDER}\n{prompt}"},
                        {"from": "gpt", "value": " ".join(sentence.split())},
                    ],
                }
            )
    return rows, empty


def register() -> None:
    """Make the schemas known to Hydra."""
    from hydra.core.config_store import ConfigStore

    register_benchmarks()
    store = ConfigStore.instance()
    store.store(group="schema", name="instructions", node=InstructionsConfig, package="_global_")

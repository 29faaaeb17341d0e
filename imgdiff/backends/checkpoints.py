"""Where checkpoints live: in the package, in a local folder, or in the hub's local cache.

In the package are `mini:NAME`, and `random:NAME`: the configuration of the published checkpoint
NAME without weights (see `random_checkpoints`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from imgdiff.core.errors import BackendError, ConfigError

MINI_PREFIX = "mini:"
RANDOM_PREFIX = "random:"
PUBLISHED_CARD = "published.json"  # in each folder of `random:NAME`
_EDGE_BYTES = 1 << 20
_WEIGHTS = (".safetensors", ".pt", ".bin")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A checkpoint that a run will load: which setting names it, and about how large it is."""

    key: str  # e.g. "embedder.model"
    model: str
    size: str  # e.g. "0.6 GB"
    source: str = ""  # where to get it, if it is not a repository of the hub
    dtype: str = "float32"  # number type of its weights on a GPU; on a CPU all are float32


def mini_root() -> Path:
    """The folder of the checkpoints that ship with the package."""
    return Path(__file__).parent.parent / "mini" / "checkpoints"


def published_root() -> Path:
    """The folder of the published configurations, one folder for each checkpoint's name."""
    return Path(__file__).parent / "data" / "published"


def is_random(path: Path) -> bool:
    """Whether `find`'s path is a published configuration, whose weights are drawn at random."""
    return published_root().resolve() in path.resolve().parents


def draws_weights(model: str) -> bool:
    """Whether the checkpoint of a setting has random weights, so that what it says is noise."""
    path = find(model)
    return path is not None and is_random(path)


def refuse_random(key: str, model: str) -> None:
    """ConfigError for a checkpoint with random weights, where noise would pass for a result."""
    if model.startswith(RANDOM_PREFIX) or draws_weights(model):
        raise ConfigError(
            f"{key}={model}: random weights are for dry runs of `python -m imgdiff.synth` alone, "
            "which call what they write noise. Name a trained checkpoint."
        )


def find(model: str) -> Path | None:
    """Local folder or file of a checkpoint, or None. Never downloads."""
    if model.startswith(MINI_PREFIX):
        path = mini_root() / model[len(MINI_PREFIX) :]
        return path if path.exists() else None
    if model.startswith(RANDOM_PREFIX):
        name = model[len(RANDOM_PREFIX) :]  # the whole name: no part of a path, no way out of it
        return published_root() / name if name in published_names() else None
    path = Path(model).expanduser()
    if path.exists():
        return path
    return _in_hub_cache(model)


def _in_hub_cache(model: str) -> Path | None:
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def locate(key: str, model: str) -> Path:
    """`find`, or BackendError that says how to get it."""
    path = find(model)
    if path is None:
        raise BackendError(missing_message([Needed(key=key, model=model, size="size unknown")]))
    return path


def missing_message(missing: Sequence[Needed]) -> str:
    """One text for all missing checkpoints: setting, name, size, remedy."""
    rows = "\n".join(map(_row, missing))
    return f"{len(missing)} checkpoint(s) are not on this machine:\n{rows}\n{_remedy(missing)}"


def _remedy(missing: Sequence[Needed]) -> str:
    names = [item.model for item in missing]
    if all(name.startswith(MINI_PREFIX) for name in names):
        steps = " ".join(name[len(MINI_PREFIX) :] for name in names)
        return (
            "They ship with the package: install it anew, or train them with "
            f"`python -m imgdiff.mini.build {steps}`."
        )
    if all(name.startswith(RANDOM_PREFIX) for name in names):
        known = ", ".join(f"{RANDOM_PREFIX}{name}" for name in published_names())
        return f"Random weights can be drawn for {known}."
    return (
        "Get each with `hf download NAME` (unless another source is named) on a machine with "
        "network (it lands in the hub "
        "cache that HF_HOME names), or download it into a folder and point the setting there, "
        f"e.g. {missing[0].key}=/path/to/folder. For a run without weights use preset=mini, and to "
        "try one at the paper's size checkpoints=random."
    )


def published_names() -> list[str]:
    """The checkpoints whose configuration ships with the package, by their published names."""
    root = published_root()
    cards = root.rglob(PUBLISHED_CARD)
    return sorted(card.parent.relative_to(root).as_posix() for card in cards)


def _row(item: Needed) -> str:
    path = find(item.model)
    hollow = "" if path is None else f": {path} holds no weights ({', '.join(_WEIGHTS)})"
    source = f"; {item.source}" if item.source else ""
    return f"  {item.key}={item.model}  (about {item.size}{source}){hollow}"


def require(needed: Iterable[Needed]) -> None:
    """BackendError listing every checkpoint that is absent; returns silently when none is."""
    missing = [item for item in needed if not is_whole(find(item.model))]
    if missing:
        raise BackendError(missing_message(missing))


def is_whole(path: Path | None) -> bool:
    """Whether there are weights at `find`'s path: a hub cache may hold a model's config alone.

    A diffusers pipeline (`model_index.json`) keeps the weights of each part in a folder.
    """
    if path is None or path.is_file():
        return path is not None
    if is_random(path):
        return (path / PUBLISHED_CARD).is_file()
    if (path / "model_index.json").is_file():
        return all(_has_weights(path / part) for part in ("unet", "vae", "text_encoder"))
    return _has_weights(path)


def _has_weights(folder: Path) -> bool:
    return folder.is_dir() and any(file.suffix in _WEIGHTS for file in folder.iterdir())


@functools.lru_cache(maxsize=64)
def content_identity(path: Path) -> str:
    """12 hex digits of a checkpoint's files: small files whole, weights by size and both ends.

    Reading 1 MiB at each end keeps a 26 GB checkpoint quick and still sees every re-save. Cards
    (.md) and hidden files do not count: what downloads a folder leaves notes of its own in it.
    That of random weights begins with `random-`.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.name}:{file.stat().st_size}:".encode())
        with file.open("rb") as handle:
            if file.suffix not in _WEIGHTS or file.stat().st_size <= 2 * _EDGE_BYTES:
                digest.update(handle.read())
                continue
            digest.update(handle.read(_EDGE_BYTES))
            handle.seek(-_EDGE_BYTES, 2)
            digest.update(handle.read())
    kind = "random-" if is_random(path) else ""
    return kind + digest.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    """What a checkpoint consists of, in a fixed order."""
    if path.is_file():
        return [path]
    found = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return [
        path / file
        for file in sorted(found)
        if file.suffix != ".md" and not any(part.startswith(".") for part in file.parts)
    ]

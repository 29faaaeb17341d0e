"""Everything that is a hash: content ids, fingerprints of settings, seeds of items."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

ID_HEX_DIGITS = 20


def _plain(value: Any) -> Any:
    """`value` as JSON types, so that equal settings always serialise to equal text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"no canonical form for {type(value).__name__}: {value!r}")


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, enums by value, dataclasses by field."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(*parts: Any) -> str:
    """20 hex digits that change when any part changes. Pass only what changes the output."""
    digest = hashlib.sha256(canonical_json(list(parts)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:ID_HEX_DIGITS]


def image_id(image: Image.Image) -> str:
    """Content id of the pixels a model sees: mode, size and bytes."""
    digest = hashlib.sha256(f"{image.mode}:{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:ID_HEX_DIGITS]


def seed_for(run_seed: int, item_id: str, purpose: str = "") -> int:
    """A 63-bit seed from the run seed, the item and what it is for; never from order or rank."""
    digest = hashlib.sha256(f"{run_seed}:{purpose}:{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

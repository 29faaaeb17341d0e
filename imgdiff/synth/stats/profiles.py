"""Which preset and profile of `conf/` the settings of a run are those of, told by their values.

A run keeps its settings and not the names that were typed; equal values are what counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imgdiff.launch import conf_dir
from imgdiff.synth.selection import Rules

FEW = 4  # settings that may differ from a profile of which a run still is
# What the choice of a generator sets, whatever the profile.
_OF_THE_GENERATOR = ("regions_from",)
_UNKNOWN = "values of its own"


def profile_of(settings: dict[str, Any]) -> str:
    """`paper`, `mini, but for match`, or `values of its own`."""
    differing = {
        path.stem: _differing(settings["rules"], _rules(path)) for path in _options("profile")
    }
    name = min(differing, key=lambda key: (len(differing[key]), key), default="")
    if not name or len(differing[name]) > FEW:
        return _UNKNOWN
    others = ", ".join(differing[name])
    return f"{name}, but for {others}" if others else name


def preset_of(settings: dict[str, Any]) -> str:
    """The preset whose checkpoints the run was set to use."""
    for path in _options("preset"):
        models = {
            role: held["model"]
            for role, held in _values(path).items()
            if isinstance(held, dict) and "${" not in str(held.get("model", "${"))
        }
        ours = {
            role: held.get("model")
            for role, held in settings.items()
            if role in models and isinstance(held, dict)
        }
        if models == ours:
            return path.stem
    return "checkpoints of its own choice"


def _options(group: str) -> list[Path]:
    return sorted((conf_dir() / group).glob("*.yaml"))


def _values(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    held = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(held, dict)
    return {str(key): value for key, value in held.items()}


def _rules(path: Path) -> dict[str, Any]:
    """All rules of a profile. Its file holds them at the top (`@package rules`) or under a key."""
    from omegaconf import OmegaConf

    held = _values(path)
    merged = OmegaConf.merge(OmegaConf.structured(Rules), held.get("rules", held))
    plain = OmegaConf.to_container(merged, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _differing(ours: dict[str, Any], theirs: dict[str, Any], above: str = "") -> list[str]:
    """Names of rules with other values; of those about removal only where the run has them."""
    names = [name for name in ours if name not in _OF_THE_GENERATOR]
    found = []
    for name in names:
        if name == "removal":
            found += _differing(ours[name], theirs[name], "removal.")
        elif ours[name] != theirs.get(name):
            found.append(f"{above}{name}")
    return found

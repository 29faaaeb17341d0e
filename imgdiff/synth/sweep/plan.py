"""What a multirun asks for: rows of settings, and which of them share their work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imgdiff.core.errors import ConfigError
from imgdiff.core.identity import fingerprint
from imgdiff.synth.config import StopAfter, SynthConfig
from imgdiff.synth.manifest import differences, run_settings

# The settings below `rules` that only decide: a row that changes them asks for no image, and of
# scores only for those that its looser gates let through.
THRESHOLDS = frozenset(
    {
        "image_similarity", "image_similarity_digits", "match", "match_combine",
        "crop_similarity", "order", "max_iou", "plus_one", "max_candidates", "min_area",
        "max_area", "max_regions", "content_similarity", "content_match",
        "content_match_combine",
    }
)  # fmt: skip
# What image pairs depend on, besides how many of them there are.
DRAWING = ("seed", "editor", "generator", "candidates", "shard_size", "store_format")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that differ in thresholds alone, by their numbers in the multirun."""

    numbers: tuple[int, ...]
    configs: tuple[SynthConfig, ...]


def groups(rows: Sequence[SynthConfig]) -> list[Group]:
    """The rows of each group, in the order of their first rows."""
    found: dict[str, list[int]] = {}
    for number, config in enumerate(rows):
        found.setdefault(fingerprint(_apart_from_thresholds(config)), []).append(number)
    return [
        Group(numbers=tuple(numbers), configs=tuple(rows[n] for n in numbers))
        for numbers in found.values()
    ]


def _apart_from_thresholds(config: SynthConfig) -> dict[str, Any]:
    settings = run_settings(config)
    rules = {key: value for key, value in settings["rules"].items() if key not in THRESHOLDS}
    return settings | {"rules": rules, "store_dir": config.store_dir}


def image_sets(rows: Sequence[SynthConfig]) -> list[dict[str, Any]]:
    """The settings of each set of images that the rows need, without doubles."""
    drawing = (_drawing(row) for row in rows if row.stop_after is not StopAfter.edit)
    return list({fingerprint(settings): settings for settings in drawing}.values())


def check_images(rows: Sequence[SynthConfig]) -> None:
    """ConfigError where rows need image pairs of their own and nobody allowed it."""
    sets = image_sets(rows)
    if len(sets) <= 1 or all(row.allow_new_images for row in rows):
        return
    first, *others = sets
    keys = sorted({key for other in others for key in differences(first, other)})
    limit = rows[0].source.limit
    many = "all pairs of the source" if limit is None else f"{limit:,} pairs"
    raise ConfigError(
        f"a sweep over {', '.join(keys)}: {len(sets)} sets of images have to be drawn, each of "
        f"{many}, where a sweep over thresholds (rules.*) draws one and decides by look-up. If "
        "that is what you want, add allow_new_images=true."
    )


def _drawing(config: SynthConfig) -> dict[str, Any]:
    """The settings that image pairs depend on; painted-over images too where objects go."""
    settings = run_settings(config)
    source = {key: value for key, value in settings["source"].items() if key != "limit"}
    painting = ("inpainter", "removal") if config.edit.removes else ()
    return {key: settings[key] for key in (*DRAWING, *painting)} | {"source": source}

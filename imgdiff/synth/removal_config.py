"""The settings of object removal: what is edited, how masks are used, what is asked."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from imgdiff.core.errors import ConfigError
from imgdiff.synth.wording import REMOVAL_QUESTION


class Edit(enum.Enum):  # no str, which has a method of the name `replace`
    """What a run makes: difference sentences, removal questions, or both from the same pairs."""

    replace = "replace"
    remove = "remove"
    both = "both"

    @property
    def replaces(self) -> bool:
        """Whether replaced objects are told apart."""
        return self is not Edit.remove

    @property
    def removes(self) -> bool:
        """Whether objects are removed and asked for."""
        return self is not Edit.replace


class RemovalCheck(str, enum.Enum):
    """Who says that the object was there and is gone."""

    matcher = "matcher"  # its description must fit the original crop and not the painted one
    none = "none"  # nobody: annotated masks and names without models


@dataclass(kw_only=True, slots=True)
class RemovalConfig:
    """Masks, pixels and the question. Lengths are pixels of the images as they are stored."""

    confidence: float | None = 0.1  # of the segmenter; null: as segmenter.confidence
    check: RemovalCheck = RemovalCheck.matcher
    dilate_px: int = 4  # masks end a little inside the object: its rim would stay
    feather_px: int = 2  # inside the grown mask, where the painted part passes into the rest
    paste_back: bool = True  # the original's own bytes outside the grown mask
    box_margin_px: float = 15.0  # of the red box
    question: str = REMOVAL_QUESTION

    def __post_init__(self) -> None:
        if self.confidence is not None and not 0.0 <= self.confidence <= 1.0:
            raise ConfigError(f"removal.confidence={self.confidence}: must lie in [0, 1], or null")
        for key in ("dilate_px", "feather_px"):
            if getattr(self, key) < 0:
                raise ConfigError(f"removal.{key}={getattr(self, key)}: must be >= 0; 0 is off")
        if self.feather_px > self.dilate_px:
            raise ConfigError(
                f"removal.feather_px={self.feather_px}: exceeds removal.dilate_px="
                f"{self.dilate_px}, so the object's rim would shine through; lower it"
            )
        if not 0.0 <= self.box_margin_px < math.inf:
            raise ConfigError(
                f"removal.box_margin_px={self.box_margin_px}: must be a number >= 0 (pixels "
                "around the box)"
            )

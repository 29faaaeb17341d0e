"""The records that cross rooms. Frozen, keyword-only, with ids made by us and never parsed."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from imgdiff.core.geometry import Box


class Side(enum.IntEnum):
    """Which image of a pair: LEFT is `_0` (source caption), RIGHT is `_1` (edited caption)."""

    LEFT = 0
    RIGHT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoObject:
    """One annotated object of a photo: what the composite generator replaces."""

    image_file: str  # relative to the source root
    annotation_id: int
    split: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """One caption of a source, or one annotated photo object (`photo` set, text = its name)."""

    id: str
    text: str
    photo: PhotoObject | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionPair:
    """A caption and its edit. `seed` draws the images; equal seeds give equal images."""

    id: str
    left: str
    right: str
    seed: int
    photo: PhotoObject | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedBox:
    """An object that an image truly shows."""

    name: str
    box: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One object that truly differs between the two images of a pair.

    A box is None where the object is absent from that side.
    """

    left_name: str
    right_name: str
    left_box: Box | None
    right_box: Box | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairTruth:
    """What the generator knows it drew. `changes` is empty when it ignored the edit.

    `left_objects` and `right_objects` list every object that shows, changed or not.
    """

    changes: tuple[Change, ...]
    left_objects: tuple[NamedBox, ...] = ()
    right_objects: tuple[NamedBox, ...] = ()
    note: str = "replaced"  # or "ignored", "redrawn", "side effect"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePair:
    """Two stored images of one size. Paths are relative to the store root."""

    id: str
    left_caption: str
    right_caption: str
    left_path: str
    right_path: str
    left_id: str  # content ids of the pixels
    right_id: str
    width: int
    height: int
    seed: int
    truth: PairTruth | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A box proposed on one side of a pair; the box is valid in both images' frame."""

    id: str
    pair_id: str
    side: Side
    box: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """Something that fell, where, and why. `reason` is a short fixed phrase, `detail` is free."""

    id: str
    stage: str
    reason: str
    detail: str = ""

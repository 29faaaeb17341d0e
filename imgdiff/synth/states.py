"""What the pipeline knows of one item and its regions while decisions are made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int32

from imgdiff.core.geometry import Box, box_from
from imgdiff.core.identity import fingerprint
from imgdiff.core.records import (
    Caption,
    CaptionPair,
    Change,
    ImagePair,
    NamedBox,
    PairTruth,
    PhotoObject,
    Region,
    Rejected,
    Side,
)
from imgdiff.core.store import packed
from imgdiff.synth.nouns import ChangedNouns
from imgdiff.synth.removal_states import AnnotatedMask, RemovalState

# Crops cut boxes to whole pixels, so these must be the detector's own, but for float noise.
BOX_DIGITS = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Proposals:
    """All boxes proposed for a pair, those of the left image first: their scores are one array.

    `key` stands for what a model sees of them: both images and every box.
    """

    key: str
    boxes: tuple[Box, ...]
    n_left: int

    def side(self, number: int) -> Side:
        """The image that a box was found in."""
        return Side.LEFT if number < self.n_left else Side.RIGHT


def proposals_of(images: ImagePair, left: Sequence[Box], right: Sequence[Box]) -> Proposals:
    """The boxes of both images within the frame."""
    boxes = tuple(box.clipped_to(images.width, images.height) for box in (*left, *right))
    corners = np.array([box.as_tuple() for box in boxes], dtype=np.float64).reshape(-1, 4)
    key = proposals_key(images, packed(corners, BOX_DIGITS))
    return Proposals(key=key, boxes=boxes, n_left=len(left))


def proposals_key(images: ImagePair, units_M: Int32[np.ndarray, " M"]) -> str:
    """Changes with either image and with any box (xyxy in units of BOX_DIGITS, flat)."""
    digest = hashlib.sha256(units_M.astype("<i4").tobytes()).hexdigest()
    return fingerprint(images.left_id, images.right_id, digest)


@dataclass(kw_only=True)
class RegionState:
    """A candidate box with every score it has; None where nothing was computed."""

    region: Region
    number: int = 0  # among the item's proposals
    crop_similarity: float | None = None
    match: tuple[float | None, float | None] | None = None  # best noun score left, right
    contents: tuple[str, str] | None = None
    content_similarity: float | None = None
    content_match: tuple[float, float] | None = None
    sentence: str | None = None
    rejected: Rejected | None = None

    def reject(self, stage: str, reason: str, detail: str = "") -> None:
        """Record the first reason it falls for; later ones do not apply."""
        self.rejected = Rejected(id=self.region.id, stage=stage, reason=reason, detail=detail)


@dataclass(kw_only=True)
class CandidateState:
    """One of the image pairs drawn for a caption pair, with the scores that choose among them."""

    images: ImagePair
    similarity: float | None = None
    direction: float | None = None  # where several passed the similarity filter


@dataclass(kw_only=True)
class ItemState:
    """One caption (or photo object) on its way through the pipeline."""

    id: str
    caption: Caption | None
    pair: CaptionPair | None = None
    candidates: list[CandidateState] = field(default_factory=list)
    images: ImagePair | None = None  # the first candidate until one is chosen
    nouns: ChangedNouns | None = None
    proposals: Proposals | None = None
    image_similarity: float | None = None
    direction: float | None = None
    regions: list[RegionState] = field(default_factory=list)
    annotated: AnnotatedMask | None = None  # where annotated objects are removed
    removal_proposals: Proposals | None = None
    removals: list[RemovalState] = field(default_factory=list)
    rejected: Rejected | None = None

    def reject(self, stage: str, reason: str, detail: str = "") -> None:
        """Record where and why the whole item falls."""
        self.rejected = Rejected(id=self.id, stage=stage, reason=reason, detail=detail)

    def boxed(self, box: Box, *parts: object) -> str:
        """Cell key of something asked of a box in this pair."""
        assert self.images is not None
        return fingerprint(self.images.left_id, self.images.right_id, box.as_tuple(), *parts)


def open_items(states: Sequence[ItemState]) -> list[ItemState]:
    """Items that have not fallen."""
    return [state for state in states if state.rejected is None]


def open_regions(states: Sequence[ItemState]) -> Iterator[tuple[ItemState, RegionState]]:
    """Regions that have not fallen, of items that have not fallen, in order."""
    for state in open_items(states):
        for region in state.regions:
            if region.rejected is None:
                yield state, region


def open_removals(states: Sequence[ItemState]) -> Iterator[tuple[ItemState, RemovalState]]:
    """Removals that have not fallen, in order; whether regions fell does not matter to them."""
    for state in states:
        for removal in state.removals:
            if removal.rejected is None:
                yield state, removal


def caption_to_json(item: Caption | Rejected) -> dict[str, object]:
    """A caption or a rejected record as one JSON row."""
    if isinstance(item, Rejected):
        row = {"id": item.id, "stage": item.stage, "reason": item.reason, "detail": item.detail}
        return {"rejected": row}
    photo = item.photo and {
        "image_file": item.photo.image_file,
        "annotation_id": item.photo.annotation_id,
        "split": item.photo.split,
    }
    return {"id": item.id, "text": item.text, "photo": photo}


def state_from_json(row: dict[str, object]) -> ItemState:
    """The opening state of a source row."""
    rejected = row.get("rejected")
    if isinstance(rejected, dict):
        record = Rejected(**rejected)
        return ItemState(id=record.id, caption=None, rejected=record)
    photo = row["photo"]
    caption = Caption(
        id=str(row["id"]),
        text=str(row["text"]),
        photo=PhotoObject(**photo) if isinstance(photo, dict) else None,
    )
    return ItemState(id=caption.id, caption=caption)


def _corners(box: Box | None) -> list[float] | None:
    return None if box is None else list(box.as_tuple())


def truth_to_json(truth: PairTruth) -> dict[str, object]:
    """The truth of a pair as JSON."""
    return {
        "note": truth.note,
        "changes": [
            [c.left_name, c.right_name, _corners(c.left_box), _corners(c.right_box)]
            for c in truth.changes
        ],
        "left_objects": [[o.name, _corners(o.box)] for o in truth.left_objects],
        "right_objects": [[o.name, _corners(o.box)] for o in truth.right_objects],
    }


def truth_from_json(row: dict[str, Any] | None) -> PairTruth | None:
    """The inverse of `truth_to_json`."""
    if row is None:
        return None
    return PairTruth(
        changes=tuple(
            Change(
                left_name=str(left),
                right_name=str(right),
                left_box=box_from(a) if isinstance(a, list) else None,
                right_box=box_from(b) if isinstance(b, list) else None,
            )
            for left, right, a, b in row["changes"]
        ),
        left_objects=_named(row["left_objects"]),
        right_objects=_named(row["right_objects"]),
        note=str(row["note"]),
    )


def _named(rows: list[list[Any]]) -> tuple[NamedBox, ...]:
    return tuple(
        NamedBox(name=str(name), box=box_from(box)) for name, box in rows if isinstance(box, list)
    )

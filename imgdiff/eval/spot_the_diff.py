"""Spot-the-Diff (Jhamtani and Berg-Kirkpatrick, EMNLP 2018): reading it, and who is a reference.

Annotations (github.com/harsh19/spot-the-diff): `{train,val,test}.json`, a list of
`{"img_id": "256", "sentences": [...]}`, beside images `256.png` and `256_2.png`. An image may have
several items (annotators); the sentences of one item describe different changes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import first_existing, read_records, text_of, texts_of
from imgdiff.eval.records import WITHOUT_REFERENCE, CaptionItem, CaptionItems, LeftOut

REMEDY = "Point benchmark.annotations at an annotation file of github.com/harsh19/spot-the-diff."
IMAGES_REMEDY = (
    "Put the images (ID.png and ID_2.png; the authors give them to whoever accepts VIRAT's terms) "
    "there, or set benchmark.images to their folder."
)
ID_KEY = "img_id"
SUFFIXES = (".png", ".jpg", ".jpeg")


class SpotProtocol(str, enum.Enum):
    """Who is a reference of a caption."""

    merged = "merged"  # one item per image; every sentence of all annotators: the usual protocol
    per_item = "per_item"  # one item per annotator, with that annotator's sentences
    first = "first"  # one item per image; the first sentence alone
    joined = "joined"  # one item per image; each annotator's sentences joined to one reference


@dataclass(frozen=True, kw_only=True, slots=True)
class _Annotated:
    """One item of the file."""

    image_id: str
    sentences: tuple[str, ...]


def load_spot_the_diff(
    annotations: Path, images: Path, protocol: SpotProtocol, kinds: Mapping[str, str]
) -> CaptionItems:
    """Read an annotation file; `images` need not exist to score captions that exist already.

    Empty sentences stay references, as in everybody's scores. DataError names file and item.
    """
    annotated = [
        _Annotated(
            image_id=text_of(place, record, ID_KEY, REMEDY),
            sentences=texts_of(place, record, "sentences", REMEDY),
        )
        for place, record in read_records(annotations, REMEDY)
    ]
    items, left_out, unscored = [], [], []
    for item_id, image_id, references in _grouped(annotated, protocol):
        if not references:
            left_out.append(item_id)
            unscored.append(image_id)
            continue
        items.append(
            CaptionItem(
                id=item_id,
                subject=image_id,
                images=_pair(images, image_id),
                references=references,
                kind=kinds.get(image_id, ""),
            )
        )
    if not items:
        raise DataError(f"{annotations}: no item has a sentence. {REMEDY}")
    return CaptionItems(
        items=tuple(items),
        left_out=(LeftOut(reason=WITHOUT_REFERENCE, ids=tuple(left_out)),) if left_out else (),
        unscored=frozenset(unscored),
    )


def _grouped(
    annotated: Sequence[_Annotated], protocol: SpotProtocol
) -> list[tuple[str, str, tuple[str, ...]]]:
    """(item id, image id, references) under a protocol, images in the order of first mention."""
    by_image: dict[str, list[tuple[str, ...]]] = {}
    for item in annotated:
        by_image.setdefault(item.image_id, []).append(item.sentences)
    if protocol is SpotProtocol.per_item:
        seen: dict[str, int] = {}
        rows = []
        for item in annotated:
            number = seen[item.image_id] = seen.get(item.image_id, 0) + 1
            rows.append((f"{item.image_id}#{number}", item.image_id, item.sentences))
        return rows
    return [(key, key, _references(lists, protocol)) for key, lists in by_image.items()]


def _references(lists: Sequence[tuple[str, ...]], protocol: SpotProtocol) -> tuple[str, ...]:
    merged = tuple(sentence for sentences in lists for sentence in sentences)
    if protocol is SpotProtocol.first:
        return merged[:1]
    if protocol is SpotProtocol.joined:
        return tuple(" ".join(sentences) for sentences in lists if sentences)
    return merged


def _pair(folder: Path, image_id: str) -> tuple[Path, Path]:
    """Both images; PNG is named where there is neither."""
    if "/" in image_id or "\\" in image_id or "\0" in image_id:
        raise DataError(f"image id {image_id!r} is not a plain name. {REMEDY}")
    first, second = (_existing(folder, f"{image_id}{mark}") for mark in ("", "_2"))
    return first, second


def _existing(folder: Path, stem: str) -> Path:
    paths = [folder / f"{stem}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def spot_annotations(root: Path, split: str) -> Path:
    """`{split}.json` of a copy of the authors' repository, or of a folder that holds it."""
    folders = (root / "data" / "annotations", root / "annotations", root)
    return first_existing([folder / f"{split}.json" for folder in folders], "annotations", REMEDY)


def spot_images(root: Path, split: str) -> Path:
    """The folder of the images, below the same root; all splits share it."""
    del split
    names = ("images", "resized_images")
    folders = [place / name for place in (root, root / "data") for name in names]
    return first_existing(folders, "folder of images", IMAGES_REMEDY)

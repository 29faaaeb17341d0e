"""Reading a COCO-format folder: captions, annotated objects and their masks.

Layout: `annotations/{instances,captions}_<split>.json` beside the photos, which lie in `<split>/`
or `images/<split>/`. A file that cannot be read as COCO at all raises DataError; one bad
annotation in a good file becomes a `Rejected` record, so that every row is accounted for.

Frame: pixels of the photo as stored, as in pycocotools (an EXIF rotation is not applied), unless
the recorded width and height fit only the upright photo; see `open_photo`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside, read_json
from imgdiff.core.geometry import Box, box_from
from imgdiff.core.images import open_rgb
from imgdiff.core.masks import Mask, mask_of
from imgdiff.core.records import Caption, PhotoObject, Rejected

STAGE = "source"
BORDER_PX = 2.0  # a mask this near to the photo's border is taken to be cut by it
PLAIN_RUNS = 2  # later run lengths are stored as differences
MIN_POLYGON_NUMBERS = 6  # three points
EXIF_ORIENTATION = 0x0112
UNDO_EXIF = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

Row = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outline:
    """A mask as COCO stores it: polygons (xy pixels), or run lengths down the columns."""

    width: int  # of the photo
    height: int
    polygons: tuple[Float[np.ndarray, "P 2"], ...] = ()
    runs: Int[np.ndarray, " R"] | None = None  # zeros first, column-major

    def mask(self, left: int, top: int, right: int, bottom: int) -> Mask:
        """The mask inside a window of the photo; pixels beyond the photo are False."""
        window = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
        mask_HW = np.zeros((bottom - top, right - left), dtype=bool)
        seen = self._runs_mask() if self.runs is not None else None
        part = seen[window] if seen is not None else self._polygon_mask(left, top, right, bottom)
        low, near = max(-top, 0), max(-left, 0)
        mask_HW[low : low + part.shape[0], near : near + part.shape[1]] = part
        return mask_HW

    def _runs_mask(self) -> Mask:
        assert self.runs is not None
        return mask_of(self.runs.tolist(), self.width, self.height)

    def _polygon_mask(self, left: int, top: int, right: int, bottom: int) -> Mask:
        near, low = max(left, 0), max(top, 0)
        size = (max(min(right, self.width) - near, 0), max(min(bottom, self.height) - low, 0))
        canvas = Image.new("L", size)
        if min(size) > 0:
            draw = ImageDraw.Draw(canvas)
            # COCO measures from the corner of a pixel and Pillow from its centre: half a pixel.
            for polygon_P2 in self.polygons:
                shifted = polygon_P2 - (near + 0.5, low + 0.5)
                draw.polygon([(float(x), float(y)) for x, y in shifted], fill=1)
        return np.asarray(canvas, dtype=np.uint8).reshape(size[1], size[0]).astype(bool)

    def extent(self) -> Box:
        """The tight box, clipped to the photo; area 0 where nothing of the mask is inside."""
        if self.runs is None:
            points_P2 = np.concatenate(self.polygons)
            sides = [*points_P2.min(axis=0).tolist(), *points_P2.max(axis=0).tolist()]
            return box_from(sides).clipped_to(self.width, self.height)
        return mask_box(self._runs_mask()) or Box(left=0, top=0, right=0, bottom=0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnnotatedObject:
    """One usable annotation. `id` is ours; `box` is the extent of the mask inside the photo."""

    id: str
    photo: PhotoObject
    category: str
    supercategory: str  # "" where the file gives none
    box: Box
    outline: Outline
    is_crowd: bool

    @property
    def is_cut(self) -> bool:
        """Whether the mask reaches the photo's border, so that the object may go on beyond it."""
        far_x, far_y = self.outline.width - BORDER_PX, self.outline.height - BORDER_PX
        box = self.box
        return min(box.left, box.top) < BORDER_PX or box.right > far_x or box.bottom > far_y

    def crop_window(self, margin_px: float) -> tuple[int, int, int, int]:
        """Whole pixels of the photo around the object: left, top, right, bottom."""
        grown = self.box.grown(margin_px)
        return pixel_window(grown.clipped_to(self.outline.width, self.outline.height))


@dataclass(frozen=True, kw_only=True, slots=True)
class Objects:
    """What `read_objects` found: usable objects in file order, and what fell with its reason."""

    objects: tuple[AnnotatedObject, ...]
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Look:
    """What a mask says about its object; small enough to keep by the thousand."""

    shape_SS: Bool[np.ndarray, "S S"]  # the mask stretched to a square
    part: float  # share in the largest connected part
    contact: float  # share of the rim on neighbours that do not enclose the object
    carries: float  # largest share of a smaller neighbour's rim that lies on the object


class _BadRowError(Exception):
    """One annotation is unusable: (reason, detail)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def pixel_window(box: Box) -> tuple[int, int, int, int]:
    """The smallest window of whole pixels that holds a box: left, top, right, bottom."""
    left, top = math.floor(box.left), math.floor(box.top)
    return left, top, math.ceil(box.right), math.ceil(box.bottom)


def mask_box(mask_HW: Mask) -> Box | None:
    """Tight box of the True pixels (right and bottom exclusive); None where there are none."""
    columns = np.flatnonzero(mask_HW.any(axis=0)).tolist()
    rows = np.flatnonzero(mask_HW.any(axis=1)).tolist()
    if not columns:
        return None
    return box_from((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def splits_of(root: str, kind: str, split: str | None = None) -> list[str]:
    """Names of the splits with a `kind` ("instances", "captions") file, sorted.

    `split` keeps those whose name starts with it ("val" finds "val2017"); none raises DataError
    with what is there.
    """
    folder = Path(root) / "annotations"
    prefix = f"{kind}_"
    found = sorted(path.stem[len(prefix) :] for path in folder.glob(f"{prefix}*.json"))
    kept = [name for name in found if split is None or name.startswith(split)]
    if not kept:
        wanted = f"{prefix}{split or ''}*.json"
        raise DataError(
            f"{folder}: no {wanted} there. Splits found: {', '.join(found) or 'none'}. "
            "Choose one of them, or point the root at a folder in COCO layout."
        )
    return kept


def read_captions(root: str, split: str | None = None) -> Iterator[Caption | Rejected]:
    """Every caption of the splits in name order; an empty or malformed one as Rejected.

    `split` as in `splits_of`. Raises DataError where a file is not COCO captions.
    """
    for name in splits_of(root, "captions", split):
        path = Path(root) / "annotations" / f"captions_{name}.json"
        rows = _table(path, read_json(path), "annotations")
        yield from _each_row(rows, name, _caption_of)


def read_objects(root: str, split: str | None = None) -> Objects:
    """Every annotated object of the splits in name order; see `Objects`.

    Rejected: a missing photo, one outside the folder, an unknown category or photo, a box without
    area, a mask that is empty or outside the photo, a malformed or repeated annotation.
    """
    parts = [read_split(root, name) for name in splits_of(root, "instances", split)]
    return Objects(
        objects=tuple(item for part in parts for item in part.objects),
        rejected=tuple(item for part in parts for item in part.rejected),
    )


def photo_objects(root: str, split: str | None = None) -> Iterator[Caption | Rejected]:
    """One Caption per usable object that is no crowd: its category name and its PhotoObject."""
    found = read_objects(root, split)
    yield from found.rejected
    for item in found.objects:
        if not item.is_crowd:
            yield Caption(id=item.id, text=item.category, photo=item.photo)


def open_photo(root: str, image_file: str, width: int, height: int) -> Image.Image:
    """The RGB photo in the frame of its masks, `width` x `height` as the annotations record.

    Masks refer to the stored pixels, so an EXIF rotation is undone, unless only the upright photo
    has the recorded size. DataError for an unreadable photo or one of another size.
    """
    path = inside(Path(root), image_file)
    upright = open_rgb(path)
    with Image.open(path) as header:
        turn = UNDO_EXIF.get(header.getexif().get(EXIF_ORIENTATION, 1))
    stored = upright if turn is None else upright.transpose(turn)
    for photo in (stored, upright):
        if photo.size == (width, height):
            return photo
    raise DataError(
        f"{path}: {stored.width}x{stored.height} pixels, but its annotations record "
        f"{width}x{height}; the masks cannot be placed. Restore the photo they were made on."
    )


def read_split(root: str, split: str) -> Objects:
    """The objects of one split, named in full; as `read_objects`."""
    path = Path(root) / "annotations" / f"instances_{split}.json"
    content = read_json(path)
    images = _by_id(path, _table(path, content, "images"), "images")
    categories = _by_id(path, _table(path, content, "categories"), "categories")
    folder = _photo_folder(root, split)
    present = {entry.name for entry in (Path(root) / folder).glob("*")}

    def object_of(row: Row, row_id: str) -> AnnotatedObject:
        image = _known(images, row["image_id"], "unknown image")
        category = _known(categories, row["category_id"], "unknown category")
        outline = _outline_of(row, int(image["width"]), int(image["height"]))
        file = _photo_file(root, folder, str(image["file_name"]), present)
        return AnnotatedObject(
            id=row_id,
            photo=PhotoObject(image_file=file, annotation_id=int(row["id"]), split=split),
            category=str(category["name"]),
            supercategory=str(category.get("supercategory", "")),
            box=_extent_of(outline, row),
            outline=outline,
            is_crowd=bool(row.get("iscrowd", 0)),
        )

    items = list(_each_row(_table(path, content, "annotations"), split, object_of))
    return Objects(
        objects=tuple(item for item in items if isinstance(item, AnnotatedObject)),
        rejected=tuple(item for item in items if isinstance(item, Rejected)),
    )


def _each_row(
    rows: Sequence[Any], split: str, make: Callable[[Row, str], T]
) -> Iterator[T | Rejected]:
    seen: set[int] = set()
    for number, row in enumerate(rows):
        row_id = f"coco-{split}-row{number}"
        try:
            annotation_id = int(row["id"])
            if annotation_id in seen:
                raise _BadRowError("duplicate annotation id", f"id {annotation_id}")
            row_id = f"coco-{split}-{annotation_id}"
            item = make(row, row_id)
            seen.add(annotation_id)
            yield item
        except _BadRowError as bad:
            yield Rejected(id=row_id, stage=STAGE, reason=bad.reason, detail=bad.detail)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            detail = f"{type(error).__name__}: {error}"
            yield Rejected(id=row_id, stage=STAGE, reason="malformed annotation", detail=detail)


def _caption_of(row: Row, row_id: str) -> Caption:
    text = row["caption"].strip()
    if not text:
        raise _BadRowError("empty caption", f"annotation {row['id']}")
    return Caption(id=row_id, text=text)


def _table(path: Path, content: Any, key: str) -> list[Any]:
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise DataError(
            f"{path}: no list {key!r} at the top level, which every COCO file has. "
            "Point the root at a folder in COCO layout."
        )
    return rows


def _by_id(path: Path, rows: list[Any], key: str) -> dict[int, Row]:
    try:
        table = {int(row["id"]): row for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: an entry of {key!r} has no usable id ({type(error).__name__}: {error}). "
            "Every entry needs an integer 'id'."
        ) from None
    if len(table) != len(rows):
        raise DataError(f"{path}: {len(rows) - len(table)} ids of {key!r} repeat; make them unique")
    return table


def _known(table: Mapping[int, Row], key: Any, reason: str) -> Row:
    if int(key) not in table:
        raise _BadRowError(reason, f"id {key}")
    return table[int(key)]


def _photo_folder(root: str, split: str) -> str:
    for folder in (split, f"images/{split}"):
        if (Path(root) / folder).is_dir():
            return folder
    raise DataError(
        f"{Path(root) / split}: no such folder, nor images/{split}. "
        f"Put the photos of instances_{split}.json into one of them."
    )


def _photo_file(root: str, folder: str, name: str, present: set[str]) -> str:
    file = str(PurePosixPath(folder) / name)
    if name not in present:  # a plain name is checked without touching the disk again
        try:
            found = inside(Path(root) / folder, name).is_file()
        except DataError as error:
            raise _BadRowError("image path leaves the folder", str(error)) from None
        if not found:
            raise _BadRowError("image file is missing", file)
    return file


def _extent_of(outline: Outline, row: Row) -> Box:
    left, top, width, height = (float(value) for value in row["bbox"])
    if not (width > 0 and height > 0 and math.isfinite(left + top + width + height)):
        raise _BadRowError("box has no area", f"bbox {row['bbox']}")
    extent = outline.extent()
    if extent.area == 0:
        raise _BadRowError("mask is outside the image", f"{outline.width}x{outline.height}")
    return extent


def _outline_of(row: Row, width: int, height: int) -> Outline:
    segmentation = row["segmentation"]
    if isinstance(segmentation, dict):
        return Outline(width=width, height=height, runs=_runs_of(segmentation, width, height))
    polygons = tuple(
        np.asarray(points, dtype=np.float32).reshape(-1, 2)
        for points in segmentation
        if len(points) >= MIN_POLYGON_NUMBERS
    )
    if not polygons:
        raise _BadRowError("mask is empty", "no polygon with three points")
    if not all(np.isfinite(points_P2).all() for points_P2 in polygons):
        raise _BadRowError("malformed annotation", "a polygon coordinate is not finite")
    return Outline(width=width, height=height, polygons=polygons)


def _runs_of(segmentation: Row, width: int, height: int) -> Int[np.ndarray, " R"]:
    counts = segmentation["counts"]
    runs = np.asarray(unpack_runs(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if list(segmentation["size"]) != [height, width]:
        raise _BadRowError("malformed annotation", f"mask size {segmentation['size']}")
    if (runs < 0).any() or int(runs.sum()) != width * height:
        raise _BadRowError("malformed annotation", f"run lengths do not add to {width}x{height}")
    if runs[1::2].sum() == 0:
        raise _BadRowError("mask is empty", "no run of ones")
    return runs


def unpack_runs(text: str) -> list[int]:
    """Run lengths of COCO's compressed string (pycocotools `maskApi.c`, rleFrString).

    Each number is a chain of characters offset by 48: five bits each, low first, bit 6 marks "more
    follows", bit 5 of the last one the sign; from the fourth number on, differences to two before.
    """
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > PLAIN_RUNS else 0))
        value, shift = 0, 0
    return runs

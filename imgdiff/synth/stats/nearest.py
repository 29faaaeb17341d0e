"""The left images that look most alike, found by their hashes and shown as small pictures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from imgdiff.core.errors import DataError
from imgdiff.core.files import inside
from imgdiff.core.images import open_rgb
from imgdiff.synth.looks import FARTHEST, UNRELATED, Alike, hash_of, most_alike
from imgdiff.synth.page_parts import escaped
from imgdiff.synth.stats.markup import counted, cut, note, nothing, panel
from imgdiff.synth.stats.reading import Batch, Run, batches
from imgdiff.synth.stats.tally import hashes

SHOWN = 12  # pairs of images
PICTURE_PX = 168  # longer side of a picture on the page
_QUALITY = 80
COLUMNS = ("id", "caption_0", "image_0", "image_id_0", "look_0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """An image of the data set as the page shows it."""

    pair_id: str
    caption: str
    path: str  # in the store


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    """Two distinct images that look alike, and how many bits of their hashes differ."""

    images: tuple[Seen, Seen]
    bits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Nearest:
    """The nearest pairs among `images` distinct images; None where no hash is on record."""

    images: int
    pairs: tuple[Near, ...]


class Looks:
    """Hashes of left images by row of pairs.parquet, at 24 bytes an image."""

    def __init__(self) -> None:
        self.on_record = True
        self._rows = 0
        self._parts = [np.zeros((0, 3), dtype=np.uint64)]  # row, look, hash of the pixels' id

    def add(self, batch: Batch) -> None:
        """The rows of a batch that have a hash."""
        self.on_record &= batch.has("look_0") and batch.has("image_id_0")
        looks = batch.values("look_0")
        known = np.array([look is not None for look in looks], dtype=bool)
        if known.any():
            pixels = hashes([str(name) for name in batch.values("image_id_0", known)])
            values = np.array([_hash(look) for look in looks if look is not None], dtype=np.uint64)
            rows = (np.flatnonzero(known) + self._rows).astype(np.uint64)
            self._parts.append(np.stack([rows, values, pixels], axis=1))
        self._rows += len(batch)

    def nearest(self, run: Run, rows: int) -> Nearest | None:
        """Of images of equal pixels the first takes part. Reads the table once more."""
        if not self.on_record:
            return None
        held = np.concatenate(self._parts)
        _, firsts = np.unique(held[:, 2], return_index=True)
        held = held[np.sort(firsts)]
        alike = most_alike(np.ascontiguousarray(held[:, 1]), SHOWN)
        numbers = held[:, 0].astype(np.int64)
        return Nearest(images=len(held), pairs=_shown(run, rows, alike, numbers.tolist()))


def _hash(look: str) -> int:
    try:
        return hash_of(look)
    except ValueError:
        raise DataError(
            f"pairs.parquet: look_0 holds {look!r}, which is no hash of 16 hex digits. Make the "
            "run again."
        ) from None


def _shown(run: Run, rows: int, alike: list[Alike], numbers: list[int]) -> tuple[Near, ...]:
    wanted = {numbers[place] for pair in alike for place in (pair.first, pair.second)}
    seen = _seen(run, rows, wanted) if wanted else {}
    return tuple(
        Near(images=(seen[numbers[pair.first]], seen[numbers[pair.second]]), bits=pair.bits)
        for pair in alike
    )


def _seen(run: Run, rows: int, wanted: set[int]) -> dict[int, Seen]:
    found: dict[int, Seen] = {}
    start = 0
    for batch in batches(run, "pairs", ("id", "caption_0", "image_0"), rows):
        here = sorted(row - start for row in wanted if start <= row < start + len(batch))
        chosen: Bool[np.ndarray, " N"] = np.zeros(len(batch), dtype=bool)
        chosen[here] = True
        columns = [batch.values(name, chosen) for name in ("id", "caption_0", "image_0")]
        for row, (name, caption, path) in zip(here, zip(*columns, strict=True), strict=True):
            found[start + row] = Seen(pair_id=name or "", caption=caption or "", path=path or "")
        start += len(batch)
    return found


def nearest_panel(nearest: Nearest | None, store: Path | None) -> str:
    """Pictures of the nearest pairs; `store` holds the images, None or another one: their names."""
    title = "Left images that look most alike"
    if nearest is None:
        return panel(title, nothing("pairs.parquet has no hashes of images (look_0, image_id_0)."))
    compared = f"<b>{counted(nearest.images, 'distinct left images')}</b> compared"
    if not nearest.pairs:
        return panel(title, nothing(_none_alike(nearest.images)))
    said = (
        f"{compared} by a perceptual hash of 64 bits (pHash). Shown are the nearest pairs, each "
        "image once. Copies that were scaled or compressed differ in few bits, pictures without a "
        f"relation in {UNRELATED} on average. Images of equal pixels are in the table above."
    )
    items = "\n".join(_item(near, store) for near in nearest.pairs)
    return panel(title, note(said), f'<ul class="alike">\n{items}\n</ul>')


def _none_alike(images: int) -> str:
    if images > 1:
        return f"Any two of {images:,} left images differ in more than {FARTHEST} of 64 bits."
    return "There are no two left images to compare."


def _item(near: Near, store: Path | None) -> str:
    pictures = "".join(_picture(seen, store) for seen in near.images)
    told = "".join(
        f"<small>{escaped(seen.pair_id)}: <bdi>{escaped(cut(seen.caption))}</bdi></small>"
        for seen in near.images
    )
    bits = "equal hashes" if not near.bits else f"{counted(near.bits, 'bits')} of 64 differ"
    return f'<li><div class="both">{pictures}</div><b>{bits}</b>{told}</li>'


def _picture(seen: Seen, store: Path | None) -> str:
    absent = f'<span class="absent">{escaped(seen.path or "no image")}</span>'
    if store is None or not seen.path:
        return absent
    try:
        image = open_rgb(inside(store, seen.path))
    except DataError:
        return absent
    image.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{data}" width="{image.width}" height="{image.height}" '
        f'alt="{escaped(seen.caption)}">'
    )

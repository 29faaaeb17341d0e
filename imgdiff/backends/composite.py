"""Image pairs from annotated photos: one object is cut out and one of another category pasted in.

Left is the photo as it is, right the same photo with object A replaced by a donor B of like shape
from another photo of the same split. Outside the edited region both are equal byte for byte, and
both boxes are known. No weights; any COCO-format folder will do (`imgdiff.backends.coco`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from typing_extensions import Self

from imgdiff.backends import coco
from imgdiff.backends.protocols import DrawnPair, Refusal
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.geometry import Box
from imgdiff.core.identity import fingerprint
from imgdiff.core.records import CaptionPair, Change, PairTruth

Photo = UInt8[np.ndarray, "H W 3"]

VERSION = "composite-1"
CACHED_LOOKS = 20_000  # 1.5 KB each
DONOR_MARGIN_PX = 6  # of the donor's photo around its mask: the matte looks for edges there
MIN_CONTEXT_PX = 40  # around the hole, to copy from; or half the object's size
# Terms of the donor score, each at most about as large as what the shape IoU leaves open (0.6 to 1)
KIN_BONUS, SCENE_BONUS, COVER_BONUS, SIZE_PENALTY, CHANCE = 0.35, 0.6, 0.2, 0.2, 0.1
OVERSIZE = 1.04  # the donor is pasted a little larger, to cover the rim of the hole
PASTE_TRIES = 5
SHARES = "min_area_fraction max_area_fraction min_part max_target_contact max_donor_contact"
LIMITS = (
    (f"{SHARES} max_carried min_shape_iou min_cover min_scale", 0.0, 1.0),
    ("max_aspect_ratio max_size_ratio max_upscale", 1.0, math.inf),
    ("min_object_px min_donor_px donor_tries cached_photos", 1.0, math.inf),
    ("feather_px hole_margin_px", 1.0, 64.0),
    ("min_visible_change", 0.0, 255.0),
)
MOSTLY, SIZE_ROUNDS = 0.7, 20
SIZE_PRIOR = 2.0  # pretended observations of average size, so that rare categories stay near it


@dataclass(kw_only=True, slots=True)
class CompositeConfig:
    """What may be replaced by what. The defaults were set by eye on 159 COCO photos."""

    root: str
    """Folder in COCO layout: `annotations/instances_<split>.json` and the photos."""
    min_object_px: float = 28.0
    """Shorter side of the replaced object's box. Below it a person cannot name the object."""
    min_area_fraction: float = 0.002
    """Box area over photo area. Below it the edit is lost in a large photo."""
    min_donor_px: float = 32.0
    """The same for the donor in its own photo, before scaling."""
    max_area_fraction: float = 0.35
    """Box area over photo area. Above it too little is left to see where the object stands."""
    replace_cut: bool = True
    """Whether an object that the photo's border cuts may be replaced (a donor is always whole)."""
    min_part: float = 0.9
    """Share of the mask in its largest connected part; less means something hides the middle."""
    max_target_contact: float = 0.35
    """Share of its rim on other objects: what half covers it would be painted over."""
    max_donor_contact: float = 0.12
    """The same for a donor, stricter: a donor with a bite out of it looks cut out."""
    max_carried: float = 0.4
    """Share of a neighbour's rim that lies on the object, for neighbours within its box. Above it
    they are worn or held (a tie, a cup) and would be left hanging in the air."""
    min_shape_iou: float = 0.6
    """IoU of the two masks after both boxes are stretched to one square."""
    min_cover: float = 0.72
    """Share of the replaced object's silhouette that the donor hides; the rest is painted in."""
    max_aspect_ratio: float = 1.5
    """Ratio of the two boxes' width/height, either way."""
    max_size_ratio: float = 2.0
    """Ratio of the two categories' usual sizes, either way, as estimated from objects that share
    a photo. Keeps teapots from standing in for trains."""
    max_upscale: float = 1.25
    """Enlarging a donor further makes it visibly softer than the photo."""
    min_scale: float = 0.25
    """Shrinking it further makes it visibly crisper, and its polygon too coarse."""
    feather_px: int = 2
    """Blended border on each side of the outline, in pixels of the edited photo."""
    hole_margin_px: int = 4
    """Pixels removed around the mask: polygons are drawn this far inside the real border."""
    min_visible_change: float = 12.0
    """Mean absolute difference (grey levels) in the hole; below it nobody would notice."""
    donor_tries: int = 96
    """Donors whose mask is looked at for one pair. Speed against choice; not tuned."""
    cached_photos: int = 8
    """Decoded photos kept in memory (about 1 MB each). Speed only."""

    def __post_init__(self) -> None:
        """Raise ConfigError naming the key, the value, the rule and the remedy."""
        for names, low, high in LIMITS:
            for name in names.split():
                _check(name, getattr(self, name), low, high)

    def build(self) -> CompositeGenerator:
        """A light handle; the annotations are read when a pair first needs their split."""
        if not self.root.strip():
            raise ConfigError("generator.root is empty; set it to a folder in COCO layout")
        coco.splits_of(self.root, "instances")
        return CompositeGenerator(self)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(
            f"generator.{name}={value}: must lie in [{low:g}, {high:g}]. "
            "Correct it, or leave it out for the default."
        )


def a_photo_of(name: str) -> str:
    """`A photo of a dog.`, with the right article; none before a plural such as `skis`."""
    plural = name.endswith("s") and not name.endswith(("ss", "us", "is"))
    vowel = name[:1].lower() in "aeiou" and not name.lower().startswith(("uni", "use", "eu", "one"))
    article = "" if plural or name.endswith("skis") else "an " if vowel else "a "
    return f"A photo of {article}{name}."


class DonorPool:
    """The objects of one split as columns, so that a shortlist of donors costs one pass.

    N objects in file order. `usual_N` is the log of the usual size of the object's category,
    relative to what stands beside it in photos.
    """

    def __init__(self, objects: Sequence[coco.AnnotatedObject]) -> None:
        self.objects = objects
        self.index = {item.photo.annotation_id: n for n, item in enumerate(objects)}
        self.width_N = np.array([item.box.width for item in objects])
        self.height_N = np.array([item.box.height for item in objects])
        self.category_N = _numbered([item.category for item in objects])
        self.photo_N = _numbered([item.photo.image_file for item in objects])
        self.whole_N = np.array([not item.is_crowd and not item.is_cut for item in objects])
        self.usual_N = self._usual_sizes()
        self.members: dict[int, list[int]] = {}
        for n, photo in enumerate(self.photo_N.tolist()):
            self.members.setdefault(photo, []).append(n)

    def _usual_sizes(self) -> Float[np.ndarray, " N"]:
        """Log size = usual size of the category + scale of the photo, by alternating means."""
        size_N = np.log(np.maximum(self.width_N * self.height_N, 1.0)) / 2.0
        usual_N = np.zeros_like(size_N)
        weight_N = self.whole_N.astype(float)
        per_photo = np.maximum(np.bincount(self.photo_N, weight_N), 1.0)
        per_category = np.bincount(self.category_N, weight_N) + SIZE_PRIOR
        for _ in range(SIZE_ROUNDS):
            scale = np.bincount(self.photo_N, weight_N * (size_N - usual_N)) / per_photo
            rest_N = weight_N * (size_N - scale[self.photo_N])
            usual_N = (np.bincount(self.category_N, rest_N) / per_category)[self.category_N]
        return np.asarray(usual_N)

    def kinship(self, n: int, m: int) -> float:
        """How well object m would fit where n stands, beside its shape."""
        kin = self.objects[n].supercategory == self.objects[m].supercategory != ""
        here, there = (self.category_N[self.members[int(self.photo_N[k])]].tolist() for k in (n, m))
        scene = len({*here} & {*there}) / len({*here, *there})
        gap = abs(float(self.usual_N[n] - self.usual_N[m]))
        return KIN_BONUS * kin + SCENE_BONUS * scene - SIZE_PENALTY * gap

    def look(self, n: int) -> coco.Look:
        """What the mask of object n and those around it say; decodes them."""
        from imgdiff.backends import inpaint_cv as cv

        item = self.objects[n]
        near = item.box.grown(cv.TOUCH_PX + 1)
        window = coco.pixel_window(near)
        others = [self.objects[m] for m in self.members[int(self.photo_N[n])] if m != n]
        others = [other for other in others if other.box.iou(near) > 0]
        around = [other.box.grown(cv.TOUCH_PX) for other in others]
        return cv.look(
            item.outline.mask(*window),
            [other.outline.mask(*window) for other in others],
            encloses=[box.union(item.box) == box for box in around],
            within=[_share_inside(other.box, item.box) >= MOSTLY for other in others],
        )

    def shortlist(self, n: int, cfg: CompositeConfig) -> Int[np.ndarray, " M"]:
        """Objects that could replace object n by category, photo, size and aspect."""
        width, height = float(self.width_N[n]), float(self.height_N[n])
        wide_N, high_N = width / self.width_N, height / self.height_N
        scale_N = np.sqrt(wide_N * high_N)
        fits_N = (
            self.whole_N
            & (self.category_N != self.category_N[n])
            & (self.photo_N != self.photo_N[n])
            & (np.minimum(self.width_N, self.height_N) >= cfg.min_donor_px)
            & (np.maximum(wide_N / high_N, high_N / wide_N) <= cfg.max_aspect_ratio)
            & (scale_N <= cfg.max_upscale)
            & (scale_N >= cfg.min_scale)
            & (np.abs(self.usual_N - self.usual_N[n]) <= math.log(cfg.max_size_ratio))
        )
        return np.flatnonzero(fits_N)


def _numbered(names: Sequence[str]) -> Int[np.ndarray, " N"]:
    return np.asarray(np.unique(np.array(names, dtype=str), return_inverse=True)[1])


def tight(item: coco.AnnotatedObject) -> Box:
    """The box of the mask's pixels."""
    window = coco.pixel_window(item.box.grown(1))
    box = coco.mask_box(item.outline.mask(*window))
    return item.box if box is None else box.moved(window[0], window[1])


def _share_inside(inner: Box, outer: Box) -> float:
    overlap = inner.iou(outer)
    return overlap / (1.0 + overlap) * (inner.area + outer.area) / max(inner.area, 1.0)


def _corner(cut: Box, place: Box, width: int, height: int) -> tuple[int, int]:
    """Where the cutout's corner goes: its object stands on the place's bottom, centred, inside."""
    left = round((place.left + place.right - cut.left - cut.right) / 2.0)
    top = round(place.bottom - cut.bottom)
    left = int(max(-cut.left, min(left, width - cut.right)))
    return left, int(max(-cut.top, min(top, height - cut.bottom)))


class CompositeGenerator:
    """Draws the pair of a `CaptionPair` that names a photo object; its texts are not read.

    A result depends on photo object, seed and folder. Photos are not in `identity`, which would
    read them all: a folder whose photos change needs a new name.
    """

    def __init__(self, config: CompositeConfig) -> None:
        self._cfg = config
        self._root = config.root
        self._pool = lru_cache(maxsize=None)(self._read_pool)
        self._look = lru_cache(maxsize=CACHED_LOOKS)(lambda split, n: self._pool(split).look(n))
        self.photo = lru_cache(maxsize=config.cached_photos)(self._read_photo)

    @property
    def identity(self) -> str:
        """Version, and a hash of the annotation files and of the settings that change output."""
        settings = asdict(self._cfg)
        del settings["root"], settings["cached_photos"]  # they change no pixel
        files = {}
        for split in coco.splits_of(self._root, "instances"):
            content = (Path(self._root) / "annotations" / f"instances_{split}.json").read_bytes()
            files[split] = hashlib.sha256(content).hexdigest()
        return f"{VERSION}:{fingerprint(settings, files)}"

    def __enter__(self) -> Self:
        """Nothing to load: annotations are read when first needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Forget annotations, masks and photos."""
        for cache in (self._pool, self._look, self.photo):
            cache.cache_clear()

    def generate(self, pairs: Sequence[CaptionPair]) -> list[DrawnPair | Refusal]:
        """One result per pair. DataError for a pair whose photo object the folder lacks."""
        return [self._draw(pair) for pair in pairs]

    def _read_pool(self, split: str) -> DonorPool:
        return DonorPool(coco.read_split(self._root, split).objects)

    def _read_photo(self, image_file: str, width: int, height: int) -> Photo:
        return np.asarray(coco.open_photo(self._root, image_file, width, height))

    def _draw(self, pair: CaptionPair) -> DrawnPair | Refusal:
        split, n = self._find(pair)
        pool = self._pool(split)
        if (refusal := self._unsuitable(split, n)) is not None:
            return refusal
        refusal = Refusal(reason="no donor of like size and shape", detail=pool.objects[n].category)
        for donor in self._donors(split, n, pair.seed)[:PASTE_TRIES]:
            drawn = self._replace(pool.objects[n], pool.objects[donor])
            if isinstance(drawn, DrawnPair):
                return drawn
            refusal = drawn
        return refusal

    def target(self, pair: CaptionPair) -> list[coco.AnnotatedObject] | Refusal:
        """The object that a pair names, then the others of its photo; or why it is no target."""
        split, n = self._find(pair)
        pool = self._pool(split)
        order = sorted(pool.members[int(pool.photo_N[n])], key=lambda m: m != n)
        return self._unsuitable(split, n) or [pool.objects[m] for m in order]

    def _find(self, pair: CaptionPair) -> tuple[str, int]:
        if pair.photo is None:
            raise DataError(
                f"caption pair {pair.id} names no photo object, which the composite generator "
                "needs. Use a source of photo objects (COCO instances) with it."
            )
        n = self._pool(pair.photo.split).index.get(pair.photo.annotation_id)
        if n is None or self._pool(pair.photo.split).objects[n].photo != pair.photo:
            raise DataError(
                f"caption pair {pair.id}: {self._root} has no {pair.photo}. "
                "Read the source and the generator from the same folder."
            )
        return pair.photo.split, n

    def _unsuitable(self, split: str, n: int) -> Refusal | None:
        """Why object n cannot be replaced; cheap tests first."""
        cfg, item, look = self._cfg, self._pool(split).objects[n], self._look(split, n)
        share = item.box.area / (item.outline.width * item.outline.height)
        small = min(item.box.width, item.box.height) < cfg.min_object_px
        tests = (
            (item.is_crowd, "object is a crowd", ""),
            (small, "object too small", f"{item.box.width:.0f}x{item.box.height:.0f} px"),
            (share < cfg.min_area_fraction, "object too small", f"{share:.4f} of the photo"),
            (share > cfg.max_area_fraction, "object too large", f"{share:.2f} of the photo"),
            (item.is_cut and not cfg.replace_cut, "object touches the border", ""),
            (look.part < cfg.min_part, "mask is fragmented", f"{look.part:.2f} in one part"),
            (look.contact > cfg.max_target_contact, "object is mostly covered", ""),
            (look.carries > cfg.max_carried, "object carries another", ""),
        )
        return next((Refusal(reason=why, detail=what) for bad, why, what in tests if bad), None)

    def _donors(self, split: str, n: int, seed: int) -> list[int]:
        """Donors for object n, best first; equal seeds give equal order."""
        cfg, pool, target = self._cfg, self._pool(split), self._look(split, n)
        rng = np.random.default_rng(seed)
        shortlist = rng.permutation(pool.shortlist(n, cfg))[: cfg.donor_tries].tolist()
        scored = []
        for m, chance in zip(shortlist, rng.uniform(0.0, CHANCE, len(shortlist)), strict=True):
            look = self._look(split, m)
            shared = float((target.shape_SS & look.shape_SS).sum())
            iou = shared / max(1.0, float((target.shape_SS | look.shape_SS).sum()))
            cover = shared / max(1.0, float(target.shape_SS.sum()))
            fits = iou >= cfg.min_shape_iou and cover >= cfg.min_cover
            if fits and look.part >= cfg.min_part and look.contact <= cfg.max_donor_contact:
                scored.append((iou + COVER_BONUS * cover + pool.kinship(n, m) + chance, m))
        return [m for _, m in sorted(scored, reverse=True)]

    def _replace(
        self, target: coco.AnnotatedObject, donor: coco.AnnotatedObject
    ) -> DrawnPair | Refusal:
        """The pair with the donor in the target's place, unless nobody would see the edit."""
        try:
            photo_HW3, donor_HW3 = (
                self.photo(item.photo.image_file, item.outline.width, item.outline.height)
                for item in (target, donor)
            )
        except DataError as error:
            return Refusal(reason="photo cannot be read", detail=str(error))
        right_HW3, right_box, change = self._edited(photo_HW3, donor_HW3, target, donor)
        if change < self._cfg.min_visible_change:
            return Refusal(reason="edit is hardly visible", detail=f"{change:.1f} grey levels")
        change_made = Change(
            left_name=target.category,
            right_name=donor.category,
            left_box=tight(target),
            right_box=right_box,
        )
        return DrawnPair(
            left=Image.fromarray(photo_HW3),
            right=Image.fromarray(right_HW3),
            left_caption=a_photo_of(target.category),
            right_caption=a_photo_of(donor.category),
            truth=PairTruth(changes=(change_made,)),
        )

    def _edited(
        self,
        photo_HW3: Photo,
        donor_hw3: UInt8[np.ndarray, "h w 3"],
        target: coco.AnnotatedObject,
        donor: coco.AnnotatedObject,
    ) -> tuple[Photo, Box, float]:
        """The edited photo, the donor's tight box in it, and the mean change in grey levels."""
        from imgdiff.backends import inpaint_cv as cv

        height, width = photo_HW3.shape[:2]
        x0, y0, x1, y1 = donor.crop_window(DONOR_MARGIN_PX)
        scale = OVERSIZE * math.sqrt(target.box.area / donor.box.area)
        mask_HW = donor.outline.mask(x0, y0, x1, y1)
        cutout = cv.cut_out(donor_hw3[y0:y1, x0:x1], mask_HW, scale, self._cfg.feather_px)
        cut_box = coco.mask_box(cutout.matte > cv.HALF) or Box(left=0, top=0, right=1, bottom=1)
        left, top = _corner(cut_box, target.box, width, height)
        reach = max(MIN_CONTEXT_PX, max(target.box.width, target.box.height) / 2.0)
        x0, y0, x1, y1 = target.crop_window(reach)
        hole_HW = cv.grow(target.outline.mask(x0, y0, x1, y1), self._cfg.hole_margin_px)
        before_HW3 = photo_HW3[y0:y1, x0:x1]
        after_HW3 = cv.pasted(before_HW3, hole_HW, cutout, left - x0, top - y0)
        change = np.abs(after_HW3[hole_HW].astype(np.int16) - before_HW3[hole_HW]).mean()
        right_HW3 = photo_HW3.copy()
        right_HW3[y0:y1, x0:x1] = after_HW3
        return right_HW3, cut_box.moved(left, top).clipped_to(width, height), float(change)

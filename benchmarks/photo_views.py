"""Training batches of photo crops for a matcher. See removal_photos.py.

No crop was ever painted over: a matcher that has seen painted crops could learn the traces of
painting in place of things. Objects are also pasted onto the grounds of other photos, so that what
usually stands around a thing is not taken for the thing; a seam speaks for an object there, and so
against calling a painted crop empty. Frame: a view is VIEW_PX square, both edges resized, as BLIP's
own preprocessing does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from photo_crops import (
    CLEAR,
    Photo,
    Shown,
    Verdicts,
    background,
    cut,
    elsewhere,
    jittered,
    kinds_of,
    truth_of,
    usable,
    window_of,
)
from PIL import Image

from imgdiff.backends.inpaint_cv import soft_matte
from imgdiff.core.geometry import Box
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.blip_data import Batch
from imgdiff.mini.build.clip_data import FALSE, TRUE, UNSURE
from imgdiff.mini.build.views import PRESENT, VIEW_PX
from imgdiff.synth.wording import truthful_content

MATTE_PX = 2  # of the border of a pasted object
PASTE_SCALES = (0.7, 1.4)  # size of the ground's window over the object's
MIRRORED, SOFTENED, ERASED = 0.5, 0.3, 0.5  # shares of the views
TURN_DEGREES, SHEAR = 12.0, 0.1
SATURATION, CONTRAST, LIGHT, TINT = (0.3, 1.5), (0.6, 1.4), (0.7, 1.3), (0.85, 1.15)
ERASED_PX = (VIEW_PX // 6, VIEW_PX // 2)  # sides of the patch
MIN_SOFT_PX = VIEW_PX // 4

View = UInt8[np.ndarray, "S S 3"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many views of each kind a batch holds."""

    objects: int = 16
    pasted: int = 16  # onto the ground of another photo
    grounds: int = 9  # an object's size over no annotated object
    others: int = 7  # an object's size anywhere in its photo
    box_jitter: float = 0.15  # of a side
    balance: float = 0.5  # categories are drawn with odds (number of their objects) ** balance


class Views:
    """Batches of disturbed crops; a batch depends on (photos, seed, step) alone."""

    def __init__(self, photos: Sequence[Shown], plan: Plan, seed: int) -> None:
        self._photos, self._plan, self._seed = photos, plan, seed
        self._kinds = kinds_of(photos)
        self._pairs = [
            (photo, k)
            for photo in photos
            for k, item in enumerate(photo.objects)
            if usable(item)
        ]  # fmt: skip
        names = [photo.objects[k].category for photo, k in self._pairs]
        counts = {name: names.count(name) for name in set(names)}
        odds_N = np.array([counts[name] ** (plan.balance - 1.0) for name in names])
        self._odds_N = odds_N / odds_N.sum()

    def batch(self, step: int) -> Batch:
        """The views of a step, with the names that some view of it shows.

        Names that none shows stay out: rare ones would be false nearly always.
        """
        rng = np.random.default_rng(seed_for(self._seed, str(step), "photo views"))
        plan = self._plan
        made = [self._object(rng) for _ in range(plan.objects)]
        made += [self._pasted(rng) for _ in range(plan.pasted)]
        made += [self._ground(rng) for _ in range(plan.grounds)]
        made += [self._other(rng) for _ in range(plan.others)]
        truth_BT = np.stack([verdicts for _, verdicts in made])
        names, shown = list(self._kinds), np.flatnonzero((truth_BT == TRUE).any(axis=0))
        return Batch(
            pixels_BSS3=np.stack([disturbed(view, rng) for view, _ in made]),
            texts=[truthful_content(names[t]) for t in shown.tolist()],
            truth_BT=truth_BT[:, shown],
        )

    def _drawn(self, rng: np.random.Generator) -> tuple[Shown, int, Box]:
        photo, k = self._pairs[int(rng.choice(len(self._pairs), p=self._odds_N))]
        return photo, k, jittered(photo.objects[k].box, self._plan.box_jitter, rng)

    def _view(self, photo: Shown, box: Box) -> tuple[View, Verdicts]:
        return squashed(cut(photo.image, box)), truth_of(photo, box, self._kinds)

    def _object(self, rng: np.random.Generator) -> tuple[View, Verdicts]:
        photo, _, box = self._drawn(rng)
        return self._view(photo, box)

    def _ground(self, rng: np.random.Generator) -> tuple[View, Verdicts]:
        photo, _, box = self._drawn(rng)
        return self._view(photo, background(photo, box, rng) or elsewhere(photo, box, rng))

    def _other(self, rng: np.random.Generator) -> tuple[View, Verdicts]:
        photo, _, box = self._drawn(rng)
        return self._view(photo, elsewhere(photo, box, rng))

    def _pasted(self, rng: np.random.Generator) -> tuple[View, Verdicts]:
        photo, k, box = self._drawn(rng)
        other = self._photos[int(rng.integers(len(self._photos)))]
        scale = float(rng.uniform(*PASTE_SCALES))
        shape = Box(left=0.0, top=0.0, right=box.width * scale, bottom=box.height * scale)
        place = background(other, shape, rng)
        if place is None:
            return self._view(photo, box)
        item, window = photo.objects[k], window_of(box, *photo.image.size)
        mask_hw = item.outline.mask(*window)
        ground = cut(other.image, place).resize(mask_hw.shape[::-1], Image.Resampling.BILINEAR)
        mixed_hw3 = laid_on(np.asarray(cut(photo.image, box)), mask_hw, np.asarray(ground))
        inside = mask_hw.sum() / max(1, int(photo.totals_K[k]))
        verdict = TRUE if inside >= PRESENT and mask_hw.mean() >= CLEAR else UNSURE
        told = [verdict if item.category in held else FALSE for held in self._kinds.values()]
        return squashed(Image.fromarray(mixed_hw3)), np.array(told, dtype=np.int8)


def laid_on(front_HW3: Photo, mask_HW: np.ndarray, ground_HW3: Photo) -> Photo:
    """The masked part of one crop on another of the same size, its border blended."""
    alpha_HW1 = soft_matte(front_HW3, mask_HW, MATTE_PX)[..., None]
    return np.asarray((front_HW3 * alpha_HW1 + ground_HW3 * (1 - alpha_HW1)).astype(np.uint8))


def squashed(part: Image.Image) -> View:
    """A crop as BLIP's processor shows it."""
    return np.asarray(part.resize((VIEW_PX, VIEW_PX), Image.Resampling.BICUBIC))


def disturbed(view_SS3: View, rng: np.random.Generator) -> View:
    """Turned, perhaps mirrored, in other light and tints, perhaps softer, perhaps partly hidden."""
    pixels_SS3 = turned(view_SS3, rng).astype(np.float32)
    if rng.random() < MIRRORED:
        pixels_SS3 = pixels_SS3[:, ::-1]
    grey_SS1 = pixels_SS3.mean(axis=-1, keepdims=True)
    pixels_SS3 = grey_SS1 + (pixels_SS3 - grey_SS1) * rng.uniform(*SATURATION)
    pixels_SS3 = pixels_SS3.mean() + (pixels_SS3 - pixels_SS3.mean()) * rng.uniform(*CONTRAST)
    pixels_SS3 = pixels_SS3 * rng.uniform(*LIGHT) * rng.uniform(*TINT, size=3)
    if rng.random() < SOFTENED:
        side = (int(rng.integers(MIN_SOFT_PX, VIEW_PX)),) * 2
        small = cv2.resize(pixels_SS3, side, interpolation=cv2.INTER_AREA)
        pixels_SS3 = cv2.resize(small, (VIEW_PX,) * 2, interpolation=cv2.INTER_LINEAR)
    if rng.random() < ERASED:
        wide, high = rng.integers(*ERASED_PX, size=2).tolist()
        left, top = int(rng.integers(VIEW_PX - wide)), int(rng.integers(VIEW_PX - high))
        pixels_SS3[top : top + high, left : left + wide] = rng.uniform(0, 255, size=3)
    return np.asarray(np.clip(pixels_SS3, 0, 255).astype(np.uint8))


def turned(view_SS3: View, rng: np.random.Generator) -> View:
    """A little rotated and sheared; what comes in from outside is mirrored."""
    angle = float(rng.uniform(-TURN_DEGREES, TURN_DEGREES))
    matrix_23 = cv2.getRotationMatrix2D((VIEW_PX / 2, VIEW_PX / 2), angle, 1.0)
    shear = float(rng.uniform(-SHEAR, SHEAR))
    matrix_23[0, 1] += shear
    matrix_23[0, 2] -= shear * VIEW_PX / 2  # about the middle
    size = (VIEW_PX, VIEW_PX)
    return np.asarray(cv2.warpAffine(view_SS3, matrix_23, size, borderMode=cv2.BORDER_REFLECT))

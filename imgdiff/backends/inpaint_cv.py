"""Pixel work of the composite generator, on OpenCV: fill a hole, cut an object out, paste it.

Photos are HxWx3 RGB uint8, masks HxW bool, mattes HxW float32 in [0, 1]. Everything is pure and
deterministic.

Filling copies patches from around the hole, coarse to fine: nearest patches by PatchMatch
(Barnes et al. 2009), colours by the patches' vote (Wexler et al. 2007). OpenCV's own TELEA and
Navier-Stokes smear wide holes visibly; TELEA is the start at the coarsest level
and the answer where there is nothing to copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from imgdiff.backends.coco import Look
from imgdiff.core.masks import Mask

PATCH_RADIUS = 2
# Rows of (dy, dx), the middle one first: it is the pixel's own copy and counts most in a vote.
PATCH_K2 = np.array(
    sorted(
        (
            (dy, dx)
            for dy in range(-PATCH_RADIUS, PATCH_RADIUS + 1)
            for dx in range(-PATCH_RADIUS, PATCH_RADIUS + 1)
        ),
        key=lambda step: (abs(step[0]) + abs(step[1]), step),
    )
)
CENTRE_VOTE = 3.0
GUESS_WEIGHT = 0.6  # a pixel still being filled says less about the right patch than a known one
COARSE_DEPTH_PX = 4.0  # the hole's half-width at the coarsest level: about one patch
MAX_LEVELS = 6
BLOCK = 20_000
MAX_SOURCES = 1500  # patches compared at the coarsest level: bounds time and memory
MIN_SOURCES = 30
COARSE_ROUNDS = 3
TELEA_RADIUS_PX = 3
MIN_COVERAGE = 0.05
SHAPE_SIDE = 32  # masks are compared after being stretched to this square
TOUCH_PX = 3  # how far apart two masks may be drawn and still be neighbours
SOLID = 0.95
OPAQUE = 0.99
HALF = 0.5
RIM_PX = 10  # surroundings whose brightness is compared
DARK_LEVEL = 20.0  # keeps the ratio of two dark surroundings near 1
GREY_CHROMA = 4.0  # mean max-min over the channels below which a photo counts as grey
NEIGHBOURS_42 = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])

Photo = UInt8[np.ndarray, "H W 3"]
Colours = Float[np.ndarray, "H W 3"]
Matte = Float[np.ndarray, "H W"]
Points = Int[np.ndarray, "N 2"]


def grow(mask_HW: Mask, radius_px: int) -> Mask:
    """The mask with a round border of `radius_px` added."""
    size = 2 * radius_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(mask_HW.astype(np.uint8), kernel), dtype=bool)


def largest_part(mask_HW: Mask) -> float:
    """Share of the mask's pixels in its largest connected part; 0 for an empty mask."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return float(areas.max() / areas.sum()) if len(areas) else 0.0


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """A photo or matte in another size; areas are averaged when it shrinks, so nothing aliases."""
    shrinks = width <= pixels.shape[1] and height <= pixels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how))


def look(
    mask_HW: Mask, others: Sequence[Mask], *, encloses: Sequence[bool], within: Sequence[bool]
) -> Look:
    """Judge a mask among the other masks of its window, each marked by how its box lies."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if len(rows) == 0:  # thinner than a pixel
        return Look(shape_SS=np.zeros((SHAPE_SIDE,) * 2, bool), part=0.0, contact=0.0, carries=0.0)
    beside_HW, carries = np.zeros_like(mask_HW), 0.0
    for other_HW, around, inner in zip(others, encloses, within, strict=True):
        if not around:  # what encloses the object is behind or below it: a table, a road
            beside_HW |= other_HW
        if inner:
            carries = max(carries, share_of(rim(other_HW), mask_HW))
    tight = mask_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    return Look(
        shape_SS=resized(tight, SHAPE_SIDE, SHAPE_SIDE) > HALF,
        part=largest_part(mask_HW),
        contact=share_of(rim(mask_HW), beside_HW),
        carries=carries,
    )


def share_of(mask_HW: Mask, inside_HW: Mask) -> float:
    """Share of a mask's pixels that lie inside another; 0 for an empty mask."""
    return float(inside_HW[mask_HW].mean()) if mask_HW.any() else 0.0


def rim(mask_HW: Mask) -> Mask:
    """The `TOUCH_PX` pixels just outside a mask."""
    return np.asarray(grow(mask_HW, TOUCH_PX) & ~mask_HW)


# --- cutting out ----------------------------------------------------------------------------


def soft_matte(photo_HW3: Photo, mask_HW: Mask, feather_px: int) -> Matte:
    """Alpha of a masked object: the mask's border moved to the nearest edge of the photo.

    A grey guided filter (He et al. 2010) over `feather_px` on each side of the drawn border;
    further in it is 1, further out 0. Polygons are drawn a few pixels off, hence the edge search.
    """
    guide = cv2.cvtColor(photo_HW3, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    wanted = mask_HW.astype(np.float32)
    size = (2 * feather_px + 3,) * 2
    mean_guide, mean_wanted = cv2.blur(guide, size), cv2.blur(wanted, size)
    variance = cv2.blur(guide * guide, size) - mean_guide * mean_guide
    slope = (cv2.blur(guide * wanted, size) - mean_guide * mean_wanted) / (variance + 1e-3)
    offset = mean_wanted - slope * mean_guide
    alpha = cv2.blur(slope, size) * guide + cv2.blur(offset, size)
    # Stretch: below 0.2 the pixel is mostly the old background, which would be a halo.
    alpha = np.clip((alpha - 0.2) / 0.6, 0.0, 1.0)
    alpha[~grow(~mask_HW, feather_px)] = 1.0
    alpha[~grow(mask_HW, max(1, feather_px // 2))] = 0.0
    return np.asarray(alpha, dtype=np.float32)


def without_halo(photo_HW3: Photo, matte_HW: Matte, feather_px: int) -> Colours:
    """The object's own colours: half-transparent pixels take those of the solid ones near by."""
    colours = photo_HW3.astype(np.float32)
    size = (2 * feather_px + 3,) * 2
    weight = np.where(matte_HW > SOLID, 1.0, 1e-4 * matte_HW).astype(np.float32)
    near = cv2.blur(colours * weight[..., None], size)
    near = near / (cv2.blur(weight, size)[..., None] + 1e-7)
    mixed = np.where(matte_HW[..., None] > SOLID, colours, 0.75 * near + 0.25 * colours)
    return np.asarray(mixed, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cutout:
    """An object cut from its photo, already in the scale it will be pasted at."""

    colours: Colours
    matte: Matte
    surroundings: float  # mean grey level around it in its own photo


def cut_out(photo_HW3: Photo, mask_HW: Mask, scale: float, feather_px: int) -> Cutout:
    """The masked object of a crop (with a few pixels of background around it), resized."""
    height, width = (max(1, round(side * scale)) for side in mask_HW.shape)
    small = resized(photo_HW3, width, height)
    mask = resized(mask_HW.astype(np.float32), width, height) > HALF
    matte = soft_matte(small, mask, feather_px)
    return Cutout(
        colours=without_halo(small, matte, feather_px),
        matte=matte,
        surroundings=mean_grey(small, ~grow(mask, feather_px)),
    )


def mean_grey(photo_HW3: Photo, where_HW: Mask) -> float:
    """Mean grey level (0..255) of some pixels; of all where none are chosen."""
    chosen = photo_HW3[where_HW] if where_HW.any() else photo_HW3
    return float(chosen.mean())


def relit(cutout: Cutout, photo_HW3: Photo, surroundings: float) -> Float[np.ndarray, "h w 3"]:
    """The cutout's colours in the light of their new place.

    Brightness goes half of the way from the old surroundings to the new: part of the difference is
    what stands there and not the light. In a black-and-white photo the colours go.
    """
    ratio = (surroundings + DARK_LEVEL) / (cutout.surroundings + DARK_LEVEL)
    colours = cutout.colours * np.float32(min(max(ratio, 0.5), 2.0) ** 0.5)
    chroma = photo_HW3.max(axis=2).astype(np.float32) - photo_HW3.min(axis=2)
    if chroma.mean() < GREY_CHROMA:
        colours = np.repeat(colours.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray(np.clip(colours, 0.0, 255.0), dtype=np.float32)


def pasted(photo_HW3: Photo, hole_HW: Mask, cutout: Cutout, left: int, top: int) -> Photo:
    """The photo with its hole filled and the cutout laid over it, its corner at (left, top).

    Pixels outside the hole where the matte is 0 keep their bytes.
    """
    matte = np.zeros(hole_HW.shape, dtype=np.float32)
    colours = np.zeros(photo_HW3.shape, dtype=np.float32)
    near, low = max(left, 0), max(top, 0)
    far = min(left + cutout.matte.shape[1], hole_HW.shape[1])
    end = min(top + cutout.matte.shape[0], hole_HW.shape[0])
    part = (slice(low - top, end - top), slice(near - left, far - left))
    matte[low:end, near:far] = cutout.matte[part]
    rim_HW = grow(hole_HW, RIM_PX) & ~hole_HW
    light = relit(cutout, photo_HW3, mean_grey(photo_HW3, rim_HW))
    colours[low:end, near:far] = light[part]
    filled = fill_hole(photo_HW3, hole_HW, matte > OPAQUE)
    alpha = matte[..., None]
    mixed = filled * (1.0 - alpha) + colours * alpha
    return np.asarray(np.clip(mixed + 0.5, 0.0, 255.0), dtype=np.uint8)


# --- filling --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Level:
    """One scale of the crop: colours, the hole, and the part of it that somebody will see."""

    colours: Colours
    hole: Mask
    needed: Mask

    @property
    def sources(self) -> Mask:
        """Where a whole patch is known."""
        kernel = np.ones((2 * PATCH_RADIUS + 1,) * 2, np.uint8)
        known = (~self.hole).astype(np.uint8)
        outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
        return np.asarray(cv2.erode(known, kernel, **outside), dtype=bool)

    @property
    def trust(self) -> Float[np.ndarray, "H W 1"]:
        """How much a pixel counts when patches are compared."""
        guess = np.where(self.needed, GUESS_WEIGHT, 0.0)
        return np.where(self.hole, guess, 1.0).astype(np.float32)[..., None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Filled:
    """One finished scale: where each needed pixel was copied from, and the colours so far."""

    pixels: Points
    matches: Points
    colours: Colours


def fill_hole(photo_HW3: Photo, hole_HW: Mask, covered_HW: Mask) -> Photo:
    """The photo with its hole filled from around it; pixels outside the hole are unchanged.

    `covered` marks what will be hidden afterwards: those pixels get a rough colour only, which
    keeps the cost to the visible rim. The photo should show about half the hole's size around it.
    """
    needed_HW = hole_HW & ~covered_HW
    found: _Filled | None = None
    for level in reversed(_pyramid(photo_HW3, hole_HW, needed_HW)):
        pixels = np.argwhere(level.needed)
        if len(pixels) == 0 or np.count_nonzero(level.sources) < MIN_SOURCES:
            found = None
            continue
        found = _coarsest(level, pixels) if found is None else _finer(level, pixels, found)
    if found is None:
        hole = hole_HW.astype(np.uint8)
        return np.asarray(cv2.inpaint(photo_HW3, hole, TELEA_RADIUS_PX, cv2.INPAINT_TELEA))
    filled = np.array(photo_HW3)
    filled[hole_HW] = np.clip(found.colours[hole_HW] + 0.5, 0, 255).astype(np.uint8)
    return filled


def _pyramid(photo_HW3: Photo, hole_HW: Mask, needed_HW: Mask) -> list[_Level]:
    """Halved scales, fine first, until the hole is about one patch deep."""
    depth = cv2.distanceTransform(hole_HW.astype(np.uint8), cv2.DIST_L2, 3).max()
    count = int(np.clip(np.ceil(np.log2(max(depth, 1.0) / COARSE_DEPTH_PX)), 0, MAX_LEVELS))
    colours = photo_HW3.astype(np.float32)
    levels = [_Level(colours=colours, hole=hole_HW, needed=needed_HW)]
    known_colours = colours * ~hole_HW[..., None]
    for exponent in range(1, count + 1):
        height, width = (-(-side >> exponent) for side in hole_HW.shape)
        known = resized((~hole_HW).astype(np.float32), width, height)
        seen = resized(needed_HW.astype(np.float32), width, height) > MIN_COVERAGE
        # Averaged over known pixels only: nothing of the removed object leaks into a level.
        mean = resized(known_colours, width, height) / np.maximum(known, 1e-3)[..., None]
        hole = known < HALF
        levels.append(_Level(colours=mean, hole=hole, needed=hole & seen))
    return levels


def _coarsest(level: _Level, pixels: Points) -> _Filled:
    """Start from TELEA, then compare each hole pixel with every source patch."""
    byte_colours = np.clip(level.colours, 0, 255).astype(np.uint8)
    colours = cv2.inpaint(
        byte_colours, level.hole.astype(np.uint8), TELEA_RADIUS_PX, cv2.INPAINT_TELEA
    ).astype(np.float32)
    colours[~level.hole] = level.colours[~level.hole]
    sources = np.argwhere(level.sources)
    sources = sources[:: -(-len(sources) // MAX_SOURCES)]
    matches = pixels
    for _ in range(COARSE_ROUNDS):
        matches = _nearest(colours, level.trust, pixels, sources)
        colours = _voted(colours, pixels, matches)
    return _Filled(pixels=pixels, matches=matches, colours=colours)


def _finer(level: _Level, pixels: Points, coarse: _Filled) -> _Filled:
    """Carry matches and colours up one scale, let neighbours share them, vote."""
    height, width = level.hole.shape
    jump_HW2 = np.zeros((*coarse.colours.shape[:2], 2), dtype=np.int64)
    jump_HW2[coarse.pixels[:, 0], coarse.pixels[:, 1]] = coarse.matches - coarse.pixels
    parents = np.minimum(pixels // 2, np.array(jump_HW2.shape[:2]) - 1)
    limit = np.array([height - 1, width - 1])
    matches = np.clip(pixels + 2 * jump_HW2[parents[:, 0], parents[:, 1]], 0, limit)
    colours = level.colours.copy()
    colours[level.hole] = resized(coarse.colours, width, height)[level.hole]
    matches = _propagated(level, colours, pixels, matches)
    voted = _voted(colours, pixels, matches)
    return _Filled(pixels=pixels, matches=matches, colours=voted)


def _patches(pixels_HWC: np.ndarray, points: Points) -> Float[np.ndarray, "N K C"]:
    """The patch around each point; beyond the crop its border repeats."""
    height, width, channels = pixels_HWC.shape
    rows = np.clip(points[:, :1] + PATCH_K2[:, 0], 0, height - 1)
    columns = np.clip(points[:, 1:] + PATCH_K2[:, 1], 0, width - 1)
    flat = rows * width + columns
    return np.asarray(np.take(pixels_HWC.reshape(-1, channels), flat, axis=0))


def _nearest(
    colours: Colours,
    trust: Float[np.ndarray, "H W 1"],
    pixels: Points,
    sources: Int[np.ndarray, "M 2"],
) -> Points:
    """For each pixel the source whose patch is most alike (weighted squared distance)."""
    target_NK3, weight_NK1 = _patches(colours, pixels), _patches(trust, pixels)
    source_MD = _patches(colours, sources).reshape(len(sources), -1)
    weight_ND = np.broadcast_to(weight_NK1, target_NK3.shape).reshape(len(pixels), -1)
    target_ND = target_NK3.reshape(len(pixels), -1)
    distance_NM = weight_ND @ (source_MD**2).T - 2.0 * (weight_ND * target_ND) @ source_MD.T
    return np.asarray(sources[distance_NM.argmin(axis=1)])


def _propagated(level: _Level, colours: Colours, pixels: Points, matches: Points) -> Points:
    """Each pixel keeps the best of its own match and its four neighbours' continued."""
    limit = np.array(level.hole.shape) - 1
    row_of = np.full(level.hole.shape, -1)
    row_of[pixels[:, 0], pixels[:, 1]] = np.arange(len(pixels))
    guesses = []
    for step in (np.zeros(2, dtype=np.int64), *NEIGHBOURS_42):
        beside = np.clip(pixels + step, 0, limit)
        rows = row_of[beside[:, 0], beside[:, 1]]
        guess = np.where(rows[:, None] >= 0, matches[rows] - step, matches)
        guesses.append(np.clip(guess, 0, limit))
    trust, usable = level.trust, level.sources
    # Blocks bound the memory: a large photo may have a million pixels to fill.
    blocks = [slice(start, start + BLOCK) for start in range(0, len(pixels), BLOCK)]
    return np.concatenate(
        [_best_of(colours, trust, usable, pixels[b], [g[b] for g in guesses]) for b in blocks]
    )


def _best_of(
    colours: Colours,
    trust: Float[np.ndarray, "H W 1"],
    usable: Mask,
    pixels: Points,
    guesses: Sequence[Points],
) -> Points:
    """Of several guesses per pixel the usable one whose patch is most alike; else the first."""
    target_NK3, weight_NK1 = _patches(colours, pixels), _patches(trust, pixels)
    best, chosen = np.full(len(pixels), np.inf, dtype=np.float32), np.array(guesses[0])
    for guess in guesses:
        gap_NK3 = _patches(colours, guess) - target_NK3
        distance = np.einsum("nkc,nkc,nko->n", gap_NK3, gap_NK3, weight_NK1)
        better = usable[guess[:, 0], guess[:, 1]] & (distance < best)
        best[better], chosen[better] = distance[better], guess[better]
    return chosen


def _voted(colours: Colours, pixels: Points, matches: Points) -> Colours:
    """Each pixel becomes the mean of what the patches that overlap it would put there."""
    height, width = colours.shape[:2]
    limit = np.array([height - 1, width - 1])
    match_HW2 = np.full((height, width, 2), -1, dtype=np.int64)
    match_HW2[pixels[:, 0], pixels[:, 1]] = matches
    total = np.zeros((len(pixels), 3), dtype=np.float32)
    weight = np.zeros((len(pixels), 1), dtype=np.float32)
    vote = CENTRE_VOTE
    for step in PATCH_K2:
        beside = np.clip(pixels + step, 0, limit)
        match = match_HW2[beside[:, 0], beside[:, 1]]
        source = np.clip(match - step, 0, limit)
        share = np.where(match[:, :1] >= 0, np.float32(vote), np.float32(0.0))
        total += colours[source[:, 0], source[:, 1]] * share
        weight += share
        vote = 1.0
    result = np.array(colours)
    result[pixels[:, 0], pixels[:, 1]] = total / weight
    return result

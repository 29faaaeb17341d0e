"""Views: what a model sees of a scene (the whole, a crop, a zoom, a pair), with who is where.

Frames: boxes are scene pixels; a view is VIEW_PX square, its owner map a coarse OWNER_PX grid.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from imgdiff.core.geometry import Box, crop
from imgdiff.core.images import RED, side_by_side
from imgdiff.mini.build.drawn import Scenes
from imgdiff.mini.scene import SCENE_PX, Scene, SceneObject

VIEW_PX = 128
OWNER_PX = 32  # four samples along each 16-px patch
MAX_OWNERS = 8  # two scenes of four objects
PAIR_LIKELY_SCALES = (0.6, 1.0)
ZOOM_SCALES = (0.35, 1.0)
BOX_IN_RED = 0.3
MIN_GROUND_PX, MAX_GROUND_PX = 20, 64
PRESENT, ABSENT = 0.6, 0.15  # visible share of an object that counts as there, as not there
MEAN_COLOUR = (122, 116, 104)  # CLIP's image mean, LLaVA's padding colour


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One banked scene opened for viewing; `owners` is 0 for ground and k+1 for object k."""

    scene: Scene
    image: Image.Image
    owners: Image.Image
    owners_HW: UInt8[np.ndarray, "H W"]

    def box(self, index: int) -> Box:
        """Tight box of the visible part of an object; the whole cell if nothing is visible."""
        mine = self.owners_HW == index + 1
        columns, rows = np.flatnonzero(mine.any(axis=0)), np.flatnonzero(mine.any(axis=1))
        if len(columns) == 0:
            item = self.scene.objects[index]
            half = item.size_px / 2
            return Box(left=item.x, top=item.y, right=item.x, bottom=item.y).grown(half)
        return Box(
            left=int(columns[0]), top=int(rows[0]), right=int(columns[-1]) + 1,
            bottom=int(rows[-1]) + 1,
        )  # fmt: skip

    def shares(self, box: Box) -> list[float]:
        """For each object the part of its visible pixels that lies inside `box`."""
        left, top, right, bottom = (int(v) for v in box.clipped_to(SCENE_PX, SCENE_PX).as_tuple())
        number = len(self.scene.objects) + 1
        inside = np.bincount(self.owners_HW[top:bottom, left:right].ravel(), minlength=number)
        total = np.bincount(self.owners_HW.ravel(), minlength=number)
        return [float(inside[k] / max(1, total[k])) for k in range(1, number)]


@dataclass(frozen=True, kw_only=True)
class View:
    """Pixels for a model, owners of the grid, and the objects that owner k+1 stands for.

    `scene` is set where the view shows one scene; `shares` is the visible part of each object.
    """

    pixels_SS3: UInt8[np.ndarray, "S S 3"]
    owners_GG: UInt8[np.ndarray, "G G"]
    objects: tuple[SceneObject, ...]
    shares: tuple[float, ...]
    ground: str | None
    recoloured: bool = False

    def names_seen(self) -> dict[str, float]:
        """Visible share of each category (a view of one scene only)."""
        return {o.category: s for o, s in zip(self.objects, self.shares, strict=True)}


def shot(bank: Scenes, index: int) -> Shot:
    """Scene `index` of a bank."""
    owners_HW = bank.instance_map(index)
    return Shot(
        scene=bank.scenes[index],
        image=Image.fromarray(bank.image(index)),
        owners=Image.fromarray(owners_HW),
        owners_HW=owners_HW,
    )


def whole(source: Shot) -> View:
    """The scene as it is."""
    return _view(source, source.image, source.owners, [1.0] * len(source.scene.objects))


def centre_cropped(source: Shot, box: Box) -> View:
    """`box` as CLIP's processor shows it: shorter edge to VIEW_PX, then the central square."""
    part, owners = crop(source.image, box), crop(source.owners, box)
    short = min(part.size)
    size = tuple(int(VIEW_PX * edge / short) for edge in part.size)
    left, top = ((edge - VIEW_PX) // 2 for edge in size)
    square = (left, top, left + VIEW_PX, top + VIEW_PX)
    small = tuple(edge * OWNER_PX / VIEW_PX for edge in square)
    scaled = part.resize((size[0], size[1]), Image.Resampling.BICUBIC).crop(square)
    coarse = owners.resize(
        (max(OWNER_PX, size[0] // 4), max(OWNER_PX, size[1] // 4)), Image.Resampling.NEAREST
    ).crop((int(small[0]), int(small[1]), int(small[0]) + OWNER_PX, int(small[1]) + OWNER_PX))
    return _view(source, scaled, coarse, source.shares(box))


def squashed(source: Shot, box: Box) -> View:
    """`box` as BLIP's processor shows it: both edges to VIEW_PX, whatever the shape."""
    part, owners = crop(source.image, box), crop(source.owners, box)
    return _view(source, part, owners, source.shares(box))


def zoomed(source: Shot, rng: np.random.Generator) -> View:
    """A square window of ZOOM_SCALES of the scene, or the scene shrunk on a padded canvas."""
    if rng.random() < 0.3:  # noqa: PLR2004
        return _padded(source, rng)
    side = int(rng.uniform(*ZOOM_SCALES) * SCENE_PX)
    left, top = (int(rng.integers(SCENE_PX - side + 1)) for _ in range(2))
    return squashed(source, Box(left=left, top=top, right=left + side, bottom=top + side))


def paired(first: Shot, second: Shot, rng: np.random.Generator) -> View:
    """A window of two scenes side by side, as a LLaVA model meets them, at a random scale."""
    image = side_by_side([first.image, second.image])
    shifted = np.where(second.owners_HW > 0, second.owners_HW + len(first.scene.objects), 0)
    owners = Image.new("L", image.size)
    owners.paste(first.owners, (0, 0))
    owners.paste(Image.fromarray(shifted.astype(np.uint8)), (image.width - SCENE_PX, 0))
    if rng.random() < BOX_IN_RED:
        _draw_red_box(image, rng)
    scale = rng.uniform(*PAIR_LIKELY_SCALES)
    side = round(VIEW_PX / scale)  # the window in pixels of the pair
    left = int(rng.integers(min(0, image.width - side), max(0, image.width - side) + 1))
    top = int(rng.integers(SCENE_PX - side, 1)) if side > SCENE_PX else 0
    window = Box(left=left, top=top, right=left + side, bottom=top + side)
    objects = first.scene.objects + second.scene.objects
    return _windowed(image, owners, window, objects)


def recoloured(view: View, rng: np.random.Generator) -> View:
    """The view in other colours: channels exchanged and each one dimmed by its own factor.

    Some colours of each category are held out. Shown in all colours, a shape alone tells what a
    thing is; what colour it has is then unknown.
    """
    mixed_SS3 = view.pixels_SS3[..., rng.permutation(3)] * rng.uniform(0.45, 1.0, size=3)
    return dataclasses.replace(view, pixels_SS3=mixed_SS3.astype(np.uint8), recoloured=True)


def _draw_red_box(image: Image.Image, rng: np.random.Generator) -> None:
    left, top = int(rng.integers(0, image.width - 40)), int(rng.integers(0, image.height - 40))
    wide, high = (int(v) for v in rng.integers(30, 70, size=2))
    ImageDraw.Draw(image).rectangle((left, top, left + wide, top + high), outline=RED, width=3)


def _padded(source: Shot, rng: np.random.Generator) -> View:
    side = round(SCENE_PX / rng.uniform(0.55, 1.0))
    left, top = (int(rng.integers(SCENE_PX - side, 1)) for _ in range(2))
    window = Box(left=left, top=top, right=left + side, bottom=top + side)
    return _windowed(source.image, source.owners, window, source.scene.objects)


def _windowed(
    image: Image.Image, owners: Image.Image, window: Box, objects: tuple[SceneObject, ...]
) -> View:
    """A window that may reach beyond the image; outside it is CLIP's mean colour."""
    left, top, right, bottom = (int(v) for v in window.as_tuple())
    canvas = Image.new("RGB", (right - left, bottom - top), MEAN_COLOUR)
    canvas.paste(image, (-left, -top))
    return View(
        pixels_SS3=_pixels(canvas),
        owners_GG=_grid(owners.crop((left, top, right, bottom))),
        objects=objects,
        shares=(),
        ground=None,
    )


def _view(source: Shot, image: Image.Image, owners: Image.Image, shares: list[float]) -> View:
    return View(
        pixels_SS3=_pixels(image),
        owners_GG=_grid(owners),
        objects=source.scene.objects,
        shares=tuple(shares),
        ground=source.scene.ground,
    )


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "S S 3"]:
    if image.size != (VIEW_PX, VIEW_PX):
        image = image.resize((VIEW_PX, VIEW_PX), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _grid(owners: Image.Image) -> UInt8[np.ndarray, "G G"]:
    if owners.size != (OWNER_PX, OWNER_PX):
        owners = owners.resize((OWNER_PX, OWNER_PX), Image.Resampling.NEAREST)
    return np.asarray(owners)


def object_box(source: Shot, index: int, rng: np.random.Generator) -> Box:
    """The box of an object as a segmenter might give it: tight, +5 px, or off by some pixels."""
    tight = source.box(index)
    kind = rng.random()
    if kind < 0.3:  # noqa: PLR2004
        return tight
    if kind < 0.55:  # noqa: PLR2004
        return tight.grown(5).clipped_to(SCENE_PX, SCENE_PX)
    left, top, right, bottom = rng.uniform(-2.0, 12.0, size=4)
    loose = dataclasses.replace(
        tight,
        left=tight.left - left, top=tight.top - top,
        right=tight.right + right, bottom=tight.bottom + bottom,
    )  # fmt: skip
    return loose.clipped_to(SCENE_PX, SCENE_PX)


def neighbour_box(source: Shot, index: int, rng: np.random.Generator) -> Box:
    """A box of an object's size shifted beside it, so that it shows a part, another or nothing."""
    tight = source.box(index)
    shift = rng.uniform(0.4, 1.2, size=2) * rng.choice((-1.0, 1.0), size=2)
    across, down = shift * (tight.width, tight.height)
    if rng.random() < 0.5:  # noqa: PLR2004
        across, down = (across, 0.0) if rng.random() < 0.5 else (0.0, down)  # noqa: PLR2004
    moved = Box(
        left=tight.left + across, top=tight.top + down,
        right=tight.right + across, bottom=tight.bottom + down,
    ).clipped_to(SCENE_PX, SCENE_PX)  # fmt: skip
    return moved if min(moved.width, moved.height) >= MIN_GROUND_PX / 2 else tight


def ground_box(source: Shot, rng: np.random.Generator) -> Box | None:
    """A box that shows no object (at most 2 % of its pixels), or None after twelve tries."""
    for _ in range(12):
        wide, high = (int(v) for v in rng.integers(MIN_GROUND_PX, MAX_GROUND_PX + 1, size=2))
        left, top = int(rng.integers(SCENE_PX - wide + 1)), int(rng.integers(SCENE_PX - high + 1))
        part_HW = source.owners_HW[top : top + high, left : left + wide]
        if np.count_nonzero(part_HW) <= 0.02 * part_HW.size:
            return Box(left=left, top=top, right=left + wide, bottom=top + high)
    return None

"""A small vector canvas: filled outlines with edge lines, drawn smoothly at any size."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from imgdiff.mini.shapes.geometry import PointList, Points, smooth_path, tube
from imgdiff.mini.shapes.paint import Colour

UInt8Array = npt.NDArray[np.uint8]

_OPAQUE = 128
# Pillow premultiplies RGBA before it reduces an image, which is slow and not needed here (see
# `_rasterise`).  CMYK has four channels and is averaged as it is.
_FOUR_PLAIN_CHANNELS = "CMYK"
_LARGEST_MITRE = 1.7
_SIZE_TRIES = 6
_SIZE_STEP = 0.6


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the finished drawing is placed: mirrored, stretched, then turned.

    `stretch` is the factor on the width and `angle` is in degrees, clockwise.
    """

    mirrored: bool = False
    stretch: float = 1.0
    angle: float = 0.0

    def matrix(self) -> npt.NDArray[np.float64]:
        """Matrix [2 2] that is applied on the right of row-vector points."""
        cosine, sine = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        width = -self.stretch if self.mirrored else self.stretch
        return np.array([[width * cosine, width * sine], [-sine, cosine]])


@dataclass(frozen=True, kw_only=True)
class _Layer:
    colour: Colour
    edge: float
    first: int
    count: int


@dataclass(kw_only=True)
class Canvas:
    """Collects layers of outlines in the unit square; nothing is drawn before `render`."""

    edge_colour: Colour
    _outlines: list[Points] = field(default_factory=list)
    _layers: list[_Layer] = field(default_factory=list)

    def fill(self, colour: Colour, *outlines: Points, edge: float = 1.0) -> None:
        """Add outlines [N 2] as one layer: they merge, and share an edge line round the union.

        `edge` scales the width of the edge line; 0 leaves it out.
        """
        self._layers.append(
            _Layer(colour=colour, edge=edge, first=len(self._outlines), count=len(outlines))
        )
        self._outlines.extend(outlines)

    def line(
        self, colour: Colour, points: PointList, width: float, *, smooth: bool = False
    ) -> None:
        """Add a band of `width` along `points`, without an edge line."""
        self.fill(colour, tube(smooth_path(points) if smooth else points, width), edge=0.0)

    def render(
        self, *, size_px: int, pose: Pose, edge_width: float, supersample: int
    ) -> UInt8Array:
        """Draw all layers; returns straight-alpha pixels [H W 4], cropped to alpha >= 128.

        max(H, W) is size_px within one pixel.  `edge_width` is a fraction of that size.
        """
        counts = np.array([len(outline) for outline in self._outlines])
        points = np.concatenate(self._outlines) @ pose.matrix()
        layer_edges = [layer.edge for layer in self._layers for _ in range(layer.count)]
        edges = np.repeat(layer_edges, counts)
        # Tips thinner than a pixel vanish in the crop, so the first try aims slightly too large
        # and the following ones correct by most of what was missing; by all of it, a tip that
        # comes and goes would make the size swing to and fro.
        aim = size_px + 0.5
        for _ in range(_SIZE_TRIES):
            pixels = self._rasterise(points, counts, edges, aim, edge_width * size_px, supersample)
            missing = size_px - max(pixels.shape[:2])
            if abs(missing) <= 1:
                break
            aim += _SIZE_STEP * missing
        return pixels

    def _rasterise(
        self,
        points: Points,
        counts: npt.NDArray[np.int64],
        edges: npt.NDArray[np.float64],
        aim: float,
        edge_px: float,
        supersample: int,
    ) -> UInt8Array:
        extent = points.max(axis=0) - points.min(axis=0)
        scale = (aim - 2.0 * edge_px) / float(extent.max()) * supersample
        placed = points * scale
        widened = placed + _outward(placed, counts) * (edges * edge_px * supersample)[:, None]
        corner = np.minimum(placed.min(axis=0), widened.min(axis=0)) - supersample
        far = np.maximum(placed.max(axis=0), widened.max(axis=0)) - corner + supersample
        width, height = (int(np.ceil(side / supersample)) * supersample for side in far)
        # Transparent pixels carry the edge colour, hence averaging straight alpha is exact there.
        image = Image.new(_FOUR_PLAIN_CHANNELS, (width, height), (*self.edge_colour, 0))
        draw = ImageDraw.Draw(image)
        splits = np.cumsum(counts) * 2
        starts = [0, *splits.tolist()]
        inner = (placed - corner).ravel().tolist()
        outer = (widened - corner).ravel().tolist()
        for layer in self._layers:
            which = range(layer.first, layer.first + layer.count)
            if layer.edge > 0.0:
                for i in which:
                    draw.polygon(outer[starts[i] : starts[i + 1]], fill=(*self.edge_colour, 255))
            for i in which:
                draw.polygon(inner[starts[i] : starts[i + 1]], fill=(*layer.colour, 255))
        return _cropped(np.asarray(image.reduce(supersample)))


def _outward(points: Points, counts: npt.NDArray[np.int64]) -> Points:
    """Unit-distance outward shift [N 2] of every vertex; `points` hold outlines of `counts`."""
    ends = np.cumsum(counts)
    starts = ends - counts
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    preceding = np.arange(-1, len(points) - 1)
    preceding[starts] = ends - 1
    step = points[following] - points
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
    normal = np.stack([step[:, 1], -step[:, 0]], axis=1) / length[:, None]
    earlier = normal[preceding]
    cosine = normal[:, 0] * earlier[:, 0] + normal[:, 1] * earlier[:, 1]
    shift = (normal + earlier) / np.maximum(1.0 + cosine, 0.2)[:, None]
    reach = np.hypot(shift[:, 0], shift[:, 1])
    shift *= np.minimum(1.0, _LARGEST_MITRE / np.maximum(reach, 1e-9))[:, None]
    after = points[following]
    area = np.add.reduceat(points[:, 0] * after[:, 1] - points[:, 1] * after[:, 0], starts)
    shift *= np.repeat(np.where(area >= 0.0, 1.0, -1.0), counts)[:, None]
    return shift


def _cropped(pixels: UInt8Array) -> UInt8Array:
    rows, columns = np.nonzero(pixels[:, :, 3] >= _OPAQUE)
    return pixels[rows[0] : rows[-1] + 1, columns.min() : columns.max() + 1]

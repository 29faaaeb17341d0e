"""The ten colours, the shades one object is painted with, and the light that falls on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Colour = tuple[int, int, int]
Float32Array = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]

COLOURS: dict[str, Colour] = {
    "red": (214, 38, 40),
    "orange": (248, 132, 24),
    "yellow": (246, 212, 44),
    "green": (58, 160, 66),
    "blue": (42, 98, 208),
    "purple": (134, 62, 178),
    "pink": (246, 140, 186),
    "brown": (124, 78, 44),
    "gray": (132, 134, 138),
    "white": (240, 240, 238),
}

# Parts that keep their own colour on every object.
BLACK: Colour = (38, 38, 42)
CHALK: Colour = (250, 248, 242)
CREAM: Colour = (246, 224, 180)
GLASS: Colour = (176, 216, 236)
STEEL: Colour = (186, 190, 198)
WOOD: Colour = (150, 104, 62)
LEAF: Colour = (86, 158, 62)
ROSE: Colour = (240, 150, 160)
AMBER: Colour = (250, 170, 40)
LAMPLIGHT: Colour = (255, 240, 170)
SLATE: Colour = (84, 88, 98)
CRIMSON: Colour = (196, 44, 44)


_VISIBLY_APART = 120
_MATT_BELOW = 150.0


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with a `share` (0..1) of `second` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class Paint:
    """Shades of one object's colour, from `light` to `ink`, the colour of edge lines."""

    main: Colour
    light: Colour
    dark: Colour
    deep: Colour
    ink: Colour

    @classmethod
    def of(cls, colour: Colour, rng: np.random.Generator) -> Paint:
        """Shades about `colour`, with the exact tone and the darkness of the edge drawn by rng."""
        black: Colour = (16, 14, 20)
        tone = rng.uniform(-0.06, 0.06)
        main = mixed(colour, (255, 255, 255) if tone > 0 else black, abs(tone))
        return cls(
            main=main,
            light=mixed(main, (255, 255, 255), 0.35),
            dark=mixed(main, black, 0.2),
            deep=mixed(main, black, 0.45),
            ink=mixed(black, main, rng.uniform(0.06, 0.26)),
        )

    def visible(self, colour: Colour, *, otherwise: Colour) -> Colour:
        """`colour`, or `otherwise` where `colour` would vanish on the main colour."""
        apart = sum(abs(a - b) for a, b in zip(self.main, colour, strict=True))
        return colour if apart > _VISIBLY_APART else otherwise


def lit(pixels: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Light the flat drawing `pixels` [H W 4] from above; returns a new array of that shape.

    The drawing is shaded as if it bulged towards the viewer, darker away from the light, with a
    soft highlight on the lit side.  Alpha is unchanged.
    """
    height, width = pixels.shape[:2]
    direction = np.radians(rng.uniform(-150.0, -30.0))
    toward_x, toward_y = np.float32(np.cos(direction)), np.float32(np.sin(direction))
    strength, slope, gloss = rng.uniform(0.7, 1.0), rng.uniform(0.05, 0.11), rng.uniform(0.15, 0.3)
    size = max(height, width)
    tilt_x, tilt_y = _surface_tilt(pixels[:, :, 3])
    tilt = np.float32(0.25 * strength) * (tilt_x * toward_x + tilt_y * toward_y)
    x = (np.arange(width, dtype=np.float32) * 2 - width) / size
    y = (np.arange(height, dtype=np.float32)[:, None] * 2 - height) / size
    shade = 1.0 + tilt + slope * (x * toward_x + y * toward_y)
    reach = (x - 0.42 * toward_x) ** 2 + (y - 0.42 * toward_y) ** 2
    glow = gloss * np.exp(reach * -9.0)
    colour = pixels[:, :, :3].astype(np.float32) * shade[:, :, None]
    # Dark parts and edge lines are matt: a highlight on them would look like mist.
    brightness = colour[:, :, 0] + colour[:, :, 1] + colour[:, :, 2]
    colour += (255.0 - colour) * (glow * (brightness > _MATT_BELOW))[:, :, None]
    result: UInt8Array = pixels.copy()
    result[:, :, :3] = np.clip(colour + 0.5, 0.0, 255.0)
    return result


def _surface_tilt(alpha: UInt8Array) -> tuple[Float32Array, Float32Array]:
    """How far the bulging surface leans right and down at each pixel, about -1..1, each [H W].

    The blurred silhouette falls off towards its border, so its slope leans as a bulging skin does.
    """
    height, width = alpha.shape
    border = max(height, width) / 14
    margin = int(2 * border) + 2
    silhouette = Image.new("L", (width + 2 * margin, height + 2 * margin))
    silhouette.paste(Image.fromarray(alpha), (margin, margin))
    blurred = silhouette.filter(ImageFilter.GaussianBlur(border))
    bulge = np.asarray(blurred, dtype=np.float32) * np.float32(border / 255.0)
    inner = bulge[margin - 1 : margin + height + 1, margin - 1 : margin + width + 1]
    return inner[1:-1, :-2] - inner[1:-1, 2:], inner[:-2, 1:-1] - inner[2:, 1:-1]

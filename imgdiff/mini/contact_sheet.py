"""All object categories on one labelled sheet.

Run as `python -m imgdiff.mini.contact_sheet OUT.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from imgdiff.mini.shapes import CATEGORIES, COLOURS, draw_object

_COLUMNS = 6
_CELL_WIDTH_PX = 188
_CELL_HEIGHT_PX = 100
_MARGIN_PX = 14
_LARGE_PX = 64
_SMALL_PX = 28
_LABEL_PX = 13
_GROUND = (248, 247, 243)
_CARD = (255, 255, 255)
_CARD_EDGE = (222, 220, 212)
_TEXT = (60, 60, 64)


def _paste_centred(
    sheet: Image.Image, category: str, colour: str, size_px: int, centre: tuple[int, int], seed: int
) -> None:
    sprite = draw_object(category, colour, size_px, np.random.default_rng(seed))
    image = Image.fromarray(sprite.rgba)
    corner = (centre[0] - image.width // 2, centre[1] - image.height // 2)
    sheet.paste(image, corner, image)


def contact_sheet(seed: int = 0) -> Image.Image:
    """An RGB image with one card for each category.

    Each card shows the object in two colours at 64 px and in a third one at 28 px.  Colours and
    drawings depend only on `seed`.
    """
    rows = -(-len(CATEGORIES) // _COLUMNS)
    size = (
        _COLUMNS * _CELL_WIDTH_PX + 2 * _MARGIN_PX,
        rows * _CELL_HEIGHT_PX + 2 * _MARGIN_PX,
    )
    sheet = Image.new("RGB", size, _GROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=_LABEL_PX)
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    for index, category in enumerate(CATEGORIES):
        left = _MARGIN_PX + index % _COLUMNS * _CELL_WIDTH_PX
        top = _MARGIN_PX + index // _COLUMNS * _CELL_HEIGHT_PX
        card = (left + 3, top + 3, left + _CELL_WIDTH_PX - 4, top + _CELL_HEIGHT_PX - 4)
        draw.rounded_rectangle(card, radius=8, fill=_CARD, outline=_CARD_EDGE)
        draw.text((left + 11, top + 7), category, fill=_TEXT, font=font)
        colours = rng.choice(len(names), size=3, replace=False)
        places = ((44, 59, _LARGE_PX), (113, 59, _LARGE_PX), (164, 59, _SMALL_PX))
        for (x, y, size_px), which in zip(places, colours, strict=True):
            drawing_seed = int(rng.integers(2**31))
            centre = (left + x, top + y)
            _paste_centred(sheet, category, names[which], size_px, centre, drawing_seed)
    return sheet


def main() -> None:
    """Write the sheet to the PNG file named on the command line."""
    parser = argparse.ArgumentParser(description="Draw all object categories on one sheet.")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="choice of colours and drawings")
    arguments = parser.parse_args()
    contact_sheet(arguments.seed).save(arguments.output)


if __name__ == "__main__":
    main()

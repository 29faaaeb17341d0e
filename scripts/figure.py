"""The picture of the README: pairs of a data set with their sentences.

python scripts/figure.py outputs/demo/synth docs/pair.png --rows 0 3
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from imgdiff.core.images import open_rgb, save_image

WIDTH_PX, MARGIN_PX, TEXT_PX = 828, 16, 21


def main() -> None:
    """Draw the chosen rows below one another."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="an output folder of imgdiff.synth")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    rows = json.loads((args.run / "dataset" / "img_diff.json").read_text(encoding="utf-8"))
    panels = [panel(args.run / "dataset", rows[number]) for number in args.rows]
    height = sum(image.height for image in panels)
    canvas = Image.new("RGB", (WIDTH_PX + 2 * MARGIN_PX, height + MARGIN_PX), "white")
    top = MARGIN_PX
    for image in panels:
        canvas.paste(image, (MARGIN_PX, top))
        top += image.height
    save_image(canvas, args.picture)


def panel(dataset: Path, row: dict[str, object]) -> Image.Image:
    """One pair image with its sentence below."""
    image = open_rgb(dataset / str(row["image"]))
    height = round(image.height * WIDTH_PX / image.width)
    image = image.resize((WIDTH_PX, height), Image.Resampling.LANCZOS)
    turns = row["conversations"]
    assert isinstance(turns, list)
    lines = textwrap.wrap(turns[1]["value"], 78)
    canvas = Image.new("RGB", (WIDTH_PX, height + (len(lines) + 1) * (TEXT_PX + 8)), "white")
    canvas.paste(image, (0, 0))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=TEXT_PX)
    for number, line in enumerate(lines):
        pen.text((0, height + 8 + number * (TEXT_PX + 8)), line, fill="black", font=font)
    return canvas


if __name__ == "__main__":
    main()

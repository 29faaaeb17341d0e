"""What opening the next chunk of images while a model works on the last one saves.

    python benchmarks/ahead.py                        # 1024-px PNG and JPEG, about two minutes
    python benchmarks/ahead.py --chunks 4 --seconds 0.5 1

The model is a stand-in that sleeps like a process which waits for a GPU: so many seconds a chunk.
Printed for each format and each of its times: seconds a chunk without and with looking ahead, their
ratio, and the floor that the slower of the two sets, max(model, opening). Images are noise of 8
pixels a grain, made on the spot; both ways open the same files and must see the same bytes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from imgdiff.core.ahead import ahead
from imgdiff.core.console import show_table
from imgdiff.core.files import write_json
from imgdiff.core.identity import image_id
from imgdiff.core.images import open_rgb, save_image

SIDE_PX, GRAIN_PX, CROP_PX = 1024, 8, 224
Chunk = Sequence[Path]
Opened = Sequence[Image.Image]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Seconds a chunk."""

    format: str
    model: float
    opening: float
    in_turn: float
    ahead: float

    @property
    def floor(self) -> float:
        """No order of the two takes less."""
        return max(self.model, self.opening)


def main() -> None:
    """Measure all, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--images", type=int, default=32, help="in a chunk")
    parser.add_argument(
        "--seconds", type=float, nargs="*", default=[0.25, 0.5, 1.0, 2.0],
        help="of the model for a chunk",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    args = parser.parse_args()
    outcomes = []
    for suffix in ("png", "jpg"):
        with tempfile.TemporaryDirectory() as folder:
            chunks = drawn(Path(folder), suffix, args.chunks, args.images)
            outcomes += [measured(suffix, chunks, seconds) for seconds in args.seconds]
    rows = [
        (
            one.format,
            *(f"{value:.2f}" for value in (one.model, one.opening, one.in_turn, one.ahead)),
            f"{one.floor:.2f}", f"{one.in_turn / one.ahead:.2f}", f"{one.ahead / one.floor:.2f}",
        )
        for one in outcomes
    ]  # fmt: skip
    header = ("images", "model", "opening", "in turn", "ahead", "floor", "x", "ahead / floor")
    show_table(f"Seconds a chunk of {args.images} images of {SIDE_PX} px", header, rows)
    if args.out is not None:
        write_json(args.out, [asdict(one) | {"floor": one.floor} for one in outcomes])


def drawn(folder: Path, suffix: str, chunks: int, images: int) -> list[Chunk]:
    """Files of noise, so many in each chunk."""
    dice = np.random.default_rng(0)
    paths = [folder / f"{number}.{suffix}" for number in range(chunks * images)]
    for path in paths:
        side = SIDE_PX // GRAIN_PX
        grains = dice.integers(0, 256, (side, side, 3), dtype=np.uint8)
        whole = Image.fromarray(grains).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        save_image(whole, path)
    return [paths[start : start + images] for start in range(0, len(paths), images)]


def opened(chunk: Chunk) -> Opened:
    """A crop of each image of the chunk, as a stage opens it for a model."""
    return [open_rgb(path).crop((0, 0, CROP_PX, CROP_PX)) for path in chunk]


def measured(suffix: str, chunks: Sequence[Chunk], seconds: float) -> Outcome:
    """Both ways with a model of so many seconds a chunk. SystemExit where what it sees differs."""
    opening, first = timed(lambda: (opened(chunk) for chunk in chunks), 0.0)
    in_turn, second = timed(lambda: (opened(chunk) for chunk in chunks), seconds)
    looking_ahead, third = timed(lambda: ahead(chunks, opened), seconds)
    if not first == second == third:
        raise SystemExit("the model saw other images")
    count = len(chunks)
    return Outcome(
        format=suffix,
        model=seconds,
        opening=round(opening / count, 3),
        in_turn=round(in_turn / count, 3),
        ahead=round(looking_ahead / count, 3),
    )


def timed(
    chunks_of_images: Callable[[], Iterable[Opened]], seconds: float
) -> tuple[float, list[str]]:
    """Wall seconds of a model's way through all chunks, and the last image of each."""
    clock = time.monotonic()
    seen = []
    for images in chunks_of_images():
        time.sleep(seconds)
        seen.append(images[-1])
    return time.monotonic() - clock, [image_id(image) for image in seen]


if __name__ == "__main__":
    main()

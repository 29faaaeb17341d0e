"""Speed and memory of composite pairs on a COCO-format folder.

`python benchmarks/composite.py --root DIR [--pairs 300]`: one core. The peer does the same job with
`cv2.seamlessClone` (hole filled by TELEA, same target, donor, scale and place), photos in memory.
Seconds are CPU seconds of this process: other load on the machine does not count.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads its libraries
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np

from imgdiff.backends import coco, inpaint_cv
from imgdiff.backends.composite import CompositeConfig, CompositeGenerator
from imgdiff.backends.protocols import DrawnPair
from imgdiff.core.identity import seed_for
from imgdiff.core.records import Caption, CaptionPair

CHECKPOINTS = (100, 300)


def pairs_of(root: str) -> list[CaptionPair]:
    """One pair per annotated object, in file order."""
    captions = (item for item in coco.photo_objects(root) if isinstance(item, Caption))
    return [
        CaptionPair(id=c.id, left=c.text, right="", seed=seed_for(0, c.id), photo=c.photo)
        for c in captions
    ]


@contextmanager
def timed(spent: dict[str, float], places: dict[str, tuple[Any, str]]) -> Iterator[None]:
    """Add up the CPU seconds spent in some functions while the block runs."""
    originals = {label: getattr(*place) for label, place in places.items()}

    def wrapper(label: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return originals[label](*args, **kwargs)
            finally:
                spent[label] += time.process_time() - start

        return run

    for label, (owner, attribute) in places.items():
        setattr(owner, attribute, wrapper(label))
    try:
        yield
    finally:
        for label, (owner, attribute) in places.items():
            setattr(owner, attribute, originals[label])


def peak_mib() -> float:
    """Peak resident memory of this process (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def measure(generator: CompositeGenerator, pairs: list[CaptionPair], wanted: int) -> None:
    """Draw until `wanted` pairs are accepted; print speed, shares, refusals and memory."""
    spent: dict[str, float] = defaultdict(float)
    reasons: Counter[str] = Counter()
    memory: dict[int, float] = {}
    places = {
        "decode": (coco, "open_photo"),
        "inpaint": (inpaint_cv, "fill_hole"),
        "cut and blend": (inpaint_cv, "pasted"),  # holds inpaint, which is taken off below
        "look at masks": (inpaint_cv, "look"),
    }
    with timed(spent, places):
        start = time.process_time()
        for pair in pairs:
            result = generator.generate([pair])[0]
            reasons["accepted" if isinstance(result, DrawnPair) else result.reason] += 1
            if reasons["accepted"] in CHECKPOINTS:
                memory.setdefault(reasons["accepted"], peak_mib())
            if reasons["accepted"] >= wanted:
                break
        total = time.process_time() - start
    spent["cut and blend"] -= spent["inpaint"]
    print(f"ours      {reasons['accepted'] / total:8.1f} pairs/s   ({total:.1f} s)")
    for label, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {label:14s} {100 * seconds / total:5.1f} %")
    print("memory    " + ", ".join(f"{n} pairs {mib:.0f} MiB" for n, mib in memory.items()))
    print("refused   " + ", ".join(f"{n} {why}" for why, n in reasons.most_common()))


def compare(generator: CompositeGenerator, pairs: list[CaptionPair], wanted: int) -> None:
    """Time our paste and the peer's on the same crops, holes and cutouts; print the ratio."""
    crops: list[tuple[Any, ...]] = []
    ours = inpaint_cv.pasted

    def keep(*args: Any) -> Any:
        crops.append(args)
        return ours(*args)

    setattr(inpaint_cv, "pasted", keep)  # noqa: B010 - a name mypy would not let be replaced
    try:
        for pair in pairs:
            generator.generate([pair])
            if len(crops) >= wanted:
                break
    finally:
        setattr(inpaint_cv, "pasted", ours)  # noqa: B010
    seconds = {}
    for label, paste in (("ours", ours), ("seamlessClone", seamless)):
        start = time.process_time()
        for crop in crops:
            paste(*crop)
        seconds[label] = (time.process_time() - start) / len(crops)
    print(f"paste     ours {1000 * seconds['ours']:.1f} ms, ", end="")
    print(f"seamlessClone {1000 * seconds['seamlessClone']:.1f} ms, ", end="")
    print(f"ratio {seconds['ours'] / seconds['seamlessClone']:.2f} on {len(crops)} crops")


def seamless(
    photo: np.ndarray, hole: np.ndarray, cutout: inpaint_cv.Cutout, left: int, top: int
) -> np.ndarray:
    """The peer: TELEA for the hole, Poisson blending for the object."""
    filled = cv2.inpaint(photo, hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    low, near = max(top, 0), max(left, 0)
    end = min(top + cutout.matte.shape[0], photo.shape[0])
    far = min(left + cutout.matte.shape[1], photo.shape[1])
    part = (slice(low - top, end - top), slice(near - left, far - left))
    matte = np.where(cutout.matte[part] > inpaint_cv.HALF, 255, 0).astype(np.uint8)
    patch = np.clip(cutout.colours[part], 0, 255).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(matte)
    centre = (near + x + width // 2, low + y + height // 2)
    try:
        return np.asarray(cv2.seamlessClone(patch, filled, matte, centre, cv2.NORMAL_CLONE))
    except cv2.error:  # it refuses a mask that reaches the border of the picture
        return np.asarray(filled)


def main() -> None:
    """Parse, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", required=True, help="folder in COCO layout")
    parser.add_argument("--pairs", type=int, default=300, help="accepted pairs to stop at")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    pairs = pairs_of(chosen.root)
    with CompositeConfig(root=chosen.root).build() as generator:
        measure(generator, pairs, chosen.pairs)
        compare(generator, pairs, min(chosen.pairs, 60))


if __name__ == "__main__":
    main()

"""How well a mini SDXL's image pairs follow their captions, and how still the rest of them is.

python benchmarks/p2p_quality.py [--model outputs/mini_sdxl/sdxl] [--pairs 100]

Captions are of the validation world, which shows things together that no training scene does. The
mini CLIP names what each quarter of an image holds. `still` is the mean difference, in grey levels,
of the quarters that hold neither the old object nor the new one: within a pair, between the same
prompts from the same noise without Prompt-to-Prompt, and between two samples of one caption.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from imgdiff.backends.configs import ClipConfig
from imgdiff.backends.protocols import DrawnPair, Embedder, Refusal
from imgdiff.backends.sdxl_p2p_config import SdxlP2pConfig
from imgdiff.backends.world import Split, Vocabulary, world_captions
from imgdiff.backends.world_editor import WorldEditorConfig
from imgdiff.core.console import meter, show_table
from imgdiff.core.files import write_json
from imgdiff.core.identity import seed_for
from imgdiff.core.images import save_image
from imgdiff.core.records import CaptionPair
from imgdiff.mini.build.sdxl_exam import EMPTY_SPREAD, cells_of, sheet, spread
from imgdiff.mini.language import parse_caption
from imgdiff.mini.shapes import CATEGORIES

AT_ONCE = 16
ON_SHEET = 64  # images


@dataclass(frozen=True)
class Edited:
    """A caption pair with the object that one caption has and the other has not."""

    pair: CaptionPair
    old: str
    new: str


def main() -> None:
    """Draw, look, print the table, write the figures and a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="mini:sdxl")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("outputs/p2p_quality"))
    args = parser.parse_args()
    edits = caption_pairs(args.pairs)
    pairs = [edit.pair for edit in edits]
    config = SdxlP2pConfig(model=args.model, steps=args.steps)
    apart = replace(config, cross_replace=0.0, self_replace=0.0)
    drawn = drawings(config, pairs, "pairs")
    same_noise = drawings(apart, pairs, "same noise")
    reseeded = [replace(pair, seed=seed_for(1, pair.id, "again")) for pair in pairs]
    again = drawings(apart, reseeded, "other noise")
    with ClipConfig().build() as embedder:
        held = [(named(embedder, one.left), named(embedder, one.right)) for one in drawn]
    still = [
        [edit.old != a and edit.new != b for a, b in zip(left, right, strict=True)]
        for edit, (left, right) in zip(edits, held, strict=True)
    ]
    figures = {
        "pairs": float(len(pairs)),
        **recognised(edits, held),
        "still_pair": difference([(d.left, d.right) for d in drawn], still),
        "still_same_noise": difference([(d.left, d.right) for d in same_noise], still),
        "still_two_samples": difference(
            [(d.left, other.left) for d, other in zip(drawn, again, strict=True)], still
        ),
    }
    rows = [(key, f"{value:.3f}") for key, value in figures.items()]
    show_table(f"Pairs of {args.model}, {args.steps} steps", ("figure", "value"), rows)
    write_json(args.out / "figures.json", figures)
    texts = [text for pair in pairs for text in (pair.left, pair.right)]
    images = [image for one in drawn for image in (one.left, one.right)]
    save_image(sheet(texts[:ON_SHEET], images[:ON_SHEET]), args.out / "pairs.png")


def caption_pairs(count: int) -> list[Edited]:
    """Captions of the validation world with one object replaced."""
    split, vocabulary = Split.validation, Vocabulary.mini_sdxl
    captions = list(world_captions(split.value, 2 * count, 0, vocabulary))
    editor = WorldEditorConfig(split=split, vocabulary=vocabulary).build()
    seeds = [seed_for(0, caption.id, "edit") for caption in captions]
    edits = editor.edit([caption.text for caption in captions], seeds)
    made = []
    for caption, edit in zip(captions, edits, strict=True):
        if not edit.text:
            continue
        left, right = (
            {phrase.category for phrase in parse_caption(text).objects}
            for text in (caption.text, edit.text)
        )
        (old,), (new,) = left - right, right - left
        seed = seed_for(0, caption.id, "generate")
        pair = CaptionPair(id=caption.id, left=caption.text, right=edit.text, seed=seed)
        made.append(Edited(pair, old, new))
    return made[:count]


def drawings(config: SdxlP2pConfig, pairs: Sequence[CaptionPair], label: str) -> list[DrawnPair]:
    """All pairs; a refused one is an error here."""
    made: list[DrawnPair] = []
    with config.build() as generator, meter(len(pairs), label) as bar:
        for start in range(0, len(pairs), AT_ONCE):
            for one in generator.generate(pairs[start : start + AT_ONCE]):
                if isinstance(one, Refusal):
                    raise RuntimeError(f"refused: {one}")
                made.append(one)
                bar.advance()
    return made


def named(embedder: Embedder, image: Image.Image) -> list[str]:
    """What each quarter holds: the category that the mini CLIP names, or "" for ground."""
    cells = cells_of(image)
    names = list(CATEGORIES)
    best = (embedder.embed_images(cells) @ embedder.embed_texts(names).T).argmax(axis=1)
    return [
        names[k] if spread(cell) > EMPTY_SPREAD else "" for cell, k in zip(cells, best, strict=True)
    ]


def recognised(
    edits: Sequence[Edited], held: Sequence[tuple[list[str], list[str]]]
) -> dict[str, float]:
    """Shares of the pairs: what is seen of the replaced object, and of all that captions name."""
    both = list(zip(edits, held, strict=True))
    named_objects = [
        phrase.category in cells
        for edit, sides in both
        for text, cells in zip((edit.pair.left, edit.pair.right), sides, strict=True)
        for phrase in parse_caption(text).objects
    ]
    return {
        "all_objects": float(np.mean(named_objects)),
        "old_on_left": float(np.mean([edit.old in left for edit, (left, _) in both])),
        "new_on_right": float(np.mean([edit.new in right for edit, (_, right) in both])),
        "old_gone_on_right": float(np.mean([edit.old not in right for edit, (_, right) in both])),
    }


def difference(
    images: Sequence[tuple[Image.Image, Image.Image]], cells: Sequence[Sequence[bool]]
) -> float:
    """Mean absolute difference in grey levels over the chosen quarters of all pairs."""
    found = []
    for (left, right), chosen in zip(images, cells, strict=True):
        for a, b, taken in zip(cells_of(left), cells_of(right), chosen, strict=True):
            if taken:
                found.append(np.abs(np.asarray(a, dtype=np.float32) - np.asarray(b)).mean())
    return float(np.mean(found))


if __name__ == "__main__":
    main()

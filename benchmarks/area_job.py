"""What both sides of `area.py` are given: image pairs with nouns, checkpoints, thresholds."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgdiff.backends.checkpoints import find
from imgdiff.backends.protocols import DrawnPair
from imgdiff.backends.world import RenderConfig, Split, world_captions
from imgdiff.backends.world_editor import WorldEditorConfig
from imgdiff.core.files import write_json
from imgdiff.core.identity import seed_for
from imgdiff.core.images import save_image
from imgdiff.core.records import CaptionPair, NamedBox, Side
from imgdiff.synth.nouns import changed_nouns

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
# The recipe's settings at the size of the world's images, and the snap that ultralytics fixes.
SEGMENTER = {"image_size": 128, "confidence": 0.05, "box_iou": 0.5, "border_snap_px": 20}
# Closed intervals, as the operator has them. `open` sends every box through every model.
Intervals = dict[str, list[float]]
# Of given boxes: logarithm of half a side (share of the image) and its spread, how far from an
# object's corners (share of its side), and the smallest side in pixels.
MEDIAN_HALF, SPREAD, NEAR, SMALLEST_PX = math.log(0.053), 0.8, 0.08, 2
OPEN: Intervals = {
    "image_similarity": [-2.0, 2.0],
    "crop_similarity": [-2.0, 2.0],
    "match": [-1.0, 2.0],
}
RECIPE_MATCH = 0.4
MINI: Intervals = {  # similarities of profile=mini, whose CLIP this is; the match of the recipe
    "image_similarity": [0.012, 0.97], "crop_similarity": [-2.0, 0.943],
    "match": [RECIPE_MATCH, 2.0],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Size:
    """One set of checkpoints, the batches of imgdiff that suit it, and how much of it to run."""

    name: str
    clip: str
    blip: str
    rules: Intervals | None  # None: drawn from the scores, which mean nothing
    batch_size: int
    pairs: int
    boxes: int  # of a pair, where they are given
    layers: int | None = None  # of random weights: so many thin ones, to see what is no model


SIZES = {
    "mini": Size(
        name="mini CLIP and BLIP", clip="mini:clip", blip="mini:blip", rules=MINI, batch_size=16,
        pairs=12, boxes=60,
    ),
    "base": Size(
        name="CLIP B/32 and BLIP base, random weights",
        clip="random:openai/clip-vit-base-patch32", blip="random:Salesforce/blip-itm-base-coco",
        rules=None, batch_size=4, pairs=4, boxes=20,
    ),
    "thin": Size(
        name="two thin layers that see as many pixels as CLIP B/32 and BLIP base, random weights",
        clip="random:openai/clip-vit-base-patch32", blip="random:Salesforce/blip-itm-base-coco",
        rules=None, batch_size=16, pairs=12, boxes=60, layers=2,
    ),
}  # fmt: skip
THIN = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "encoder_hidden_size": 64
}  # fmt: skip


def write_job(folder: Path, size: Size) -> dict[str, Any]:
    """Pairs and checkpoints in `folder`; the job is returned and written as job.json."""
    job = {
        "root": str(folder),
        "pairs": write_pairs(folder, size.pairs, size.boxes),
        "models": {
            "clip": str(write_checkpoint(size.clip, folder / "clip", size.layers)),
            "blip": str(write_checkpoint(size.blip, folder / "blip", size.layers)),
            "fastsam": str(next(whole("mini:fastsam").glob("*.pt"))),
        },
        "segmenter": SEGMENTER,
        "batch_size": size.batch_size,
    }
    write_json(folder / "job.json", job)
    return job


def write_pairs(folder: Path, count: int, boxes: int) -> list[dict[str, Any]]:
    """`count` pairs of the test world whose captions differ by a noun on either side.

    Only such pairs can pass: the operator asks for a match on both sides. Each comes with `boxes`
    boxes to give, half of them on either side.
    """
    found: list[dict[str, Any]] = []
    editor = WorldEditorConfig(split=Split.test).build()
    renderer = RenderConfig(split=Split.test).build()
    for caption in world_captions(Split.test.value, 20 * count, 0):
        (edit,) = editor.edit([caption.text], [seed_for(0, caption.id, "edit")])
        nouns = changed_nouns(caption.text, edit.text)
        if edit.refusal or not (nouns.left and nouns.right):
            continue
        seed = seed_for(0, caption.id, "generate")
        pair = CaptionPair(id=caption.id, left=caption.text, right=edit.text, seed=seed)
        (drawn,) = renderer.generate([pair])
        if not isinstance(drawn, DrawnPair):
            continue
        # The operator finds the other side's crop by replacing one name in a path by the other.
        paths = [folder / "images" / f"{pair.id}-{side}.png" for side in ("source", "edited")]
        for image, path in zip((drawn.left, drawn.right), paths, strict=True):
            save_image(image, path)
        captions = [drawn.left_caption, drawn.right_caption]
        nouns = changed_nouns(captions[0], captions[1])
        found.append(
            {
                "id": pair.id, "images": list(map(str, paths)), "captions": captions,
                "nouns": [list(nouns.left), list(nouns.right)],
                "size": [drawn.left.width, drawn.left.height],
                "boxes": _boxes_of(drawn, boxes // 2, pair.id),
            }
        )  # fmt: skip
        if len(found) == count:
            return found
    raise SystemExit(f"the world has only {len(found)} such pairs among its first {20 * count}")


def _boxes_of(drawn: DrawnPair, count: int, pair_id: str) -> list[list[list[float]]]:
    """`given_boxes` of either image."""
    assert drawn.truth is not None
    objects = (drawn.truth.left_objects, drawn.truth.right_objects)
    return [
        given_boxes(drawn.left.size, objects[side], count, seed_for(0, pair_id, side.name))
        for side in Side
    ]


def given_boxes(
    size: tuple[int, int], objects: Sequence[NamedBox], count: int, seed: int
) -> list[list[float]]:
    """Boxes (xyxy) as a segmenter of everything finds them: some objects, and many small parts.

    Whole pixels, two at least, so that both sides cut the same crops.
    """
    dice = np.random.default_rng(seed)
    frame = np.array([*size, *size])
    found: list[list[float]] = []
    while len(found) < count:
        if len(found) % 3 == 0:
            near = np.array(objects[int(dice.integers(len(objects)))].box.as_tuple())
            corners = near + dice.normal(0, NEAR, 4) * np.tile(near[2:] - near[:2], 2)
        else:
            centre = dice.uniform(0, frame[:2])
            half = frame[:2] * dice.lognormal(MEDIAN_HALF, SPREAD, 2)
            corners = np.concatenate([centre - half, centre + half])
        corners = np.clip(corners.round(), 0, frame)
        if (corners[2:] - corners[:2]).min() >= SMALLEST_PX:
            found.append(corners.tolist())
    return found


def whole(model: str) -> Path:
    """The folder of a checkpoint of the package."""
    path = find(model)
    assert path is not None, model
    return path


def write_checkpoint(model: str, folder: Path, layers: int | None = None) -> Path:
    """A folder from which both sides load the same weights.

    A trained checkpoint is copied, since its own folder may lie where the peer cannot look; random
    weights are drawn once and saved, with the tokenizer that stands in for the published one.
    `layers` makes them so many thin layers behind the same pixels.
    """
    from imgdiff.backends.checkpoints import is_random
    from imgdiff.backends.random_checkpoints import tokenizer_folder

    source = whole(model)
    if not is_random(source):
        shutil.copytree(source, folder)
        return folder
    _drawn(source, layers).save_pretrained(folder)
    shutil.copy(source / "preprocessor_config.json", folder)
    for name in TOKENIZER:
        shutil.copy(tokenizer_folder(source) / name, folder)
    return folder


def _drawn(source: Path, layers: int | None) -> Any:
    """The model of a published configuration, or of a thin one, with random weights."""
    import torch
    from transformers import BlipForImageTextRetrieval, CLIPModel

    from imgdiff.backends.random_checkpoints import open_model

    kind = CLIPModel if "clip" in source.name else BlipForImageTextRetrieval
    if layers is None:
        return open_model(kind, source, torch.float32)
    config = kind.config_class.from_pretrained(source)
    for part in (config.text_config, config.vision_config):
        for key, value in ({"num_hidden_layers": layers} | THIN).items():
            if hasattr(part, key):
                setattr(part, key, value)
    torch.manual_seed(0)
    return kind._from_config(config, dtype=torch.float32).eval()

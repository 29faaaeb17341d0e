"""The mini FastSAM: a one-class YOLOv8-seg trained to find every object of the world.

ultralytics, whose model, loss and checkpoint format are used here, is licensed AGPL-3.0; so are,
in its makers' view, the models trained with it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.configs import FastSamConfig
from imgdiff.backends.fastsam import load_ultralytics, undisturbed
from imgdiff.core.files import atomic_path, read_json, write_json, write_text
from imgdiff.core.geometry import Box
from imgdiff.mini.build.bank import CHUNK, SceneBank
from imgdiff.mini.build.drawn import Scenes, sampled
from imgdiff.mini.build.loop import LoopConfig, autocast, device, train
from imgdiff.mini.scene import SCENE_PX, Split

FILE = "FastSAM-mini.pt"
SEED = 0
WIDTH, DEPTH, MAX_CHANNELS = 0.1875, 0.33, 512  # YOLOv8n-seg: 0.25, 0.33, 1024
MASK_CHANNELS, PROTO_CHANNELS = 16, 128  # YOLOv8n-seg: 32, 256
MASK_STRIDE = 4  # of the prototype masks that the loss compares
MOSAIC_SHARE = 0.5  # of training images that are windows of four scenes side by side
MIRROR_SHARE = 0.5
WINDOW_PX = (80, 208)  # sides of such windows: objects appear at 0.62 to 1.6 of their size
LEAST_VISIBLE = 0.3  # a cut object with less of its mask in the window is no object
GAIN, SHIFT = 0.2, 20.0  # colour jitter: +-20 % contrast, +-20 grey levels per channel
WORN_SHARE = 0.3  # of training images that are blurred and grainy, by up to
WORN_MAX_BLUR_PX, WORN_MAX_GRAIN = 2.0, 12.0  # standard deviations
WORN_BLUR_PX, WORN_GRAIN = 1.5, 8.0  # as measured
CONFIDENCES = (0.05, 0.1, 0.25, 0.4, 0.6)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much to train and to measure."""

    steps: int
    batch: int
    scenes: int
    held_out: int

    def scenes_in(self, work: Path) -> Scenes:
        """The training scenes; a bank is drawn by the thousand, so a few come from memory."""
        if self.scenes < CHUNK:
            return sampled(Split.train, self.scenes)
        return SceneBank(work / "bank", Split.train, self.scenes)


FULL = Recipe(steps=2_400, batch=16, scenes=8_000, held_out=500)
QUICK = Recipe(steps=8, batch=4, scenes=16, held_out=8)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training image: pixels, and which object (1..K, all present) covers each of them."""

    pixels: UInt8[np.ndarray, "H W 3"]
    labels: UInt8[np.ndarray, "H W"]


def build(work: Path, *, quick: bool = False) -> dict[str, float]:
    """Train, save and measure; the held-out figures, also in `metrics.json` beside the weights.

    Writes the checkpoint that ships with the package; `quick` tries the recipe in seconds and
    writes to `work/fastsam`. An interrupted run goes on from its last state in `work`.
    """
    recipe = QUICK if quick else FULL
    target = work / "fastsam" if quick else mini_root() / "fastsam"
    model = new_model()
    minutes = _train(model, work, recipe)
    metrics = {
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "steps": float(recipe.steps),
        "cpu_minutes": round(minutes, 1),
    }
    save(model, target / FILE)
    metrics |= measure(str(target), sampled(Split.validation, recipe.held_out))
    write_json(target / "metrics.json", metrics)
    write_text(target / "README.md", card(metrics, recipe))
    return metrics


def _train(model: Any, work: Path, recipe: Recipe) -> float:
    """Train to the end; the processor minutes of the process that got there."""
    clock = time.process_time()
    scenes = recipe.scenes_in(work)
    state = work / f"fastsam-{recipe.steps}.pt"
    train(
        model,
        lambda step: losses(model, draw_batch(scenes, step, recipe.batch)),
        LoopConfig(steps=recipe.steps, learning_rate=2e-3, clip_norm=10.0),
        state,
    )
    record = state.with_suffix(".minutes.json")
    if not record.exists():
        write_json(record, (time.process_time() - clock) / 60)
    return float(read_json(record))


def new_model() -> Any:
    """An untrained one-class YOLOv8-seg of the mini size, ready for its loss."""
    load_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    layout = yaml_model_load("yolov8-seg.yaml")
    layout = {key: layout[key] for key in ("backbone", "head")}
    layout["head"][-1][-1] = ["nc", MASK_CHANNELS, PROTO_CHANNELS]
    layout.update(nc=1, scale="mini", scales={"mini": [DEPTH, WIDTH, MAX_CHANNELS]})
    torch.manual_seed(SEED)
    with undisturbed():
        model = SegmentationModel(layout, ch=3, verbose=False)
        model.args = get_cfg()  # the loss weights
    model.names, model.task = {0: "object"}, "segment"
    return model.to(device(), memory_format=torch.channels_last)


def draw_batch(scenes: Scenes, step: int, count: int) -> dict[str, Tensor]:
    """The training batch of a step, in ultralytics' format; depends on the step alone."""
    rng = np.random.default_rng((SEED, step))
    return collate([example(scenes, rng) for _ in range(count)])


def example(scenes: Scenes, rng: np.random.Generator) -> Example:
    """A scene, or a zoomed window of four; perhaps mirrored, perhaps worn; colours jittered."""
    if rng.random() < MOSAIC_SHARE:
        pixels, labels = _window(scenes, rng)
    else:
        index = int(rng.integers(len(scenes)))
        pixels, labels = scenes.image(index), scenes.instance_map(index)
    if rng.random() < MIRROR_SHARE:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    gain = rng.uniform(1 - GAIN, 1 + GAIN)
    shift = rng.uniform(-SHIFT, SHIFT, size=3)
    jittered = (pixels - 128.0) * gain + 128.0 + shift
    if rng.random() < WORN_SHARE:
        blur, grain = rng.uniform(0.3, WORN_MAX_BLUR_PX), rng.uniform(0.0, WORN_MAX_GRAIN)
        jittered = worn(jittered, blur, grain, rng)
    return Example(pixels=np.asarray(np.clip(jittered, 0, 255), dtype=np.uint8), labels=labels)


def worn(
    pixels: Float[np.ndarray, "H W 3"], blur_px: float, grain: float, rng: np.random.Generator
) -> Float[np.ndarray, "H W 3"]:
    """Blurred and grainy (standard deviations in pixels and grey levels), as generated."""
    soft = cv2.GaussianBlur(pixels, (0, 0), blur_px)
    return np.asarray(soft + rng.normal(0.0, grain, size=soft.shape), dtype=np.float64)


def _window(
    scenes: Scenes, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """A square window of four scenes side by side, scaled to the size of a scene."""
    chosen = [int(k) for k in rng.integers(len(scenes), size=4)]
    pixels = _mosaic([scenes.image(k) for k in chosen])
    # Objects of scene j get numbers from 16 j + 1 on, so that no two share one.
    maps = [scenes.instance_map(k) for k in chosen]
    labels = _mosaic([np.where(m > 0, m + 16 * j, 0).astype(np.uint8) for j, m in enumerate(maps)])
    side = int(rng.integers(WINDOW_PX[0], WINDOW_PX[1] + 1))
    left, top = (int(v) for v in rng.integers(2 * SCENE_PX - side + 1, size=2))
    area = (left, top, left + side, top + side)
    size = (SCENE_PX, SCENE_PX)
    shrunk = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, box=area)
    nearest = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST, box=area)
    return np.asarray(shrunk), _renumber(np.asarray(nearest), labels, (side / SCENE_PX) ** 2)


def _mosaic(parts: Sequence[UInt8[np.ndarray, "H W *C"]]) -> UInt8[np.ndarray, "HH WW *C"]:
    upper = np.concatenate(parts[:2], axis=1)
    return np.concatenate([upper, np.concatenate(parts[2:], axis=1)], axis=0)


def _renumber(
    window: UInt8[np.ndarray, "H W"], whole: UInt8[np.ndarray, "HH WW"], area_ratio: float
) -> UInt8[np.ndarray, "H W"]:
    """Labels 1..K of the objects that are visible enough; `area_ratio`: whole per window pixel."""
    sizes = np.bincount(whole.ravel(), minlength=256)
    seen = np.bincount(window.ravel(), minlength=256) * area_ratio
    kept = [k for k in range(1, 256) if seen[k] > 0 and seen[k] >= LEAST_VISIBLE * sizes[k]]
    table = np.zeros(256, dtype=np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return table[window]


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Batch in ultralytics' format: boxes xywh as fractions, one index map per image as masks."""
    boxes = [boxes_of(item.labels) for item in examples]
    owners = np.concatenate([np.full(len(part), k) for k, part in enumerate(boxes)])
    xyxy = np.concatenate(boxes).astype(np.float32) / SCENE_PX
    centres, sizes = (xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]
    middle = MASK_STRIDE // 2
    pixels = torch.from_numpy(np.stack([item.pixels for item in examples]))
    masks = np.stack([item.labels[middle::MASK_STRIDE, middle::MASK_STRIDE] for item in examples])
    batch = {
        "img": pixels.permute(0, 3, 1, 2).float() / 255,  # channels last, as the model
        "batch_idx": torch.from_numpy(owners).float(),
        "cls": torch.zeros(len(owners), 1),
        "bboxes": torch.from_numpy(np.concatenate([centres, sizes], axis=1)),
        "masks": torch.from_numpy(masks).float(),
    }
    return {key: value.to(device()) for key, value in batch.items()}


def boxes_of(labels: UInt8[np.ndarray, "H W"]) -> Int[np.ndarray, "K 4"]:
    """Tight xyxy pixel boxes of the labels 1..K, all of which are present."""
    boxes = []
    for number in range(1, int(labels.max()) + 1):
        rows, columns = np.nonzero(labels == number)
        boxes.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return np.asarray(boxes, dtype=np.int64).reshape(-1, 4)


def losses(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """YOLOv8-seg's own losses per image, in float32 whatever the forward pass ran in."""
    with autocast():
        outputs = model(batch["img"])
    outputs = {
        key: [item.float() for item in value] if isinstance(value, list) else value.float()
        for key, value in outputs.items()
    }
    values, _ = model.loss(batch, outputs)
    box, mask, category, distribution = values[:4] / len(batch["img"])
    return {"box": box, "mask": mask, "object": category, "edge": distribution}


def save(model: Any, path: Path) -> None:
    """Write the checkpoint that `ultralytics.FastSAM` opens: half precision, nothing of the run."""
    import ultralytics

    model.criterion = None
    model.args = {}
    model = model.cpu().half().to(memory_format=torch.contiguous_format)
    model = model.eval().requires_grad_(requires_grad=False)
    content = {
        "model": model,
        "train_args": {},
        "version": ultralytics.__version__,
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }
    memory = io.BytesIO()  # a file would write its own name into the archive
    torch.save(content, memory)
    with atomic_path(path) as temporary:
        temporary.write_bytes(memory.getvalue())


def measure(model: str, held_out: Scenes) -> dict[str, float]:
    """Held-out figures at the default confidence, then the curves over `CONFIDENCES`.

    `worn_` figures are of the same scenes blurred and grainy, as a small generator draws them.
    """
    truth = [_truth(held_out.instance_map(k)) for k in range(len(held_out))]
    views = {
        "": [Image.fromarray(held_out.image(k)) for k in range(len(held_out))],
        "worn_": [_as_generated(held_out.image(k), k) for k in range(len(held_out))],
    }
    default = FastSamConfig().confidence
    metrics = {"scenes": float(len(truth)), "confidence": default}
    curve: dict[str, float] = {}
    for confidence in sorted({default, *CONFIDENCES}):
        with FastSamConfig(model=model, confidence=confidence).build() as segmenter:
            for view, images in views.items():
                for name, value in agreement(segmenter.segment(images), truth).items():
                    curve[f"{view}{name}_at_{confidence}"] = value
                    if confidence == default:
                        metrics[f"{view}{name}"] = value
    return metrics | curve


def _as_generated(pixels: UInt8[np.ndarray, "H W 3"], number: int) -> Image.Image:
    rng = np.random.default_rng((SEED, number))
    soft = worn(pixels.astype(np.float64), WORN_BLUR_PX, WORN_GRAIN, rng)
    return Image.fromarray(np.asarray(np.clip(soft, 0, 255), dtype=np.uint8))


def _truth(labels: UInt8[np.ndarray, "H W"]) -> list[Box]:
    return [
        Box(left=left, top=top, right=right, bottom=bottom)
        for left, top, right, bottom in boxes_of(labels).tolist()
    ]


def agreement(found: Sequence[Sequence[Box]], truth: Sequence[Sequence[Box]]) -> dict[str, float]:
    """Recall at IoU 0.5 and 0.75, precision at 0.5 and boxes per image over matched lists.

    In the detector's order a box takes the free object that it overlaps most, if enough.
    """
    boxes = sum(len(part) for part in found)
    objects = sum(len(part) for part in truth)
    hits = {
        level: sum(_hits(f, t, level) for f, t in zip(found, truth, strict=True))
        for level in (0.5, 0.75)
    }
    return {
        "recall_iou50": round(hits[0.5] / max(1, objects), 4),
        "recall_iou75": round(hits[0.75] / max(1, objects), 4),
        "precision_iou50": round(hits[0.5] / max(1, boxes), 4),
        "boxes_per_image": round(boxes / max(1, len(found)), 3),
    }


def _hits(found: Sequence[Box], truth: Sequence[Box], level: float) -> int:
    free = list(truth)
    for box in found:
        best = max(free, key=box.iou, default=None)
        if best is not None and box.iou(best) >= level:
            free.remove(best)
    return len(truth) - len(free)


def card(metrics: dict[str, float], recipe: Recipe) -> str:
    """The README of the checkpoint folder."""
    return _CARD.format(
        drawn=_table(metrics, ""),
        worn=_table(metrics, "worn_"),
        file=FILE,
        recipe=recipe,
        parameters=metrics["parameters"] / 1e6,
        minutes=metrics["cpu_minutes"],
        scenes=int(metrics["scenes"]),
        iou=FastSamConfig().box_iou,
        confidence=metrics["confidence"],
        blur=WORN_BLUR_PX,
        grain=WORN_GRAIN,
    )


def _table(metrics: dict[str, float], view: str) -> str:
    rows = [
        [f"{confidence:.2f}"]
        + [f"{metrics[f'{view}{name}_at_{confidence}']:.3f}" for name in _COLUMNS]
        for confidence in sorted({metrics["confidence"], *CONFIDENCES})
    ]
    head = ["confidence", "recall at IoU 0.5", "recall at IoU 0.75", "precision", "boxes per image"]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * 5, *rows])


_COLUMNS = ("recall_iou50", "recall_iou75", "precision_iou50", "boxes_per_image")
_CARD = """# FastSAM-mini

`{file}` opens with `ultralytics.FastSAM`. It finds objects of any kind on scenes of the
procedural world (128x128 px): YOLOv8-seg with one class, {parameters:.2f} M parameters, half
precision.

- **Data**: {recipe.scenes} scenes of the train world, drawn by `imgdiff.mini.scene`; windows of
  four scenes at 0.62 to 1.6 of their size, mirroring, colour jitter; 30 % blurred and grainy.
- **Training**: {recipe.steps} steps of {recipe.batch} images from random weights, AdamW with a
  cosine schedule, ultralytics' YOLOv8-seg loss; {minutes:.0f} minutes of one CPU core.
  `imgdiff/mini/build/fastsam.py` is the whole recipe.
- **Limits**: it knows drawn objects on textured grounds. Objects that touch or hide each other
  were not in its training. On photographs use FastSAM-x.

## Held-out figures

{scenes} scenes of the validation world; box suppression at IoU {iou}. The default confidence is
{confidence}.

As drawn:

{drawn}

Blurred (standard deviation {blur} px) and grainy ({grain} grey levels), as a small generator
might draw them:

{worn}

## Licence

Made with ultralytics, which is licensed AGPL-3.0; its makers hold that models trained with it are
under AGPL-3.0 too. This checkpoint is offered under AGPL-3.0.
"""

"""FastSAM (YOLOv8-seg, arXiv 2306.12156) as a `Masker`, through ultralytics.

ultralytics is licensed AGPL-3.0. This module and `imgdiff/mini/build/fastsam.py` are the only ones
that import it, inside functions, so that nothing else of imgdiff loads it.

The boxes are those of `ultralytics.FastSAM(...).predict(image)`, with three differences that make
them a function of the image and the settings alone: batches have one fixed shape, the time limit
of non-maximum suppression is off (it drops whole images on a slow machine), and the width of the
snap to the image border is a setting (ultralytics fixes 20 px, a sixth of a mini image).
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from imgdiff.backends.batching import batch_size, in_prepared_batches
from imgdiff.backends.configs import ChannelOrder, FastSamConfig
from imgdiff.backends.loading import device
from imgdiff.backends.random_checkpoints import opened
from imgdiff.core.errors import BackendError
from imgdiff.core.files import read_json
from imgdiff.core.geometry import Box, box_from
from imgdiff.core.images import to_rgb
from imgdiff.core.masks import AnyMask, Mask

MASKS_AT_ONCE = 32
MOST_IMAGES = 64  # a pass: what a stage opens at once
SAME_PX = 1e-3  # between a box as it was given and as it was stored
WHOLE_IMAGE_IOU = 0.9  # of FastSAM: a box this close to the image becomes the image
_OFFLINE = {
    "YOLO_OFFLINE": "1",  # no connection is tried
    "YOLO_AUTOINSTALL": "0",  # no pip
    "YOLO_VERBOSE": "0",  # errors only
    "ULTRALYTICS_SAFE_LOAD": "1",  # a checkpoint may name model classes, not code to run
}


@contextmanager
def undisturbed() -> Iterator[None]:
    """Undo the process-wide changes that ultralytics makes: environment, threads, printing.

    On importing it sets environment variables and print options, turns OpenCV's threads off,
    replaces `torch.save`, replaces `PIL.Image.open` (by one that tries to install a plugin with pip
    for every unreadable file) and filters warnings; building a model sets one more variable.
    """
    environment, printing = dict(os.environ), np.get_printoptions()
    threads, cv_threads, save = torch.get_num_threads(), cv2.getNumThreads(), torch.save
    image_open = Image.open
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
        np.set_printoptions(**printing)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
        torch.save = save
        Image.open = image_open


def load_ultralytics() -> None:
    """Import ultralytics without network, output or a settings file in the user's home.

    Its settings go to a folder that is removed at once, unless YOLO_CONFIG_DIR names one.
    Call it before any `from ultralytics import`.
    """
    if "ultralytics.models" in sys.modules:
        return
    with tempfile.TemporaryDirectory() as settings, undisturbed():
        for name, value in {**_OFFLINE, "YOLO_CONFIG_DIR": settings}.items():
            os.environ.setdefault(name, value)
        # torchvision first: ultralytics' suppression takes another route where it is not loaded.
        import torchvision  # noqa: F401
        import ultralytics.models  # noqa: F401

        torch.set_printoptions(profile="default")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Padded:
    """A batch before the network, and height and width of each image."""

    pixels_NCHW: UInt8[torch.Tensor, "N 3 H W"]
    frames: list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Detected:
    """The network's answer for one image, after suppression and before the last steps."""

    rows: Float[torch.Tensor, "N D"]  # box in the padded frame, score, class, mask coefficients
    proto: Float[torch.Tensor, "K P Q"]
    padded: tuple[int, int]  # height, width
    frame: tuple[int, int]  # height, width of the image


class FastSam:
    """FastSAM; it `Segments` and `Masks`. Runs in float32, on a GPU where there is one.

    What changes a box or mask here raises `FastSamConfig.VERSION`.
    """

    def __init__(self, config: FastSamConfig) -> None:
        """Load the weights. BackendError where the file is no FastSAM checkpoint."""
        key, file = config.MODEL_KEY, config.weights_file()
        load_ultralytics()
        from ultralytics import FastSAM

        try:
            with undisturbed():
                network = opened(
                    file,
                    torch.float32,
                    trained=lambda: FastSAM(str(file)).model,
                    untrained=lambda: _untrained(file),
                ).fuse(verbose=False)
        except (TypeError, AttributeError, ModuleNotFoundError) as error:
            raise BackendError(
                f"{key}={config.model}: ultralytics cannot open {file.name} as FastSAM ({error}). "
                f"Download the file again, or use {key}=mini:fastsam."
            ) from error
        network = network.to(device()).float().eval()
        self._config = config
        self._batch_size = batch_size(
            "segmenter.batch_size", config.batch_size, config.USUAL_BATCH, MOST_IMAGES
        )
        self._network: Any = network.requires_grad_(requires_grad=False)

    def segment(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """Boxes per image, xyxy pixels of that image and inside it, the surest first.

        An image is scaled so that its longer side is `image_size` and padded to multiples of the
        stride, as ultralytics does for one image; images of one padded shape share batches.
        """
        found: list[list[Box]] = [[] for _ in images]
        for index, detected in self._detections(images):
            found[index] = self._boxes(detected)[1]
        return found

    def masks(
        self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]
    ) -> list[list[AnyMask]]:
        """The mask of each box at the image's size, as `retina_masks=True` of ultralytics.

        Only the masks of `boxes` are made (a detector may find 300 in an image). BackendError for
        a box that `segment` does not give.
        """
        made: list[list[AnyMask]] = [[] for _ in images]
        asked = [index for index, wanted in enumerate(boxes) if wanted]
        for place, detected in self._detections([images[index] for index in asked]):
            made[asked[place]] = self._masks_of(detected, boxes[asked[place]])
        return made

    def _detections(self, images: Sequence[Image.Image]) -> Iterator[tuple[int, _Detected]]:
        """(index of an image, what was found in it), in no fixed order."""
        for indices in self._by_padded_shape(images):
            alike = [images[index] for index in indices]
            detected = in_prepared_batches(alike, self._batch_size, self._padded, self._detect)
            yield from zip(indices, detected, strict=True)

    def _by_padded_shape(self, images: Sequence[Image.Image]) -> list[list[int]]:
        letterbox = self._letterbox()
        padded: dict[tuple[int, int], tuple[int, ...]] = {}
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            if image.size not in padded:
                blank = np.zeros((image.height, image.width, 3), dtype=np.uint8)
                padded[image.size] = letterbox(image=blank).shape
            groups.setdefault(padded[image.size], []).append(index)
        return list(groups.values())

    def _letterbox(self) -> Any:
        from ultralytics.data.augment import LetterBox

        stride = max(int(self._network.stride.max()), 32)  # as ultralytics' PyTorch backend
        side = math.ceil(self._config.image_size / stride) * stride
        return LetterBox((side, side), auto=True, stride=stride)

    def _padded(self, images: Sequence[Image.Image]) -> _Padded:
        """Images of one padded shape, as the network takes them."""
        letterbox = self._letterbox()
        pixels_NHWC = np.stack([letterbox(image=self._pixels(image)) for image in images])
        return _Padded(
            pixels_NCHW=torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous(),
            frames=[(image.height, image.width) for image in images],
        )

    def _detect(self, batch: _Padded) -> list[_Detected]:
        """Detections of one full batch."""
        from ultralytics.utils import nms

        batch_NCHW = batch.pixels_NCHW
        with torch.inference_mode():
            (raw, protos), _ = self._network(batch_NCHW.to(device()).float().div_(255))
            candidates = nms.non_max_suppression(
                raw,
                self._config.confidence,
                self._config.box_iou,
                max_det=self._config.max_detections,
                nc=len(self._network.names),
                max_time_img=math.inf,
            )
        padded = (batch_NCHW.shape[2], batch_NCHW.shape[3])
        return [
            _Detected(rows=rows, proto=proto, padded=padded, frame=frame)
            for rows, proto, frame in zip(candidates, protos, batch.frames, strict=True)
        ]

    def _pixels(self, image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
        """Pixels in the order in which the network takes its channels for red, green, blue."""
        rgb = np.asarray(to_rgb(image))
        if self._config.channel_order is ChannelOrder.swapped:
            return np.ascontiguousarray(rgb[..., ::-1])
        return rgb

    @torch.inference_mode()
    def _boxes(self, found: _Detected) -> tuple[Float[torch.Tensor, "N D"], list[Box]]:
        """FastSAM's last steps: no box without a mask, back to image pixels, snap to the border.

        The rows that stay (their boxes in image pixels, not snapped), and their final boxes.
        """
        from ultralytics.models.fastsam.utils import adjust_bboxes_to_image_border
        from ultralytics.utils import ops

        rows, (height, width) = found.rows, found.frame
        if len(rows) == 0:
            return rows, []
        rows = rows[_has_mask(rows, found.proto, found.padded)].clone()
        rows[:, :4] = ops.scale_boxes(found.padded, rows[:, :4].clone(), found.frame)
        snapped_N4 = adjust_bboxes_to_image_border(
            rows[:, :4].clone(), found.frame, self._config.border_snap_px
        )
        whole = Box(left=0, top=0, right=width, bottom=height)
        boxes = [box_from(row) for row in snapped_N4.tolist()]
        return rows, [whole if box.iou(whole) > WHOLE_IMAGE_IOU else box for box in boxes]

    @torch.inference_mode()
    def _masks_of(self, found: _Detected, boxes: Sequence[Box]) -> list[Mask]:
        from ultralytics.utils import ops

        rows, given = self._boxes(found)
        picked = rows[[_place_of(box, given) for box in boxes]]
        masks_NHW = ops.process_mask_native(found.proto, picked[:, 6:], picked[:, :4], found.frame)
        return list(masks_NHW.cpu().numpy().astype(bool))


def _untrained(folder: Path) -> Any:
    """The network that a configuration describes, initialised so that signals keep their size.

    ultralytics' own initialisation lets them fade from layer to layer, and every place of an image
    would get the same box and score.
    """
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    shape = read_json(folder / "config.json")
    layers = yaml_model_load(shape["architecture"]) | {"reg_max": shape["reg_max"]}
    network = SegmentationModel(layers, nc=shape["classes"], verbose=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.weight.requires_grad:
            torch.nn.init.kaiming_normal_(module.weight)
    return network


def _place_of(box: Box, given: Sequence[Box]) -> int:
    """Index of the first detection with this box."""
    for index, other in enumerate(given):
        pairs = zip(box.as_tuple(), other.as_tuple(), strict=True)
        if all(abs(one - two) <= SAME_PX for one, two in pairs):
            return index
    raise BackendError(
        f"box {box.as_tuple()} is none that the segmenter finds in this image. Ask for masks of "
        "boxes that `segment` gave under the same settings."
    )


def _has_mask(
    rows: Float[torch.Tensor, "N D"], proto: Float[torch.Tensor, "K P Q"], padded: tuple[int, int]
) -> torch.Tensor:
    """Which detections have a mask of at least one pixel; a few at a time, to bound the memory."""
    from ultralytics.utils import ops

    parts = [
        ops.process_mask(proto, part[:, 6:], part[:, :4], padded, upsample=True).amax((-2, -1)) > 0
        for part in rows.split(MASKS_AT_ONCE)
    ]
    return torch.cat(parts)

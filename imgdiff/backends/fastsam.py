"""FastSAM (YOLOv8-seg, arXiv 2306.12156) as a `Segmenter`, through ultralytics.

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
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from imgdiff.backends.checkpoints import fixed_batches
from imgdiff.backends.configs import ChannelOrder, FastSamConfig
from imgdiff.backends.loading import device
from imgdiff.core.errors import BackendError
from imgdiff.core.geometry import Box, box_from
from imgdiff.core.images import to_rgb

MASKS_AT_ONCE = 32
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


class FastSam:
    """FastSAM; it `Segments`. Runs in float32, on a GPU where there is one.

    What changes a box here raises `FastSamConfig.VERSION`.
    """

    def __init__(self, config: FastSamConfig) -> None:
        """Load the weights. BackendError where the file is no FastSAM checkpoint."""
        key, file = config.MODEL_KEY, config.weights_file()
        load_ultralytics()
        from ultralytics import FastSAM

        try:
            with undisturbed():
                network = FastSAM(str(file)).model.fuse(verbose=False)
        except (TypeError, AttributeError, ModuleNotFoundError) as error:
            raise BackendError(
                f"{key}={config.model}: ultralytics cannot open {file.name} as FastSAM ({error}). "
                f"Download the file again, or use {key}=mini:fastsam."
            ) from error
        network = network.to(device()).float().eval()
        self._config = config
        self._network: Any = network.requires_grad_(requires_grad=False)

    def segment(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """Boxes per image, xyxy pixels of that image and inside it, the surest first.

        An image is scaled so that its longer side is `image_size` and padded to multiples of the
        stride, as ultralytics does for one image; images of one padded shape share batches.
        """
        found: list[list[Box]] = [[] for _ in images]
        for indices in self._by_padded_shape(images):
            for batch, count in fixed_batches(indices, self._config.batch_size):
                boxes = self._detect([images[index] for index in batch])
                for index, of_image in zip(batch[:count], boxes, strict=False):
                    found[index] = of_image
        return found

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

    def _detect(self, images: Sequence[Image.Image]) -> list[list[Box]]:
        """Boxes of one full batch, whose images have one padded shape."""
        from ultralytics.utils import nms

        letterbox = self._letterbox()
        pixels_NHWC = np.stack([letterbox(image=self._pixels(image)) for image in images])
        batch_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).contiguous()
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
            return [
                self._finish(rows, proto, batch_NCHW.shape[2:], image.size)
                for rows, proto, image in zip(candidates, protos, images, strict=True)
            ]

    def _pixels(self, image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
        """Pixels in the order in which the network takes its channels for red, green, blue."""
        rgb = np.asarray(to_rgb(image))
        if self._config.channel_order is ChannelOrder.swapped:
            return np.ascontiguousarray(rgb[..., ::-1])
        return rgb

    def _finish(
        self,
        rows: Float[torch.Tensor, "N D"],
        proto: Float[torch.Tensor, "K P Q"],
        padded: Sequence[int],
        size: tuple[int, int],
    ) -> list[Box]:
        """FastSAM's last steps: no box without a mask, back to image pixels, snap to the border."""
        from ultralytics.models.fastsam.utils import adjust_bboxes_to_image_border
        from ultralytics.utils import ops

        if len(rows) == 0:
            return []
        rows = rows[_has_mask(rows, proto, padded)]
        frame = (size[1], size[0])
        boxes_N4 = ops.scale_boxes(padded, rows[:, :4], frame)
        boxes_N4 = adjust_bboxes_to_image_border(boxes_N4, frame, self._config.border_snap_px)
        whole = Box(left=0, top=0, right=size[0], bottom=size[1])
        boxes = [box_from(row) for row in boxes_N4.tolist()]
        return [whole if box.iou(whole) > WHOLE_IMAGE_IOU else box for box in boxes]


def _has_mask(
    rows: Float[torch.Tensor, "N D"], proto: Float[torch.Tensor, "K P Q"], padded: Sequence[int]
) -> torch.Tensor:
    """Which detections have a mask of at least one pixel; a few at a time, to bound the memory."""
    from ultralytics.utils import ops

    parts = [
        ops.process_mask(proto, part[:, 6:], part[:, :4], padded, upsample=True).amax((-2, -1)) > 0
        for part in rows.split(MASKS_AT_ONCE)
    ]
    return torch.cat(parts)

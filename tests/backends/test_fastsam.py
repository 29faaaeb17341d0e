"""FastSAM: boxes that depend on the image alone, and an import that leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from imgdiff.backends import checkpoints
from imgdiff.backends.configs import ChannelOrder, FastSamConfig
from imgdiff.backends.fastsam import load_ultralytics, undisturbed
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.geometry import Box
from imgdiff.mini.build import fastsam as recipe
from imgdiff.mini.scene import Split, draw_scene, sample_scene

SHIPPED = checkpoints.find("mini:fastsam") is not None


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small convolutions wait for each other's threads longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shipped checkpoint, or an untrained one in its place."""
    if SHIPPED:
        return "mini:fastsam"
    folder = tmp_path_factory.mktemp("fastsam")
    untrained = recipe.new_model()
    for branch in untrained.model[-1].cv3:  # scores that differ, or ties would decide
        torch.nn.init.normal_(branch[-1].weight)
    recipe.save(untrained, folder / recipe.FILE)
    return str(folder)


def settings(model: str, **changes: Any) -> FastSamConfig:
    """Settings under which either checkpoint finds many boxes."""
    confidence = 0.02 if SHIPPED else 1e-3
    return FastSamConfig(
        **{"model": model, "confidence": confidence, "max_detections": 20, **changes}
    )


def scenes(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(7)
    return [draw_scene(sample_scene(rng, Split.validation)).image for _ in range(count)]


def of_all_sizes() -> list[Image.Image]:
    first, second, third, *rest = scenes(7)
    wide, high = second.resize((200, 90)), third.resize((61, 140))
    return [first, wide, high, first.resize((64, 64)), *rest]


def test_boxes_do_not_depend_on_the_batch(model: str) -> None:
    images = of_all_sizes()
    with settings(model, batch_size=3).build() as segmenter:
        together = segmenter.segment(images)
        assert sum(len(boxes) for boxes in together) >= len(images)
        assert [segmenter.segment([image])[0] for image in images] == together
        assert segmenter.segment(images[::-1]) == together[::-1]
        assert segmenter.segment(images + images[2:4]) == together + together[2:4]


def test_batches_prepared_ahead_give_the_same_boxes(
    model: str, request: pytest.FixtureRequest
) -> None:
    images = of_all_sizes()
    with settings(model, batch_size=2).build() as segmenter:
        in_turn = segmenter.segment(images)
        request.getfixturevalue("beside_a_gpu")
        assert segmenter.segment(images) == in_turn


def test_ultralytics_leaves_pillow_alone() -> None:
    """Its own `Image.open` would start pip for every unreadable file."""
    load_ultralytics()
    assert Image.open.__module__ == "PIL.Image"


@pytest.mark.parametrize("size", [(128, 128), (200, 90), (61, 140), (300, 300)])
def test_same_boxes_as_ultralytics(model: str, size: tuple[int, int]) -> None:
    image = scenes(1)[0].resize(size)
    config = settings(model, border_snap_px=20, batch_size=1)
    load_ultralytics()
    from ultralytics import FastSAM

    with undisturbed():
        (result,) = FastSAM(str(config.weights_file())).predict(
            np.asarray(image)[..., ::-1],  # it takes arrays as blue, green, red
            imgsz=128,
            conf=config.confidence,
            iou=config.box_iou,
            max_det=config.max_detections,
            device="cpu",
            verbose=False,
        )
    with config.build() as segmenter:
        boxes = segmenter.segment([image])[0]
    assert len(boxes) > 0
    np.testing.assert_allclose(
        [box.as_tuple() for box in boxes], result.boxes.xyxy.numpy(), atol=1e-3
    )


def test_swapped_channels_show_the_model_blue_for_red(model: str) -> None:
    image = scenes(1)[0]
    mirrored = Image.fromarray(np.ascontiguousarray(np.asarray(image)[..., ::-1]))
    with (
        settings(model).build() as true,
        settings(model, channel_order=ChannelOrder.swapped).build() as swapped,
    ):
        assert swapped.segment([mirrored]) == true.segment([image])
        assert swapped.segment([image]) == true.segment([mirrored])


def test_border_snap_moves_near_edges_onto_the_border(model: str) -> None:
    image = scenes(1)[0]
    with settings(model).build() as exact, settings(model, border_snap_px=20).build() as snapping:
        boxes, snapped = exact.segment([image])[0], snapping.segment([image])[0]
    expected = [
        (
            0.0 if box.left < 20 else box.left,
            0.0 if box.top < 20 else box.top,
            128.0 if box.right > 108 else box.right,
            128.0 if box.bottom > 108 else box.bottom,
        )
        for box in boxes
    ]
    whole = Box(left=0, top=0, right=128, bottom=128)
    for before, after in zip(expected, snapped, strict=True):
        assert after.as_tuple() == before or after == whole


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (128, 128), 90),
        Image.new("RGBA", (50, 70), (9, 200, 30, 128)),
        Image.new("P", (128, 40)),
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (400, 2)),
    ],
    ids=["grey", "alpha", "palette", "one pixel", "thin"],
)
def test_odd_images_give_boxes_inside_the_image(model: str, image: Image.Image) -> None:
    with settings(model).build() as segmenter:
        (boxes,) = segmenter.segment([image])
    for box in boxes:
        assert box.clipped_to(image.width, image.height) == box


def test_no_image_no_boxes(model: str) -> None:
    with settings(model).build() as segmenter:
        assert segmenter.segment([]) == []


@pytest.mark.skipif(not SHIPPED, reason="the trained checkpoint is not in this checkout")
def test_shipped_checkpoint_finds_the_objects() -> None:
    rng = np.random.default_rng(3)
    drawings = [draw_scene(sample_scene(rng, Split.test)) for _ in range(20)]
    with FastSamConfig().build() as segmenter:
        found = segmenter.segment([drawing.image for drawing in drawings])
    figures = recipe.agreement(found, [drawing.boxes for drawing in drawings])
    assert figures["recall_iou50"] >= 0.95
    assert figures["precision_iou50"] >= 0.9


@pytest.mark.skipif(not SHIPPED, reason="the trained checkpoint is not in this checkout")
def test_shipped_checkpoint_is_small_and_tells_nothing_of_where_it_was_made() -> None:
    file = FastSamConfig(model="mini:fastsam").weights_file()
    assert file.stat().st_size <= 6e6
    assert str(Path.home()).encode() not in file.read_bytes()
    load_ultralytics()
    content = torch.load(file, weights_only=False)
    assert set(content) == {"model", "train_args", "version", "license"}
    assert not content["train_args"]
    assert not content["model"].args
    assert all(value.dtype == torch.float16 for value in content["model"].parameters())


def test_weights_only_inside_with(model: str) -> None:
    segmenter = settings(model).build()
    with pytest.raises(BackendError, match="inside `with`"):
        segmenter.segment(scenes(1))
    with segmenter:
        assert len(segmenter.segment(scenes(1))) == 1
    with pytest.raises(BackendError, match="inside `with`"):
        segmenter.segment(scenes(1))


def test_identity_names_what_moves_boxes_and_nothing_else(model: str) -> None:
    identity = settings(model).build().identity
    for size in (5, None):
        assert settings(model, batch_size=size).build().identity == identity
    assert str(checkpoints.mini_root()) not in identity
    changes: list[dict[str, Any]] = [
        {"image_size": 160},
        {"confidence": 0.3},
        {"box_iou": 0.7},
        {"channel_order": ChannelOrder.swapped},
        {"border_snap_px": 20},
        {"max_detections": 3},
    ]
    others = {settings(model, **change).build().identity for change in changes}
    assert len(others | {identity}) == 1 + len(changes)


def test_absent_checkpoint_names_the_setting_and_the_remedy() -> None:
    config = FastSamConfig(model="FastSAM-nowhere.pt")
    with pytest.raises(BackendError, match=r"segmenter\.model=FastSAM-nowhere\.pt(.|\n)*mini"):
        config.build().__enter__()
    assert config.needed().model == "FastSAM-nowhere.pt"


def test_folder_with_two_checkpoints_asks_for_one(tmp_path: Path) -> None:
    for name in ("FastSAM-s.pt", "FastSAM-x.pt"):
        (tmp_path / name).touch()
    with pytest.raises(BackendError, match=r"found FastSAM-s\.pt, FastSAM-x\.pt\. Name the file"):
        FastSamConfig(model=str(tmp_path)).weights_file()


class _Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch unpickled",)


@pytest.mark.parametrize("kind", ["empty", "text", "tensors", "command"])
def test_file_that_is_no_fastsam_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    file = tmp_path / "FastSAM-x.pt"
    file.write_bytes(b"no weights" if kind == "text" else b"")
    if kind in ("tensors", "command"):
        torch.save({"model": torch.ones(2) if kind == "tensors" else _Command()}, file)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match=r"cannot open FastSAM-x\.pt as FastSAM"):
        FastSamConfig(model=str(file)).build().__enter__()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FastSAM-x.pt"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 0),
        ("batch_size", 0),
        ("max_detections", -1),
        ("confidence", 1.5),
        ("confidence", float("nan")),
        ("box_iou", -0.1),
        ("border_snap_px", -1),
    ],
)
def test_wrong_setting_is_named(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"segmenter\.{key}={value}: must"):
        FastSamConfig(**{key: value})


SILENT_RUN = """
import os, sys
import cv2, numpy, torch, torchvision  # these set variables of their own
from PIL import Image
from imgdiff.backends.configs import FastSamConfig
before = dict(os.environ), torch.get_num_threads(), numpy.get_printoptions(), torch.save
with FastSamConfig(model=sys.argv[1]).build() as segmenter:
    segmenter.segment([Image.new("RGB", (128, 128), "white")])
after = dict(os.environ), torch.get_num_threads(), numpy.get_printoptions(), torch.save
assert after == before, (before, after)
"""


def test_leaves_no_file_no_output_and_no_changed_state(model: str, tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    hidden = ("YOLO_", "ULTRALYTICS_", "XDG_", "OMP_", "PYTEST_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    environment |= {"HOME": str(home), "PYTHONPATH": str(Path(recipe.__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", SILENT_RUN, model],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")
    assert [*home.rglob("*"), *here.rglob("*")] == []


def segment_elsewhere(model: str, image: Image.Image) -> list[Box]:
    with settings(model).build() as segmenter:
        return segmenter.segment([image])[0]


def test_works_in_a_spawned_process(model: str) -> None:
    image = scenes(1)[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.apply(segment_elsewhere, (model, image))
    assert len(elsewhere) == len(segment_elsewhere(model, image)) > 0

"""Inpainters: what they change and what not, what they depend on, and settings that are refused."""

import numpy as np
import pytest
import tiny_sdxl
import torch
from PIL import Image

from imgdiff.backends.inpainters import (
    OpenCvInpaintConfig,
    SdxlInpaintConfig,
    changed_window,
    grown_mask,
    pasted_back,
)
from imgdiff.backends.protocols import Inpainter
from imgdiff.core.errors import BackendError, ConfigError

RED = (200, 30, 30)


def striped(width=96, height=64):
    """Vertical stripes of period 8: a texture that a fill can be checked against."""
    columns = np.where(np.arange(width) // 4 % 2, 180, 90).astype(np.uint8)
    return np.repeat(np.tile(columns, (height, 1))[..., None], 3, axis=2)


def with_disc(x=48, y=32, radius=11):
    pixels = striped()
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    mask = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    pixels[mask] = RED
    return Image.fromarray(pixels), mask


def redness(image):
    pixels = np.asarray(image).astype(int)
    return int(((pixels[..., 0] - pixels[..., 1]) > 60).sum())


def test_patches_restore_a_texture_and_touch_nothing_else():
    image, mask = with_disc()
    with OpenCvInpaintConfig().build() as inpainter:
        assert isinstance(inpainter, Inpainter)
        (filled,) = inpainter.inpaint([image], [mask], [0], [None])
    after = np.asarray(filled)
    assert np.array_equal(after[~mask], np.asarray(image)[~mask])
    assert redness(filled) == 0
    assert np.abs(after[mask].astype(int) - striped()[mask]).mean() < 12


def test_nothing_is_copied_from_what_is_alike():
    image, mask = with_disc(x=40, radius=9)
    pixels = np.array(image)
    alike = np.zeros_like(mask)
    alike[14:50, 52:80] = True  # a red block beside the disc
    pixels[alike] = RED
    with OpenCvInpaintConfig().build() as inpainter:
        filled = inpainter.inpaint([Image.fromarray(pixels)], [grown_mask(mask, 2)], [0], [alike])
    hole = grown_mask(mask, 2) & ~alike
    after = np.asarray(filled[0]).astype(int)
    assert ((after[..., 0] - after[..., 1])[hole] > 60).sum() == 0
    assert np.array_equal(after[alike], pixels[alike])


def test_alike_things_all_around_do_not_stop_the_fill():
    image, mask = with_disc()
    with OpenCvInpaintConfig().build() as inpainter:
        (filled,) = inpainter.inpaint([image], [mask], [0], [~mask])
    assert redness(filled) == 0


@pytest.mark.parametrize("size", [(96, 64), (1, 1), (3, 200), (40, 40)])
def test_a_mask_at_the_border_of_any_image_is_filled(size):
    width, height = size
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))
    mask = np.zeros((height, width), dtype=bool)
    mask[0, 0] = True
    with OpenCvInpaintConfig().build() as inpainter:
        (filled,) = inpainter.inpaint([image], [mask], [0], [None])
    assert filled.size == size
    assert np.array_equal(np.asarray(filled)[~mask], np.asarray(image)[~mask])


def test_paste_back_keeps_every_byte_outside_and_passes_over_inside():
    image, mask = with_disc()
    painted = Image.new("RGB", image.size, (0, 0, 0))
    hard, soft = (pasted_back(image, painted, mask, feather) for feather in (0, 3))
    for pasted in (hard, soft):
        assert np.array_equal(np.asarray(pasted)[~mask], np.asarray(image)[~mask])
    assert not np.asarray(hard)[mask].any()
    levels = np.asarray(soft)[32, 37:48, 0]
    assert levels[0] > levels[1] > levels[2] > levels[3]
    assert not levels[5:].any()


def test_grown_masks_and_changed_windows():
    mask = np.zeros((20, 30), dtype=bool)
    mask[10, 12] = True
    assert grown_mask(mask, 0) is mask
    assert grown_mask(mask, 2).sum() == 17  # an ellipse of 5x5 without its corners
    before = Image.new("RGB", (30, 20))
    after = before.copy()
    assert changed_window(before, after) is None
    after.putpixel((3, 4), (0, 0, 1))
    after.putpixel((7, 15), (1, 0, 0))
    assert changed_window(before, after) == (3, 4, 8, 16)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from diffusers import EulerAncestralDiscreteScheduler

    pipeline = tiny_sdxl.pipeline()
    pipeline.scheduler = EulerAncestralDiscreteScheduler(timestep_spacing="trailing")  # as turbo
    folder = tmp_path_factory.mktemp("sdxl") / "tiny"
    pipeline.save_pretrained(folder)
    return str(folder)


def settings(checkpoint, **changes):
    return SdxlInpaintConfig(**{"model": checkpoint, "size_px": 64, "batch_size": 2} | changes)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_sdxl_paints_by_its_seed_and_by_nothing_beside_it(checkpoint):
    image, mask = with_disc()
    other = Image.new("RGB", (70, 50), (10, 200, 90))
    whole = np.zeros((50, 70), dtype=bool)
    whole[10:30, 20:50] = True
    with settings(checkpoint).build() as inpainter:
        assert isinstance(inpainter, Inpainter)
        images, masks = [image, other, image], [mask, whole, mask]
        together = inpainter.inpaint(images, masks, [5, 6, 7], [None] * 3)
        alone = [inpainter.inpaint([images[k]], [masks[k]], [5 + k], [None])[0] for k in (2, 1, 0)][
            ::-1
        ]
    assert [made.size for made in together] == [(96, 64), (70, 50), (96, 64)]
    for one, same in zip(alone, together, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(same))
    assert not np.array_equal(np.asarray(together[0]), np.asarray(together[2]))
    inside = np.asarray(together[0])[mask].astype(int) - np.asarray(image)[mask]
    assert np.abs(inside).mean() > 5


def test_sdxl_identity_names_what_changes_a_pixel(checkpoint):
    identity = settings(checkpoint).build().identity
    assert settings(checkpoint, batch_size=1).build().identity == identity
    changes = [
        {"prompt": "sand"}, {"strength": 0.9}, {"guidance": 1.5}, {"steps": 6}, {"size_px": 128},
    ]  # fmt: skip
    others = {settings(checkpoint, **change).build().identity for change in changes}
    assert len(others | {identity}) == 1 + len(changes)


def test_sdxl_loads_only_sdxl(checkpoint, tmp_path):
    with pytest.raises(BackendError, match=r"inpainter\.model=nowhere"):
        SdxlInpaintConfig(model="nowhere").build().__enter__()
    (tmp_path / "hollow.safetensors").write_bytes(b"")
    with pytest.raises(BackendError, match=r"lacks model_index\.json"):
        settings(str(tmp_path)).build().__enter__()
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BackendError, match=r"inpainter\.model=.*cannot be loaded"):
        settings(str(tmp_path)).build().__enter__()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, r"inpainter\.steps=0"),
        ({"strength": 0.0}, r"inpainter\.strength=0\.0"),
        ({"strength": float("nan")}, r"inpainter\.strength=nan"),
        ({"strength": 0.2}, "less than one step"),
        ({"guidance": -1.0}, r"inpainter\.guidance=-1"),
        ({"size_px": 500}, r"inpainter\.size_px=500: .*multiple of 8"),
        ({"size_px": 0}, r"inpainter\.size_px=0"),
        ({"batch_size": 0}, r"inpainter\.batch_size=0"),
        ({"model": " "}, r"inpainter\.model"),
    ],
)
def test_wrong_sdxl_settings_are_named(change, message):
    with pytest.raises(ConfigError, match=message):
        SdxlInpaintConfig(**change)


def test_wrong_patch_settings_are_named():
    with pytest.raises(ConfigError, match=r"inpainter\.context_px=0"):
        OpenCvInpaintConfig(context_px=0)

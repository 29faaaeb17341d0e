"""Looked-up pixels against those of transformers' image processors, bit for bit."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BlipImageProcessorPil, CLIPImageProcessorPil

from imgdiff.backends import pixels
from imgdiff.backends.pixels import PixelReader

SIZES = [(1, 1), (1, 40), (3, 50), (40, 3), (17, 90), (224, 224), (301, 12), (64, 63)]


def images(mode="RGB"):
    dice = np.random.default_rng(0)
    rows = [dice.integers(0, 256, (high, wide, 3), dtype=np.uint8) for wide, high in SIZES]
    return [Image.fromarray(row).convert(mode) for row in rows]


PROCESSORS = {
    "CLIP": CLIPImageProcessorPil(),
    "BLIP at 384 px": BlipImageProcessorPil(size={"height": 384, "width": 384}),
    "another scale": CLIPImageProcessorPil(rescale_factor=1 / 127.5, image_mean=[1.0, 0.9, 1.1]),
    "not normalised": BlipImageProcessorPil(do_normalize=False),
    "as they are": BlipImageProcessorPil(do_normalize=False, do_rescale=False),
}


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=PROCESSORS)
def test_pixels_are_those_of_the_processor(processor):
    found = PixelReader(processor)(images())
    # one by one: a processor may read a whole list by the shape of its first image
    wanted = [processor(images=one, return_tensors="pt")["pixel_values"][0] for one in images()]
    assert found.dtype == torch.float32
    assert found.shape == (len(SIZES), *wanted[0].shape)
    for mine, theirs in zip(found, wanted, strict=True):
        assert torch.equal(mine, theirs.float())


@pytest.mark.parametrize("threads", [2, 3, 5, 8, 20])
def test_threads_change_no_pixel(monkeypatch, tmp_path, threads):
    reader = PixelReader(CLIPImageProcessorPil())
    images()[2].save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as unread:
        given = [*images(), *[unread] * 3]  # as a padded batch
        wanted = PixelReader(CLIPImageProcessorPil())([*images(), *images()[2:3] * 3])
        monkeypatch.setattr(pixels, "threads_beside_model", lambda: threads)
        assert torch.equal(reader(given), wanted)
        assert torch.equal(reader(given[:1]), wanted[:1])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb_first(mode):
    reader = PixelReader(CLIPImageProcessorPil())
    whole = [image.convert("RGB") for image in images("RGB")]
    assert torch.equal(reader(whole[4:5]), reader(images("RGB")[4:5]))
    assert reader(images(mode)).shape == (len(SIZES), 3, 224, 224)

"""LlavaReader's views are the authors' pixels, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from backends.reference_pixels import MEAN, STD, pixels
from PIL import Image
from small_vicuna import small_tokenizer
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaImageProcessorPil

from imgdiff.backends.chat_templates import VICUNA_V1
from imgdiff.backends.llava_weights import with_added_tokens
from imgdiff.backends.readers import LlavaReader

SIZES = [
    (2068, 1024), (1044, 512), (336, 336), (192, 192), (333, 217), (217, 333), (1, 1), (1, 40),
    (40, 1), (97, 1001), (640, 480), (7, 1500), (335, 337), (641, 427),
]  # fmt: skip


def picture(size: tuple[int, int]) -> Image.Image:
    """Noise over a ramp: both fine and coarse structure."""
    rng = np.random.default_rng(size)
    ramp = np.linspace(0, 255, size[0])[None, :, None] * 0.5
    noise = rng.integers(0, 128, (size[1], size[0], 3))
    return Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module", params=[336, 192])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LlavaReader:
    """A folder as published: its preprocessor file says centre crop and nothing of padding."""
    folder: Path = tmp_path_factory.mktemp("llava")
    side = {"height": request.param, "width": request.param}
    vision = CLIPVisionConfig(image_size=request.param, patch_size=14).to_dict()
    LlavaConfig(vision_config=vision, text_config=LlamaConfig().to_dict()).save_pretrained(folder)
    LlavaImageProcessorPil(size={"shortest_edge": request.param}, crop_size=side).save_pretrained(
        folder
    )
    with_added_tokens(small_tokenizer()).save_pretrained(folder)
    return LlavaReader(folder, VICUNA_V1)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_equal(reader: LlavaReader, size: tuple[int, int]) -> None:
    image = picture(size)
    views = reader.views([image])
    assert views.dtype == torch.float32
    expected = torch.from_numpy(pixels(image, reader.view_px))
    assert float((views[0] - expected).abs().max()) == 0.0


def test_a_pair_fills_the_middle_and_the_rest_is_grey(reader: LlavaReader) -> None:
    view = reader.views([Image.new("RGB", (1044, 512), "white")])[0]
    grey = torch.tensor([(int(m * 255) / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    top = view[:, : reader.view_px // 4 - 4]
    torch.testing.assert_close(top, grey[:, None, None].expand_as(top))
    assert float(view[:, reader.view_px // 2].min()) > 1.5


def test_images_do_not_depend_on_their_company(reader: LlavaReader) -> None:
    images = [picture(size) for size in ((640, 480), (97, 201), (30, 30))]
    together = reader.views(images)
    assert torch.equal(together, torch.cat([reader.views([image]) for image in images]))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_other_colour_modes_are_read_as_rgb(reader: LlavaReader, mode: str) -> None:
    image = picture((60, 31)).convert(mode)
    expected = torch.from_numpy(pixels(image.convert("RGB"), reader.view_px))
    assert torch.equal(reader.views([image])[0], expected)

"""Dynamic tiling against a plain-Pillow statement of the rule and torchvision's transform."""

from __future__ import annotations

from itertools import combinations

import internvl2_reference as reference
import pytest
import torch
from internvl2_goldens import picture
from PIL import Image

from imgdiff.backends.internvl2_images import (
    INFERENCE_TILES,
    TRAINING_TILES,
    check_max_tiles,
    count_views,
    grid_of,
    normalised,
    split,
    tiles_per_image,
)
from imgdiff.core.errors import ConfigError, DataError

PAIRS = [(2068, 1024), (1044, 512)]


@pytest.mark.parametrize(
    ("size", "max_tiles", "grid"),
    [
        ((2068, 1024), TRAINING_TILES, (2, 1)),  # a pair: each image its own tile
        ((1044, 512), TRAINING_TILES, (2, 1)),
        ((2068, 1024), INFERENCE_TILES, (4, 2)),
        ((1044, 512), INFERENCE_TILES, (2, 1)),  # too few pixels for eight tiles
        ((448, 448), 6, (1, 1)),
        ((1000, 1000), 6, (2, 2)),
        ((400, 400), 6, (1, 1)),
        ((1, 1), 12, (1, 1)),
        ((10000, 1), 6, (6, 1)),
        ((1, 10000), 6, (1, 6)),
        ((800, 600), 6, (3, 2)),
        ((640, 480), 1, (1, 1)),
        ((640, 480), 2, (1, 1)),
        ((898, 448), 2, (2, 1)),
    ],
)
def test_grids(size: tuple[int, int], max_tiles: int, grid: tuple[int, int]) -> None:
    assert grid_of(*size, max_tiles, 448) == grid


@pytest.mark.parametrize("size", [*PAIRS, (448, 448), (100, 700), (641, 479), (333, 1000), (7, 5)])
@pytest.mark.parametrize("max_tiles", [TRAINING_TILES, INFERENCE_TILES])
def test_pixels_are_the_references(size: tuple[int, int], max_tiles: int) -> None:
    image = picture(size)
    views = reference.tiles(image, max_tiles, 448)
    ours = normalised(split(image, max_tiles, 448), 448)
    assert torch.equal(ours, reference.pixels(views, 448))
    assert ours.is_contiguous()
    assert count_views(*size, max_tiles, 448) == len(views)


@pytest.mark.parametrize("max_tiles", [1, 2, 3, 6, 12])
def test_counts_over_a_grid_of_sizes(max_tiles: int) -> None:
    """From the size alone; a view of 8 px keeps the reference's own pictures small."""
    sides = [1, 2, 3, 5, 8, 12, 13, 16, 21, 24, 33, 47, 64]
    for width in sides:
        for height in sides:
            views = reference.tiles(Image.new("RGB", (width, height)), max_tiles, 8)
            assert count_views(width, height, max_tiles, 8) == len(views), (width, height)


def test_the_order_of_grids_of_one_size_decides_nothing() -> None:
    """Whatever lies half-way between two shapes of equally many tiles has a nearer third."""
    for limit in range(2, 25):
        sides = range(1, limit + 1)
        grids = [(a, b) for a in sides for b in sides if a * b <= limit]
        for (a, b), (c, d) in combinations(grids, 2):
            if a * b != c * d:
                continue
            middle, gap = (a / b + c / d) / 2, abs(a / b - c / d) / 2
            assert min(abs(middle - e / f) for e, f in grids) < gap - 1e-9


def test_transformers_processor_gives_the_same_pixels() -> None:
    from transformers import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(
        crop_to_patches=True, min_patches=1, max_patches=6, size={"height": 448, "width": 448},
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    for size in PAIRS:
        theirs = processor(picture(size), return_tensors="pt")["pixel_values"]
        assert torch.equal(normalised(split(picture(size), 6, 448), 448), theirs)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "I;16"])
def test_any_mode_becomes_rgb_first(mode: str) -> None:
    source = picture((90, 40)).convert("L").convert("I;16") if mode == "I;16" else None
    image = source or picture((90, 40)).convert(mode)
    views = split(image, 6, 56)
    expected = reference.tiles(image.convert("RGB"), 6, 56)
    assert [view.tobytes() for view in views] == [view.tobytes() for view in expected]
    assert {view.mode for view in views} == {"RGB"}


def test_tiles_are_cut_row_by_row_and_the_whole_comes_last() -> None:
    image = Image.new("RGB", (112, 112), "black")
    image.paste("red", (56, 0, 112, 56))
    views = split(image, 6, 56)
    assert len(views) == 5
    assert [view.getpixel((28, 28)) for view in views[:4]] == [
        (0, 0, 0), (255, 0, 0), (0, 0, 0), (0, 0, 0),
    ]  # fmt: skip
    assert views[4].getpixel((50, 5)) == (255, 0, 0)
    assert image.size == (112, 112)  # the image itself is left alone


@pytest.mark.parametrize(
    ("max_tiles", "images", "share"),
    [(6, 1, 6), (6, 2, 3), (6, 4, 1), (6, 9, 1), (12, 5, 2), (6, 0, 6)],
)
def test_images_of_one_sample_share_the_tiles(max_tiles: int, images: int, share: int) -> None:
    assert tiles_per_image(max_tiles, images) == share


def test_no_view_is_an_empty_tensor() -> None:
    assert normalised([], 56).shape == (0, 3, 56, 56)


def test_what_cannot_be_tiled_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_tiles=0: .* at least one tile.*6.*12"):
        check_max_tiles(0)
    with pytest.raises(DataError, match="0 x 5 pixels"):
        grid_of(0, 5, 6, 448)

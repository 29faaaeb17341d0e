"""Image files as they come: every odd kind opens as plain RGB or is refused with a reason."""

from __future__ import annotations

import io
import random
import resource
import signal
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.errors import DataError, StoreError
from imgdiff.core.geometry import Box
from imgdiff.core.images import RED, open_rgb, save_image, side_by_side, to_rgb, with_red_box

GREEN = (0, 200, 0)


def bytes_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 32, height: int = 24) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def opened(tmp_path: Path, content: bytes) -> Image.Image:
    path = tmp_path / "photo"
    path.write_bytes(content)
    image = open_rgb(path)
    assert image.mode == "RGB"
    return image


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable image"),
        (b"not an image at all", "not a readable image"),
        (bytes_of(noise(), "JPEG")[:400], "not a readable image.*[Tt]runcated"),
        (bytes_of(noise(), "PNG")[:900], "not a readable image"),
        (bytes_of(noise(), "PNG")[:20], "not a readable image"),
        (huge_png(20_000, 20_000), "decompression bomb"),
        (huge_png(9_500, 9_500), "decompression bomb"),  # above the limit, below twice the limit
        (huge_png(0, 0), "not a readable image"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"(?s)photo\.png: .*{reason}"):
        open_rgb(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png: no such image"):
        open_rgb(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a readable image"):
        open_rgb(tmp_path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_bytes_give_an_image_or_a_data_error(tmp_path: Path, kind: str) -> None:
    rng, whole, outcomes = random.Random(0), bytes_of(noise(), kind), set()
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.randrange(256)
        try:
            outcomes.add(opened(tmp_path, bytes(damaged)).mode)
        except DataError:
            outcomes.add("refused")
    assert outcomes <= {"RGB", "refused"}


def test_alpha_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (*GREEN, 255))
    pixels = opened(tmp_path, bytes_of(image, "PNG"))
    assert [pixels.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), GREEN]
    half = opened(tmp_path, bytes_of(Image.new("LA", (1, 1), (0, 128)), "PNG"))
    assert half.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (2, 1), 0)
    key: object = 0
    if mode == "P":
        image.putpalette([10, 10, 10, *GREEN])
        image.putpixel((1, 0), 1)
    else:
        image.putpixel((1, 0), GREEN if mode == "RGB" else 77)
        key = (0, 0, 0) if mode == "RGB" else 0
    pixels = opened(tmp_path, bytes_of(image, "PNG", transparency=key))
    kept = (77, 77, 77) if mode == "L" else GREEN
    assert [pixels.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), kept]


def test_cmyk_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 255, 0))  # cyan and yellow ink: green
    red, green, blue = opened(tmp_path, bytes_of(image, "JPEG")).getpixel((4, 4))
    assert green > 200
    assert max(red, blue) < 60


def test_16_bit_grey_is_scaled_even_when_it_is_dark(tmp_path: Path) -> None:
    values = np.array([[0, 255, 32_768, 65_535]], dtype=np.uint16)
    pixels = np.asarray(opened(tmp_path, bytes_of(Image.fromarray(values), "PNG")))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    dark = opened(tmp_path, bytes_of(Image.fromarray(values[:, :2]), "PNG"))
    assert np.asarray(dark)[0, :, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 128.0, 255.0], [0, 128, 255]),
        ([-5.0, float("nan"), 65_535.0], [0, 0, 255]),
    ],
)
def test_float_grey_is_scaled_by_the_range_it_uses(
    values: list[float], expected: list[int]
) -> None:
    image = Image.fromarray(np.array([values], dtype=np.float32))
    assert np.asarray(to_rgb(image))[0, :, 0].tolist() == expected


def test_exif_turned_photos_stand_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), (255, 255, 255))
    image.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, so turn 90 degrees clockwise
    upright = opened(tmp_path, bytes_of(image, "PNG", exif=exif))
    assert upright.size == (4, 6)
    assert upright.getpixel((3, 0)) == (0, 0, 0)


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (GREEN, (200, 0, 0))]
    content = bytes_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert opened(tmp_path, content).getpixel((1, 1)) == GREEN


def reds(image: Image.Image) -> np.ndarray:
    return np.all(np.asarray(image) == RED, axis=2)


def test_the_red_box_is_three_pixels_drawn_inward() -> None:
    marked = with_red_box(Image.new("RGB", (40, 40)), Box(left=15, top=15, right=25, bottom=25))
    row = np.flatnonzero(reds(marked)[20])
    # Grown by 5: edges at 10 and 30, and Pillow's right edge is inclusive.
    assert row.tolist() == [10, 11, 12, 28, 29, 30]


def test_two_of_three_red_pixels_show_at_the_right_and_bottom_border() -> None:
    whole = Box(left=0, top=0, right=20, bottom=10)
    marked = reds(with_red_box(Image.new("RGB", (20, 10)), whole))
    assert np.flatnonzero(marked[5]).tolist() == [0, 1, 2, 18, 19]
    assert np.flatnonzero(marked[:, 10]).tolist() == [0, 1, 2, 8, 9]


def test_the_red_box_leaves_the_original_alone() -> None:
    image = Image.new("RGB", (20, 10))
    with_red_box(image, Box(left=5, top=5, right=6, bottom=6))
    assert not reds(image).any()


def test_side_by_side_has_a_black_bar_and_aligns_the_tops() -> None:
    joined = side_by_side([Image.new("RGB", (3, 2), GREEN), Image.new("RGB", (4, 5), RED)])
    assert joined.size == (3 + 20 + 4, 5)
    pixels = np.asarray(joined)
    assert (pixels[:2, :3] == GREEN).all()
    assert not pixels[:, 3:23].any()
    assert not pixels[2:, :3].any()
    assert (pixels[:, 23:] == RED).all()


def test_png_comes_back_exactly_and_jpeg_closely(tmp_path: Path) -> None:
    slope = Image.linear_gradient("L")
    image = Image.merge("RGB", (slope, slope.rotate(90), slope.rotate(180)))
    save_image(image, tmp_path / "a.PNG")
    save_image(image, tmp_path / "a.jpg")
    assert open_rgb(tmp_path / "a.PNG").tobytes() == image.tobytes()
    difference = np.asarray(open_rgb(tmp_path / "a.jpg"), int) - np.asarray(image, int)
    assert 0 < np.abs(difference).max() <= 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.jpg"]


def test_what_jpeg_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a\.jpg"):
        save_image(Image.new("RGBA", (2, 2)), tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_last_piece_that_does_not_fit_is_an_error(tmp_path: Path, name: str) -> None:
    """A file-size limit ends a write as a full disk does: some bytes are taken, the rest not."""
    image = Image.effect_noise((200, 200), 60).convert("RGB")
    save_image(image, tmp_path / name)
    room = (tmp_path / name).stat().st_size - 100
    (tmp_path / name).unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StoreError, match="could not be written"):
            save_image(image, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []

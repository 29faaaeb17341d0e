"""Images of every kind: what the quick look finds is what decoding finds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from imgdiff.core.errors import DataError
from imgdiff.core.images import open_rgb
from imgdiff.train import image_check
from imgdiff.train.image_check import ImageFiles, look_at
from imgdiff.train.source_config import ImageCheck

SIZE = (40, 24)


def noise(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        return Image.fromarray(values[:, :, 0].astype(np.uint16) * 257)
    return image.convert(mode)


def sideways() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def late_exif_png() -> bytes:
    """A PNG whose orientation comes after the pixels."""
    stream = io.BytesIO()
    noise().save(stream, "PNG")
    whole = stream.getvalue()
    body, end = whole[:-12], whole[-12:]
    chunk = io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"eXIf", sideways().tobytes()[6:])
    return body + chunk.getvalue() + end


def good_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Name to upright size."""
    noise().save(folder / "rgb.jpg")
    noise("CMYK").save(folder / "cmyk.jpg")
    noise().save(folder / "progressive.jpg", progressive=True)
    noise().save(folder / "turned.jpg", exif=sideways())
    noise().save(folder / "turned.png", exif=sideways())
    noise().save(folder / "turned.webp", exif=sideways())
    noise().save(folder / "turned.tiff", exif=sideways())
    (folder / "late.png").write_bytes(late_exif_png())
    noise("P").save(folder / "palette.png")
    noise("I;16").save(folder / "deep.png")
    noise("RGBA").save(folder / "clear.webp")
    noise().save(folder / "plain.bmp")
    frames = [noise(), noise().rotate(180)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    (folder / "trailer.jpg").write_bytes((folder / "rgb.jpg").read_bytes() + b"\0" * 99)
    (folder / "odd name").write_bytes((folder / "rgb.jpg").read_bytes())
    return {
        path.name: SIZE[::-1] if path.stem in ("turned", "late") else SIZE
        for path in folder.iterdir()
    }


def test_good_images_of_every_kind_keep_their_size(tmp_path: Path) -> None:
    expected = good_files(tmp_path)
    for check in (ImageCheck.header, ImageCheck.decode):
        found = {name: look_at(tmp_path, name, check) for name in expected}
        assert {name: looked.size for name, looked in found.items()} == expected
        assert not any(looked.reason for looked in found.values())
    assert {name: open_rgb(tmp_path / name).size for name in expected} == expected


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif", "bmp", "tiff"])
@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_truncated_images_are_seen(tmp_path: Path, kind: str, cut: float) -> None:
    path = tmp_path / f"a.{kind}"
    noise().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    for check in (ImageCheck.header, ImageCheck.decode):
        looked = look_at(tmp_path, path.name, check)
        assert looked.reason == "image unreadable"
        assert str(path) in looked.message
        assert "Copy the file again" in looked.message
    assert look_at(tmp_path, path.name, ImageCheck.exists).reason == ""


def test_a_jpeg_cut_behind_its_thumbnail_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    noise().save(path)
    whole = path.read_bytes()
    for cut in range(1, 200, 7):
        path.write_bytes(whole[:-cut])
        readable = True
        try:
            open_rgb(path)
        except DataError:
            readable = False
        found = look_at(tmp_path, "a.jpg", ImageCheck.header)
        assert (found.reason == "") == readable


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", "image missing"),
        (".", "image missing"),
        ("folder", "image missing"),
        ("../a.png", "image path"),
        ("/etc/hostname", "image path"),
        ("a\0b", "image path"),
        ("link/b.png", "image path"),
        ("text.png", "image unreadable"),
        ("x" * 300, "image missing"),
    ],
)
def test_what_is_no_image_in_the_folder(tmp_path: Path, name: str, reason: str) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    noise().save(tmp_path / "b.png")
    (root / "link").symlink_to(tmp_path)
    (root / "text.png").write_text("no image")
    for check in (ImageCheck.header, ImageCheck.decode):
        assert look_at(root, name, check).reason == reason


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise().save(tmp_path / "a.png")
    monkeypatch.setattr("imgdiff.core.images.MAX_PIXELS", 100)
    monkeypatch.setattr(image_check, "MAX_PIXELS", 100)
    looked = look_at(tmp_path, "a.png", ImageCheck.header)
    assert looked.reason == "image unreadable"
    assert "exceeds 100 px" in looked.message


def test_each_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    look = image_check.look_at

    def counted(root: Path, name: str, check: ImageCheck) -> image_check.Looked:
        calls.append(name)
        return look(root, name, check)

    monkeypatch.setattr(image_check, "look_at", counted)
    noise().save(tmp_path / "a.png")
    files = ImageFiles(ImageCheck.header, 2)
    for _ in range(3):
        found = files.look(tmp_path, ["a.png", "b.png", "a.png"])
    files.close()
    assert sorted(calls) == ["a.png", "b.png"]
    assert (found["a.png"].size, found["b.png"].reason) == (SIZE, "image missing")

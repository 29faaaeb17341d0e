"""The perceptual hash, and the nearest pairs against a comparison of all with all."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imgdiff.synth.looks import Alike, distances, hash_of, look_of, most_alike

ALL = 2**64


def scene(seed, size=(256, 192)):
    """A smooth picture with a few shapes."""
    numbers = np.random.default_rng(seed)
    image = Image.fromarray(numbers.integers(0, 255, (5, 7, 3), dtype=np.uint8))
    image = image.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = (int(n) for n in numbers.integers(0, 150, 2))
        draw.ellipse(
            (x, y, x + 60, y + 40), fill=tuple(int(n) for n in numbers.integers(0, 255, 3))
        )
    return image


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def bits(first, second):
    return (hash_of(look_of(first)) ^ hash_of(look_of(second))).bit_count()


@pytest.mark.parametrize("seed", range(5))
def test_scaling_and_compression_keep_the_hash_and_another_picture_has_another(seed):
    image = scene(seed)
    assert bits(image, image.copy()) == 0
    assert bits(image, image.resize((512, 384))) <= 4
    assert bits(image, jpeg(image, 60)) <= 6
    assert bits(image, scene(seed + 100)) > 12


def test_hash_of_a_ramp_of_grey():
    # grey that rises from left to right: only the coefficients of the first row are not zero
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1)))
    found = f"{hash_of(look_of(ramp)):064b}"
    assert found[0] == "1"  # the mean
    assert found[1] == "0"  # darker on the left: a negative cosine
    assert set(found[8:]) == {"0"}


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2)])
def test_any_image_has_a_hash(mode, size):
    assert len(look_of(Image.new(mode, size))) == 16


def test_float_noise_of_a_flat_image_is_not_seen():
    assert look_of(Image.new("L", (64, 64), 100)) == look_of(Image.new("L", (97, 33), 101))


@pytest.mark.parametrize("text", ["", "0", "0" * 15, "0" * 17, "g" * 16])
def test_what_is_no_hash_is_refused(text):
    with pytest.raises(ValueError, match=r"hash|invalid literal"):
        hash_of(text)


def test_distances_count_bits():
    first = np.array([0, 1, ALL - 1], dtype=np.uint64)
    second = np.array([0, 2, 0], dtype=np.uint64)
    assert distances(first, second).tolist() == [0, 2, 64]


def expected(hashes, number, farthest):
    """All pairs, nearest first, each image once."""
    values = [int(value) for value in hashes]
    pairs = sorted(
        ((a ^ b).bit_count(), i, j)
        for i, a in enumerate(values)
        for j, b in enumerate(values[i + 1 :], start=i + 1)
    )
    seen, chosen = set(), []
    for count, first, second in pairs:
        if count <= farthest and not seen & {first, second}:
            seen |= {first, second}
            chosen.append(Alike(first=first, second=second, bits=count))
    return chosen[:number]


def planted(count, seed):
    """Random hashes, some with a copy in which 1 to 20 bits differ, in any order."""
    numbers = np.random.default_rng(seed)
    hashes = numbers.integers(0, ALL, count, dtype=np.uint64)
    for wrong in range(1, min(21, count // 2)):
        value = int(hashes[2 * wrong])
        for bit in numbers.choice(64, wrong, replace=False):
            value ^= 1 << int(bit)
        hashes[2 * wrong + 1] = value
    return numbers.permutation(hashes)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 60])
def test_few_hashes_are_all_compared(count):
    hashes = planted(count, count)
    assert most_alike(hashes, 12) == expected(hashes, 12, 64)


def test_among_many_all_within_eleven_bits_are_found():
    hashes = planted(2300, 5)
    found = most_alike(hashes, 40)
    assert found == expected(hashes, 40, 11)
    assert [pair.bits for pair in found[:11]] == list(range(1, 12))


def test_equal_hashes_come_first_and_every_image_once():
    hashes = np.array([7, 9, 7, 7, 8, 9], dtype=np.uint64)
    assert most_alike(hashes, 12) == [
        Alike(first=0, second=2, bits=0),
        Alike(first=1, second=5, bits=0),
    ]
    assert most_alike(hashes, 1) == [Alike(first=0, second=2, bits=0)]

"""Replacing objects in drawn photos, where every answer is known."""

import dataclasses

import numpy as np
import pytest
from drawn_photos import COLOURS, HEIGHT, NAMES, WIDTH, Folder, five_photos, ring
from PIL import Image

from imgdiff.backends import coco
from imgdiff.backends import inpaint_cv as cv
from imgdiff.backends.composite import CompositeConfig, DonorPool, a_photo_of
from imgdiff.backends.protocols import DrawnPair, Refusal
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.geometry import Box
from imgdiff.core.records import Caption, CaptionPair, PhotoObject


def pairs_of(root, seed=5):
    return [
        CaptionPair(id=c.id, left=c.text, right="", seed=seed + k, photo=c.photo)
        for k, c in enumerate(coco.photo_objects(root))
        if isinstance(c, Caption)
    ]


def generate(root, pairs=None, **settings):
    with CompositeConfig(root=root, **settings).build() as generator:
        return generator.generate(pairs_of(root) if pairs is None else pairs)


@pytest.fixture
def root(tmp_path):
    return five_photos(tmp_path)


def test_every_object_is_replaced_by_one_of_another_category(root):
    results = generate(root)
    assert len(results) == 5
    for result in results:
        assert isinstance(result, DrawnPair)
        (change,) = result.truth.changes
        assert change.left_name != change.right_name
        assert result.left_caption == a_photo_of(change.left_name)
        assert result.right_caption == a_photo_of(change.right_name)


def test_the_left_image_is_the_photo_and_only_the_edited_region_differs(root):
    for pair, result in zip(pairs_of(root), generate(root), strict=True):
        left, right = np.asarray(result.left), np.asarray(result.right)
        stored = np.asarray(Image.open(f"{root}/{pair.photo.image_file}"))
        assert np.array_equal(left, stored)
        assert right.shape == left.shape
        (change,) = result.truth.changes
        region = change.left_box.union(change.right_box).grown(8).clipped_to(WIDTH, HEIGHT)
        x0, y0, x1, y1 = (int(v) for v in region.as_tuple())
        outside = np.ones(left.shape[:2], dtype=bool)
        outside[y0:y1, x0:x1] = False
        assert np.array_equal(left[outside], right[outside])
        assert not np.array_equal(left, right)


def coloured(image, category):
    near = np.abs(np.asarray(image).astype(int) - COLOURS[category]).max(axis=2) < 45
    return coco.mask_box(near)


def test_boxes_are_tight_around_what_was_taken_and_what_was_put(root):
    numbers = {name: number for number, name in NAMES.items()}
    for result in generate(root):
        (change,) = result.truth.changes
        seen_left = coloured(result.left, numbers[change.left_name])
        seen_right = coloured(result.right, numbers[change.right_name])
        assert np.abs(np.subtract(change.left_box.as_tuple(), seen_left.as_tuple())).max() <= 1
        assert np.abs(np.subtract(change.right_box.as_tuple(), seen_right.as_tuple())).max() <= 3
        assert coloured(result.right, numbers[change.left_name]) is None  # no ghost
        assert change.left_box.iou(change.right_box) > 0.8


def test_a_result_depends_on_its_pair_alone(root):
    pairs = pairs_of(root)
    together = generate(root, pairs)
    backwards = generate(root, pairs[::-1], cached_photos=1)[::-1]
    alone = [generate(root, [pair])[0] for pair in pairs]
    for results in (backwards, alone):
        for first, second in zip(together, results, strict=True):
            assert first.truth == second.truth
            assert np.array_equal(np.asarray(first.right), np.asarray(second.right))


def test_the_seed_chooses_the_donor(root):
    pair = pairs_of(root)[0]
    pairs = [dataclasses.replace(pair, seed=seed) for seed in range(12)]
    names = {result.truth.changes[0].right_name for result in generate(root, pairs)}
    assert names == {"dog", "cup"}


def test_donors_come_from_the_same_split(tmp_path):
    Folder(tmp_path).photo((1, ring(120, 90, 30, 30), {})).write()
    Folder(tmp_path, "train2017").photo((2, ring(120, 90, 30, 30), {})).write()
    reasons = [result.reason for result in generate(str(tmp_path))]
    assert reasons == ["no donor of like size and shape"] * 2


ROUND = ring(120, 90, 30, 30)
TARGETS = [
    ([(1, ring(120, 90, 8, 8), {})], {}, "object too small"),
    ([(1, ROUND, {})], {"min_area_fraction": 0.3}, "object too small"),
    ([(1, ROUND, {})], {"max_area_fraction": 0.05}, "object too large"),
    ([(1, ring(20, 90, 30, 30), {})], {"replace_cut": False}, "object touches the border"),
    (
        [(1, ROUND, {"segmentation": [ring(100, 90, 18, 18), ring(145, 90, 18, 18)]})],
        {},
        "mask is fragmented",
    ),
    (
        [(1, ROUND, {}), (3, [135, 50, 200, 50, 200, 130, 135, 130], {})],
        {"max_target_contact": 0.1},
        "object is mostly covered",
    ),
    ([(1, ROUND, {}), (3, ring(120, 90, 12, 12), {})], {}, "object carries another"),
    ([(1, [20, 80, 220, 80, 220, 110, 20, 110], {})], {}, "no donor of like size and shape"),
    ([(1, ROUND, {})], {"min_visible_change": 250.0}, "edit is hardly visible"),
]


@pytest.mark.parametrize(("objects", "settings", "reason"), TARGETS)
def test_what_cannot_be_replaced_is_refused_with_its_reason(tmp_path, objects, settings, reason):
    folder = Folder(tmp_path).photo(*objects)
    for _ in range(3):
        folder.photo((2, ring(120, 90, 33, 33), {}))
    root = folder.write()
    result = generate(root, pairs_of(root)[:1], **settings)[0]
    assert isinstance(result, Refusal)
    assert result.reason == reason


def test_a_crowd_is_refused_and_never_a_donor(tmp_path):
    folder = Folder(tmp_path).photo((1, ROUND, {})).photo((2, ROUND, {"iscrowd": 1}))
    root = folder.write()
    crowd = PhotoObject(image_file="val2017/002.png", annotation_id=2, split="val2017")
    pairs = pairs_of(root)
    pairs.append(dataclasses.replace(pairs[0], photo=crowd))
    reasons = [result.reason for result in generate(root, pairs)]
    assert reasons == ["no donor of like size and shape", "object is a crowd"]


@pytest.mark.parametrize(
    ("polygon", "why"),
    [
        (ring(20, 90, 30, 30), "cut by the border"),
        (ring(120, 90, 9, 9), "too small, would be enlarged"),
        ([60, 85, 180, 85, 180, 100, 60, 100], "of another aspect"),
        ([90, 60, 96, 60, 96, 114, 150, 114, 150, 120, 90, 120], "of another shape"),
    ],
)
def test_an_unlike_object_is_no_donor(tmp_path, polygon, why):
    root = Folder(tmp_path).photo((1, ROUND, {})).photo((2, polygon, {})).write()
    result = generate(root, pairs_of(root)[:1])[0]
    assert isinstance(result, Refusal), why
    assert result.reason == "no donor of like size and shape"


def test_a_donor_that_others_hide_is_passed_over(tmp_path):
    bite = [148, 60, 200, 60, 200, 120, 148, 120]
    root = Folder(tmp_path).photo((1, ROUND, {})).photo((2, ROUND, {}), (4, bite, {})).write()
    assert generate(root, pairs_of(root)[:1])[0] == Refusal(
        reason="no donor of like size and shape", detail="apple"
    )
    assert isinstance(generate(root, pairs_of(root)[:1], max_donor_contact=1.0)[0], DrawnPair)


def test_an_unreadable_photo_is_refused_or_passed_over(root, tmp_path):
    cut = tmp_path / "val2017" / "001.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    results = generate(root)
    assert results[0].reason == "photo cannot be read"
    assert all(isinstance(result, DrawnPair) for result in results[1:4])


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_photos_of_other_modes_are_edited_as_rgb(tmp_path, mode):
    folder = Folder(tmp_path).photo((1, ROUND, {}), mode=mode).photo((3, ROUND, {}))
    root = folder.write()
    result = generate(root, pairs_of(root)[:1], min_visible_change=1.0)[0]
    assert (result.left.mode, result.right.mode) == ("RGB", "RGB")
    if mode == "L":  # nothing coloured appears in a black-and-white photo
        right = np.asarray(result.right).astype(int)
        assert np.ptp(right, axis=2).max() <= 1


def test_a_target_at_the_border_gets_a_whole_donor_inside_the_photo(tmp_path):
    folder = Folder(tmp_path).photo((1, ring(25, 160, 30, 30), {})).photo((2, ROUND, {}))
    root = folder.write()
    (change,) = generate(root, pairs_of(root)[:1])[0].truth.changes
    assert change.left_box.left == 0
    assert change.left_box.bottom == HEIGHT
    assert change.right_box.clipped_to(WIDTH, HEIGHT) == change.right_box
    assert change.right_box.width > 45


def test_a_pair_from_elsewhere_is_an_error(root):
    pair = pairs_of(root)[0]
    with pytest.raises(DataError, match="names no photo object"):
        generate(root, [dataclasses.replace(pair, photo=None)])
    foreign = dataclasses.replace(pair.photo, annotation_id=99)
    with pytest.raises(DataError, match="from the same folder"):
        generate(root, [dataclasses.replace(pair, photo=foreign)])


def test_identity_follows_settings_and_annotations_but_not_speed(root, tmp_path):
    def identity(**settings):
        return CompositeConfig(root=root, **settings).build().identity

    assert identity() == identity(cached_photos=3)
    assert identity() != identity(feather_px=3)
    before = identity()
    Folder(tmp_path, "train2017").photo((1, ROUND, {})).write()
    assert identity() != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_cover": 1.5}, r"generator\.min_cover=1\.5: must lie in \[0, 1\]"),
        ({"max_upscale": 0.5}, r"generator\.max_upscale=0\.5"),
        ({"feather_px": 0}, r"generator\.feather_px=0: must lie in \[1, 64\]"),
        ({"min_object_px": float("nan")}, r"generator\.min_object_px=nan"),
        ({"root": " "}, "generator.root is empty"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        CompositeConfig(**{"root": "somewhere", **settings}).build()


def test_a_folder_without_annotations_fails_before_any_work(tmp_path):
    with pytest.raises(DataError, match="Splits found: none"):
        CompositeConfig(root=str(tmp_path)).build()


def test_the_config_works_as_a_schema():
    omegaconf = pytest.importorskip("omegaconf")
    schema = omegaconf.OmegaConf.structured(CompositeConfig)
    made = omegaconf.OmegaConf.to_object(omegaconf.OmegaConf.merge(schema, {"root": "here"}))
    assert made == CompositeConfig(root="here")


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("dog", "A photo of a dog."),
        ("apple", "A photo of an apple."),
        ("umbrella", "A photo of an umbrella."),
        ("unicycle", "A photo of a unicycle."),
        ("bus", "A photo of a bus."),
        ("wine glass", "A photo of a wine glass."),
        ("scissors", "A photo of scissors."),
        ("skis", "A photo of skis."),
        ("tennis racket", "A photo of a tennis racket."),
    ],
)
def test_captions_have_the_right_article(name, caption):
    assert a_photo_of(name) == caption


def test_usual_sizes_are_learned_from_objects_that_share_photos(tmp_path):
    folder = Folder(tmp_path)
    for scale in (1.0, 0.5, 0.8):  # dogs four times as wide as cups, at any distance
        dog, cup = ring(80, 90, 60 * scale, 60 * scale), ring(200, 90, 15 * scale, 15 * scale)
        folder.photo((2, dog, {}), (3, cup, {}))
    pool = DonorPool(coco.read_objects(folder.write()).objects)
    gap = pool.usual_N[0] - pool.usual_N[1]
    assert 0.4 * np.log(4) < gap <= np.log(4)
    assert pool.usual_N[0] == pool.usual_N[2]


def stripes(height=90, width=120, period=12):
    wave = (np.arange(width) // (period // 2)) % 2 * 150 + 50
    return np.repeat(np.tile(wave, (height, 1))[..., None], 3, axis=2).astype(np.uint8)


def test_a_hole_in_stripes_is_filled_with_stripes():
    photo, hole = stripes(), np.zeros((90, 120), dtype=bool)
    hole[30:60, 45:75] = True
    damaged = np.where(hole[..., None], np.uint8(255), photo)
    nothing = np.zeros_like(hole)
    filled = cv.fill_hole(damaged, hole, nothing)
    error = np.abs(filled.astype(int) - photo).mean(axis=2)
    assert np.array_equal(filled[~hole], photo[~hole])
    assert error[hole].mean() < 20  # a flat grey would be off by 75
    assert np.array_equal(filled, cv.fill_hole(damaged, hole, nothing))


def test_a_hole_with_nothing_to_copy_is_still_filled():
    photo, hole = stripes(20, 20), np.ones((20, 20), dtype=bool)
    hole[0] = False
    filled = cv.fill_hole(photo, hole, np.zeros_like(hole))
    assert filled.shape == photo.shape
    assert np.array_equal(filled[0], photo[0])


def test_a_cutout_is_opaque_inside_and_clear_outside():
    photo = np.full((60, 60, 3), 100, dtype=np.uint8)
    mask = np.zeros((60, 60), dtype=bool)
    mask[15:45, 15:45] = True
    photo[mask] = 220
    cutout = cv.cut_out(photo, mask, 1.0, 2)
    assert (cutout.matte[18:42, 18:42] == 1.0).all()
    assert (cutout.matte[:13] == 0.0).all()
    assert coco.mask_box(cutout.matte > cv.HALF) == Box(left=15, top=15, right=45, bottom=45)
    assert cutout.surroundings == pytest.approx(100.0)
    assert cutout.colours[cutout.matte > 0.5].min() > 200  # no background in the rim

"""A COCO folder as it should be, and as people have it."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imgdiff.backends import coco
from imgdiff.core.errors import DataError
from imgdiff.core.geometry import Box
from imgdiff.core.records import Caption, PhotoObject, Rejected

CATEGORIES = [
    {"id": 1, "name": "dog", "supercategory": "animal"},
    {"id": 2, "name": "cup", "supercategory": "kitchen"},
]
SQUARE = [10, 20, 30, 20, 30, 40, 10, 40]


def annotation(number, **changes):
    row = {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 20, 20, 20],
        "segmentation": [SQUARE],
        "area": 400,
        "iscrowd": 0,
    }
    return {**row, **changes}


def write_folder(root, rows, split="val2017", photos="val2017", file_name="a.jpg", size=(80, 60)):
    (root / "annotations").mkdir(exist_ok=True)
    (root / photos).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(root / photos / "a.jpg")
    images = [{"id": 1, "file_name": file_name, "width": size[0], "height": size[1]}]
    content = {"images": images, "categories": CATEGORIES, "annotations": rows}
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return str(root)


def test_an_object_is_read_with_its_names_box_and_mask(tmp_path):
    found = coco.read_objects(write_folder(tmp_path, [annotation(7)]))
    assert found.rejected == ()
    (item,) = found.objects
    assert item.id == "coco-val2017-7"
    assert item.photo == PhotoObject(image_file="val2017/a.jpg", annotation_id=7, split="val2017")
    assert (item.category, item.supercategory, item.is_crowd) == ("dog", "animal", False)
    assert item.box == Box(left=10, top=20, right=30, bottom=40)
    mask = item.outline.mask(0, 0, 80, 60)
    assert mask.shape == (60, 80)
    assert mask[21:39, 11:29].all()
    assert not mask[:19].any()
    assert not mask[41:].any()
    assert not mask[:, :9].any()
    assert not mask[:, 31:].any()


def test_photos_may_lie_under_images(tmp_path):
    found = coco.read_objects(write_folder(tmp_path, [annotation(7)], photos="images/val2017"))
    assert found.objects[0].photo.image_file == "images/val2017/a.jpg"


def test_a_window_shows_the_same_mask_as_the_whole_photo(tmp_path):
    blob = [-9, 5, 40.5, 2, 70.2, 33, 33, 70]  # partly outside the photo
    (item,) = coco.read_objects(
        write_folder(tmp_path, [annotation(1, segmentation=[blob])])
    ).objects
    whole = item.outline.mask(0, 0, 80, 60)
    padded = item.outline.mask(-5, -6, 90, 70)
    assert np.array_equal(padded[6:66, 5:85], whole)
    assert padded.sum() == whole.sum() > 1000
    assert np.array_equal(item.outline.mask(20, 10, 50, 30), whole[10:30, 20:50])
    assert item.box.as_tuple() == pytest.approx((0.0, 2.0, 70.2, 60.0))


RLE_MASK = np.zeros((60, 80), dtype=bool)
RLE_MASK[5:25, 12:40] = True
RLE_MASK[10:15, 20:30] = False


def runs_of(mask):
    flat = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def test_run_lengths_give_the_mask_they_were_made_from(tmp_path):
    segmentation = {"counts": runs_of(RLE_MASK), "size": [60, 80]}
    row = annotation(3, segmentation=segmentation, iscrowd=1)
    (item,) = coco.read_objects(write_folder(tmp_path, [row])).objects
    assert np.array_equal(item.outline.mask(0, 0, 80, 60), RLE_MASK)
    assert np.array_equal(item.outline.mask(-3, 2, 30, 70)[:58, 3:], RLE_MASK[2:, :30])
    assert item.box == Box(left=12, top=5, right=40, bottom=25)
    assert item.is_crowd


def test_compressed_run_lengths_are_those_of_pycocotools():
    pycocotools = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for mask in (RLE_MASK, rng.random((60, 80)) > 0.7, ~RLE_MASK):
        packed = pycocotools.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert coco.unpack_runs(packed["counts"].decode()) == runs_of(mask)


BAD_ROWS = [
    ({"bbox": [10, 20, 0, 20]}, "box has no area"),
    ({"bbox": [10, 20, float("nan"), 20]}, "box has no area"),
    ({"category_id": 99}, "unknown category"),
    ({"image_id": 99}, "unknown image"),
    ({"segmentation": [[100, 100, 120, 100, 120, 130]]}, "mask is outside the image"),
    ({"segmentation": []}, "mask is empty"),
    ({"segmentation": [[1, 2, 3, 4]]}, "mask is empty"),
    ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "malformed annotation"),
    ({"segmentation": [[1, 2, 3, 4, 5, "x"]]}, "malformed annotation"),
    ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "malformed annotation"),
    ({"segmentation": None}, "malformed annotation"),
    ({"segmentation": {"counts": [4800], "size": [60, 80]}}, "mask is empty"),
    ({"segmentation": {"counts": [10, 10], "size": [60, 80]}}, "malformed annotation"),
    ({"segmentation": {"counts": [2400, 2400], "size": [80, 60]}}, "malformed annotation"),
    ({"segmentation": {"counts": [-5, 4805], "size": [60, 80]}}, "malformed annotation"),
    ({"bbox": [1, 2]}, "malformed annotation"),
    ({"bbox": None}, "malformed annotation"),
    ({"id": None}, "malformed annotation"),
    ({"id": 1}, "duplicate annotation id"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ROWS)
def test_one_bad_annotation_is_counted_and_the_rest_are_read(tmp_path, changes, reason):
    rows = [annotation(1), annotation(2, **changes), annotation(3)]
    found = coco.read_objects(write_folder(tmp_path, rows))
    assert [item.photo.annotation_id for item in found.objects] == [1, 3]
    (fell,) = found.rejected
    assert (fell.stage, fell.reason) == ("source", reason)
    assert fell.id.startswith("coco-val2017-")


@pytest.mark.parametrize(
    ("file_name", "reason"),
    [
        ("b.jpg", "image file is missing"),
        ("../x.jpg", "image path leaves the folder"),
        ("/etc/hostname", "image path leaves the folder"),
        ("", "image file is missing"),
    ],
)
def test_a_photo_that_is_not_there_or_not_ours_is_counted(tmp_path, file_name, reason):
    Image.new("RGB", (80, 60)).save(tmp_path / "x.jpg")
    found = coco.read_objects(write_folder(tmp_path, [annotation(1)], file_name=file_name))
    assert found.objects == ()
    assert [fell.reason for fell in found.rejected] == [reason]


def test_a_row_that_is_no_object_is_counted(tmp_path):
    found = coco.read_objects(write_folder(tmp_path, ["dog", None, annotation(1)]))
    assert [fell.reason for fell in found.rejected] == ["malformed annotation"] * 2
    assert len(found.objects) == 1


BAD_FILES = [
    ('{"images": [\n  oops]}', r"instances_val2017\.json:2:3: malformed JSON"),
    ("[]", "no list 'images'"),
    ('{"images": [], "annotations": []}', "no list 'categories'"),
    ('{"images": [{}], "categories": [], "annotations": []}', "'images' has no usable id"),
    ('{"images": [], "categories": [{"id": 1}, {"id": 1}], "annotations": []}', "repeat"),
    ('{"images": [], "categories": [], "annotations": {}}', "no list 'annotations'"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_a_file_that_is_not_coco_is_an_error_with_its_place(tmp_path, text, message):
    root = write_folder(tmp_path, [])
    (tmp_path / "annotations" / "instances_val2017.json").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        coco.read_objects(root)
    assert "instances_val2017.json" in str(caught.value)


def test_missing_photo_folder_says_where_photos_go(tmp_path):
    root = write_folder(tmp_path, [annotation(1)], photos="photos")
    with pytest.raises(DataError, match="nor images/val2017"):
        coco.read_objects(root)


def test_splits_come_in_name_order_and_a_missing_one_lists_what_is_there(tmp_path):
    root = write_folder(tmp_path, [annotation(1)])
    write_folder(tmp_path, [annotation(2)], split="train2017", photos="train2017")
    assert coco.splits_of(root, "instances") == ["train2017", "val2017"]
    assert coco.splits_of(root, "instances", "val") == ["val2017"]
    assert [item.id for item in coco.read_objects(root).objects] == [
        "coco-train2017-2",
        "coco-val2017-1",
    ]
    with pytest.raises(DataError, match=r"instances_test\*\.json.*train2017, val2017"):
        coco.splits_of(root, "instances", "test")
    with pytest.raises(DataError, match="Splits found: none"):
        coco.splits_of(str(tmp_path / "nowhere"), "instances")


def test_photo_objects_are_named_captions_without_crowds(tmp_path):
    rows = [annotation(1), annotation(2, iscrowd=1), annotation(3, category_id=9)]
    listed = list(coco.photo_objects(write_folder(tmp_path, rows)))
    photo = PhotoObject(image_file="val2017/a.jpg", annotation_id=1, split="val2017")
    assert [x for x in listed if isinstance(x, Caption)] == [
        Caption(id="coco-val2017-1", text="dog", photo=photo)
    ]
    assert [x.reason for x in listed if isinstance(x, Rejected)] == ["unknown category"]


def test_captions_are_read_and_empty_ones_counted(tmp_path):
    (tmp_path / "annotations").mkdir()
    rows = [
        {"id": 5, "image_id": 1, "caption": " A dog.\n"},
        {"id": 6, "image_id": 1, "caption": "  "},
        {"id": 7, "image_id": 1},
        {"id": 8, "image_id": 1, "caption": 3},
    ]
    path = tmp_path / "annotations" / "captions_train2017.json"
    path.write_text(json.dumps({"images": [], "annotations": rows}))
    listed = list(coco.read_captions(str(tmp_path), "train"))
    assert listed[0] == Caption(id="coco-train2017-5", text="A dog.")
    assert [item.reason for item in listed[1:]] == [
        "empty caption",
        "malformed annotation",
        "malformed annotation",
    ]


def two_tone(mode, size=(80, 60)):
    image = Image.new("RGB", size, (200, 40, 40))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1] - 1), fill=(20, 20, 220))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_photos_of_any_mode_open_as_rgb(tmp_path, mode):
    two_tone(mode).save(tmp_path / "p.jpg", quality=95)
    photo = coco.open_photo(str(tmp_path), "p.jpg", 80, 60)
    assert (photo.mode, photo.size) == ("RGB", (80, 60))
    left, right = np.asarray(photo)[30, 10].astype(int), np.asarray(photo)[30, 70].astype(int)
    assert np.abs(left - right).max() > 25


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_refer_to_the_stored_pixels_whatever_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_tone("RGB").save(tmp_path / "p.png", exif=exif)
    stored = np.asarray(two_tone("RGB"))
    photo = coco.open_photo(str(tmp_path), "p.png", 80, 60)
    assert np.array_equal(np.asarray(photo), stored)


def test_a_photo_annotated_upright_opens_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    two_tone("RGB").save(tmp_path / "p.png", exif=exif)
    photo = coco.open_photo(str(tmp_path), "p.png", 60, 80)
    assert photo.size == (60, 80)
    assert np.array_equal(np.asarray(photo), np.rot90(np.asarray(two_tone("RGB")), -1))


def test_a_photo_of_another_size_a_cut_one_and_a_foreign_path_are_errors(tmp_path):
    two_tone("RGB").save(tmp_path / "p.jpg")
    with pytest.raises(DataError, match=r"80x60 pixels.*record 81x60"):
        coco.open_photo(str(tmp_path), "p.jpg", 81, 60)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "p.jpg").read_bytes()[:600])
    with pytest.raises(DataError, match=r"cut\.jpg: not a readable image"):
        coco.open_photo(str(tmp_path), "cut.jpg", 80, 60)
    with pytest.raises(DataError, match="leaves the data root"):
        coco.open_photo(str(tmp_path / "sub"), "../p.jpg", 80, 60)

"""Photos of annotated objects: the mask, the box, and others of the same kind."""

import numpy as np
import pytest
from drawn_photos import COLOURS, Folder, five_photos, ring

from imgdiff.backends.composite import CompositeConfig
from imgdiff.backends.photographs import PhotographConfig
from imgdiff.backends.protocols import Photographer, Refusal
from imgdiff.core.records import CaptionPair, PhotoObject


def asked(number, file="001.png"):
    photo = PhotoObject(image_file=f"val2017/{file}", annotation_id=number, split="val2017")
    return CaptionPair(id=f"p{number}", left="", right="", seed=number, photo=photo)


def photograph(root, *pairs, **limits):
    with PhotographConfig(composite=CompositeConfig(root=str(root), **limits)).build() as shows:
        assert isinstance(shows, Photographer)
        return shows.photograph(pairs)


def test_the_mask_marks_the_object_and_the_box_is_tight(tmp_path):
    five_photos(tmp_path)
    (shown,) = photograph(tmp_path, asked(1))
    pixels = np.asarray(shown.image)
    painted = (pixels == COLOURS[1]).all(axis=2)
    assert shown.name == "apple"
    assert (shown.mask & painted).sum() / (shown.mask | painted).sum() > 0.95
    rows, columns = np.nonzero(shown.mask)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert shown.box.as_tuple() == box
    assert not shown.alike.any()
    assert shown.same_kind == 0.0


def test_others_of_the_same_kind_are_marked_where_they_reach_into_the_box(tmp_path):
    folder = Folder(tmp_path)
    one, near = ring(80, 90, 30, 28), ring(115, 80, 20, 20)
    other_kind = ring(60, 120, 15, 15)
    folder.photo((2, one, {}), (2, near, {}), (3, other_kind, {}))
    folder.write()
    (shown,) = photograph(tmp_path, asked(1), max_target_contact=1.0)
    assert shown.alike[80, 115]
    assert not shown.alike[120, 60]
    left, top, right, bottom = (int(v) for v in shown.box.as_tuple())
    assert shown.same_kind == pytest.approx(shown.alike[top:bottom, left:right].mean())
    assert shown.same_kind > 0.05


def test_what_cannot_be_shown_is_refused_with_a_reason(tmp_path):
    five_photos(tmp_path)
    (small,) = photograph(tmp_path, asked(1), min_object_px=100)
    assert isinstance(small, Refusal)
    assert small.reason == "object too small"
    (tmp_path / "val2017" / "001.png").write_bytes(b"no image")
    (broken,) = photograph(tmp_path, asked(1))
    assert isinstance(broken, Refusal)
    assert broken.reason == "photo cannot be read"

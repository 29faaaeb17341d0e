"""Object removal end to end: files, right answers, untouched surroundings, equal bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_photos import Folder, five_photos, ring
from PIL import Image

from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.errors import ConfigError
from imgdiff.core.masks import mask_of
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pipeline import run

FAMILY = ("clip", "blip", "fastsam", "describer")
shipped = pytest.mark.skipif(
    not all((mini_root() / name).exists() for name in FAMILY), reason="mini family not built yet"
)
WIDTH, DIVIDER = 240, 20
QUESTION = (
    "<image>\nAnalyse the left image and the right image (separated by the black vertical bar). "
    'Which image has the object related to "{}" within the red bounding box?\n'
    "A. the left image\nB. the right image\n"
    "Answer with the option's letter from the given choices directly."
)


def synth(tmp_path, *overrides, out="out"):
    register()
    folder = tmp_path / out
    settings = [f"output_dir={folder}", f"store_dir={tmp_path / 'store'}", "workers=1", *overrides]
    run(compose_typed("synth", SynthConfig, settings))
    return folder


def photos(tmp_path, *overrides, out="out"):
    """A run on five drawn photos, lossless throughout."""
    root = tmp_path / "photos"
    if not root.exists():
        five_photos(root)
    where = ["source=coco", f"source.root={root}", "generator=composite", "source.limit=5"]
    lossless = ["store_format=png", "export.image_format=png"]
    return synth(tmp_path, *where, *lossless, *overrides, out=out)


def rows_of(out):
    return json.loads((out / "dataset" / "img_diff.json").read_text())


def removals_of(out):
    return pq.read_table(out / "removals.parquet").to_pylist()


def tree(folder):
    names = ("audit.json", "funnel.json", "gallery.html", "stats.html", "removals.parquet")
    found = {name: (folder / name).read_bytes() for name in names}
    for path in sorted((folder / "dataset").rglob("*")):
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def test_removal_asks_which_image_has_the_object(tmp_path):
    out = photos(tmp_path, "edit=remove")
    rows = rows_of(out)
    assert len(rows) == 5
    for row in rows:
        assert list(row) == [
            "id", "image", "conversations", "bbox", "captions1", "captions2", "path", "task",
        ]  # fmt: skip
        human, gpt = (turn["value"] for turn in row["conversations"])
        said = row["captions1"] or row["captions2"]
        assert said in ("An apple.", "A dog.", "A cup.")
        assert human == QUESTION.format(said)
        assert (gpt, row["task"]) == ("A" if row["captions1"] else "B", "remove")
        assert not (row["captions1"] and row["captions2"])
    assert {row["conversations"][1]["value"] for row in rows} == {"A", "B"}
    assert json.loads((out / "run.json").read_text())["models_loaded"] == []


def test_the_answer_names_the_side_that_shows_the_photo(tmp_path):
    out = photos(tmp_path, "edit=remove")
    held = {row["id"]: row for row in removals_of(out)}
    for row in rows_of(out):
        removal = held[row["id"].replace("_img0_0", "-m0")]
        photo = np.asarray(Image.open(tmp_path / "store" / removal["original"]))
        pixels = np.asarray(Image.open(out / "dataset" / row["image"]))
        sides = [pixels[:, :WIDTH], pixels[:, WIDTH + DIVIDER :]]
        left, top, right, bottom = (int(removal[k]) for k in ("left", "top", "right", "bottom"))
        box = np.s_[top:bottom, left:right]
        same = [np.array_equal(side[box], photo[box]) for side in sides]
        assert same == [letter == row["conversations"][1]["value"] for letter in "AB"]
        assert not pixels[:, WIDTH : WIDTH + DIVIDER].any()


def test_not_a_byte_changes_outside_the_grown_mask(tmp_path):
    cv2 = pytest.importorskip("cv2")
    out = photos(tmp_path, "edit=remove", "removal.dilate_px=3", "removal.feather_px=2")
    for row in removals_of(out):
        photo = np.asarray(Image.open(tmp_path / "store" / row["original"]))
        patch = np.asarray(Image.open(tmp_path / "store" / row["patch"]))
        after = photo.copy()
        top, left = row["patch_top"], row["patch_left"]
        after[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        coco = json.loads(row["mask"])
        mask = mask_of(coco["counts"], *coco["size"][::-1])
        assert mask.sum() == row["mask_px"] > 1000
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
        grown = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
        assert np.array_equal(after[~grown], photo[~grown])
        change = np.abs(after[mask].astype(int) - photo[mask]).mean()
        assert row["change"] == pytest.approx(change, abs=1e-3)
        # What was one colour is the photo's noise now.
        assert after[mask].std() > 5
        assert np.abs(after[mask].mean() - 124.5) < 5


def test_red_boxes_are_drawn_on_both_and_stay_inside(tmp_path):
    root = tmp_path / "photos"
    folder = Folder(root)
    folder.photo((2, ring(34, 34, 30, 30), {}))
    folder.write()
    out = photos(tmp_path, "edit=remove")
    (row,) = rows_of(out)
    pixels = np.asarray(Image.open(out / "dataset" / row["image"]))
    for offset in (0, WIDTH + DIVIDER):
        assert (pixels[30, offset : offset + 3] == (255, 0, 0)).all()  # 4 - 15 is outside
        edge = pixels[30, offset + 60 : offset + 90]
        assert (edge == (255, 0, 0)).all(axis=1).sum() == 3


def test_both_leaves_the_replacements_as_they_are(tmp_path):
    alone, both = photos(tmp_path, out="alone"), photos(tmp_path, "edit=both", out="both")
    rows = rows_of(both)
    replaced = [row for row in rows if row["task"] == "replace"]
    assert [{k: v for k, v in row.items() if k != "task"} for row in replaced] == rows_of(alone)
    assert sum(row["task"] == "remove" for row in rows) == 5
    assert len({row["id"] for row in rows}) == len(rows) == 10
    for row in replaced:
        path = f"dataset/{row['image']}"
        assert (both / path).read_bytes() == (alone / path).read_bytes()
    table = pq.read_table(both / "dataset" / "img_diff.parquet")
    assert table.column("task").to_pylist() == [row["task"] for row in rows]
    funnel = json.loads((both / "funnel.json").read_text())
    assert funnel["samples"] == 10
    assert funnel["removals"][-1]["out"] == 5


def test_a_run_that_removes_nothing_knows_nothing_of_it(tmp_path):
    out = photos(tmp_path)
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert not {"edit", "inpainter", "removal"} & settings.keys()
    assert "removal" not in settings["rules"]
    assert not (out / "removals.parquet").exists()
    for name in ("funnel.json", "audit.json", "gallery.html", "stats.html", "dataset/README.md"):
        assert "remov" not in (out / name).read_text()
    photos(tmp_path, "inpainter.context_px=50")  # the same run: nothing to do, nothing refused


def test_the_card_the_gallery_and_the_audit_tell_of_removal(tmp_path):
    out = photos(tmp_path, "edit=both")
    audit = json.loads((out / "audit.json").read_text())
    for figure in ("answer_accuracy", "box_precision", "name_accuracy"):
        assert audit[f"removal_{figure}"] == 1.0
    assert audit["object_gone"] is None  # nothing was matched
    assert "removal answer accuracy" in audit["definitions"]
    card = (out / "dataset" / "README.md").read_text()
    assert "patches copied from around the hole" in card
    assert "| task |" in card
    page = (out / "gallery.html").read_text()
    assert "Removed objects" in page
    assert page.count("the object is shown") == 5


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("rules.removal.max_mask=0.01", "mask covers the image"),
        ("rules.removal.min_change=200", "removal is hardly visible"),
        ("rules.removal.max_area=0.01", "object too large"),
        ("rules.removal.min_area=0.3", "object too small"),
    ],
)
def test_what_falls_is_counted_with_its_reason(tmp_path, override, reason):
    extra = ("rules.removal.max_area=0.9",) if "min_area" in override else ()
    out = photos(tmp_path, "edit=remove", override, *extra)
    assert {row["reason"] for row in removals_of(out)} == {reason}
    funnel = json.loads((out / "funnel.json").read_text())
    assert funnel["samples"] == 0
    assert sum(step["rejected"].get(reason, 0) for step in funnel["removals"]) == 5
    items = {step["stage"]: step["rejected"] for step in funnel["items"]}
    assert items["removal"] == {"no removal left": 5}
    assert reason in (out / "gallery.html").read_text()


def test_nothing_is_asked_where_another_of_its_kind_is_in_the_box(tmp_path):
    folder = Folder(tmp_path / "photos")
    folder.photo((2, ring(80, 90, 30, 28), {}), (2, ring(118, 76, 24, 24), {}))
    folder.write()
    out = photos(tmp_path, "edit=remove", "generator.max_target_contact=1")
    assert {row["reason"] for row in removals_of(out)} == {"another of its kind in the box"}


def test_two_workers_write_the_same_bytes(tmp_path):
    stores = [f"store_dir={tmp_path / name}" for name in ("s1", "s2")]
    settings = ("edit=both", "shard_size=2")
    one = photos(tmp_path, *settings, stores[0], out="one")
    two = photos(tmp_path, *settings, stores[1], "workers=2", out="two")
    assert tree(one) == tree(two)


@pytest.mark.timeout(600)
def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    whole = photos(tmp_path, "edit=both", "shard_size=1", f"store_dir={tmp_path / 's1'}")
    command = [
        sys.executable, "-m", "imgdiff.synth", "source=coco", "edit=both", "shard_size=1",
        f"source.root={tmp_path / 'photos'}", "generator=composite", "source.limit=5",
        "store_format=png", "export.image_format=png", "workers=1",
        f"output_dir={tmp_path / 'killed'}", f"store_dir={tmp_path / 's2'}",
    ]  # fmt: skip
    moments = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(1.0, 4.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    last = subprocess.run(command, capture_output=True, check=False)
    assert last.returncode == 0, last.stderr.decode()
    assert tree(tmp_path / "killed") == tree(whole)


@shipped
def test_learned_removal_on_the_world_decides_anew_without_models(tmp_path):
    world = ["edit=remove", "source.limit=12", "source.split=test"]
    first = synth(tmp_path, *world, out="first")
    loaded = json.loads((first / "run.json").read_text())["models_loaded"]
    assert set(loaded) == {"embedder", "masker", "matcher", "describer"}
    audit = json.loads((first / "audit.json").read_text())
    assert audit["removal_answer_accuracy"] == 1.0
    assert audit["removal_box_precision"] >= 0.9
    assert audit["object_gone"] >= 0.8
    rows = removals_of(first)
    assert {row["side"] for row in rows if row["kept"]} == {0, 1}
    cut = sorted(row["match_inpainted"] for row in rows if row["kept"])[1]
    again = synth(tmp_path, *world, f"rules.removal.inpainted_match.at_most={cut}", out="again")
    assert json.loads((again / "run.json").read_text())["models_loaded"] == []
    assert len(rows_of(again)) == 2  # the boundary itself is kept
    reasons = {row["reason"] for row in removals_of(again)}
    assert "object is still there" in reasons


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("edit=other", "edit=other"),
        ("inpainter=other", "other"),
        ("inpainter.context_px=0", r"inpainter\.context_px=0"),
        ("rules.removal.original_match.at_least=nan", r"rules\.removal\.original_match .*not a nu"),
        ("rules.removal.inpainted_match.below=0.5", r"rules\.removal\.inpainted_match .*drop one"),
        ("rules.removal.max_iou=2", r"rules\.removal\.max_iou=2"),
        ("rules.removal.max_mask=nan", r"rules\.removal\.max_mask=nan"),
        ("rules.removal.min_change=nan", r"rules\.removal\.min_change=nan"),
        ("rules.removal.min_area=0.9", r"rules\.removal\.min_area=0\.9"),
        ("rules.removal.max_per_side=0", r"rules\.removal\.max_per_side=0"),
        ("removal.confidence=1.5", r"removal\.confidence=1\.5"),
        ("removal.dilate_px=-1", r"removal\.dilate_px=-1"),
        ("removal.feather_px=9", r"removal\.feather_px=9: exceeds"),
        ("removal.box_margin_px=inf", r"removal\.box_margin_px=inf"),
        ("removal.question=what", r"removal\.question=.*\{caption\}"),
        ("rules.regions_from=truth", "edit=remove with rules.regions_from=truth needs masks"),
    ],
)
def test_wrong_settings_are_named(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        synth(tmp_path, "edit=remove", override)
    assert not (tmp_path / "out").exists()


def test_profiles_carry_the_published_values():
    register()
    paper, released = (
        compose_typed(
            "synth",
            SynthConfig,
            ["preset=paper", f"profile={profile}", "source.root=x", "edit=both"],
        )
        for profile in ("paper", "released_code")
    )
    for config in (paper, released):
        rules = config.rules.removal
        assert (rules.crop_similarity.below, rules.max_iou, rules.max_per_side) == (0.9, 0.5, 3)
        assert rules.original_match.accepts(0.35)
        assert rules.inpainted_match.accepts(0.2)
        assert not rules.original_match.accepts(0.349)
        assert not rules.inpainted_match.accepts(0.201)
        assert (config.removal.confidence, config.removal.box_margin_px) == (0.1, 15.0)
        made = config.inpainter
        assert (made.model, made.prompt) == ("stabilityai/sdxl-turbo", "background, nothing, 8k")
        assert (made.strength, made.guidance, made.steps, made.size_px) == (0.85, 0.0, 4, 512)
        assert [item.key for item in config.needed()][-1] == "inpainter.model"
    assert paper.removal.paste_back
    assert not released.removal.paste_back
    assert (released.removal.dilate_px, released.removal.feather_px) == (0, 0)
    assert released.removal.question.startswith("Analyse the the left")
    assert paper.removal.question == QUESTION.format("{caption}").removeprefix("<image>\n")

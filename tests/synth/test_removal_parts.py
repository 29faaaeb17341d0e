"""Object removal piece by piece: hand-made cases of selection, masks, audit and the card."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgdiff.core.geometry import Box
from imgdiff.core.images import save_image
from imgdiff.core.masks import mask_text, runs_of
from imgdiff.core.records import Change, ImagePair, NamedBox, PairTruth, Side
from imgdiff.core.store import Store
from imgdiff.launch import compose_typed
from imgdiff.synth.audit import audit_report, held_by, removal_counts
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.removal_candidates import select_removals
from imgdiff.synth.removal_card import OUTLINE, removal_card
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.removal_export import answer_shows
from imgdiff.synth.removal_states import Inpainted, RemovalState, Stored
from imgdiff.synth.removals import answer_of, paint_over, place_removals
from imgdiff.synth.states import ItemState
from imgdiff.synth.tools import Backends, Tools

DOG = Box(left=10, top=10, right=30, bottom=30)
CUP = Box(left=70, top=70, right=90, bottom=90)


def tools_of(tmp_path, *overrides):
    register()
    settings = ["edit=remove", "rules.removal.max_area=1.0", *overrides]
    config = compose_typed("synth", SynthConfig, settings)
    return Tools(config, Store(tmp_path / "store", "source"), Backends(config), 0)


def removal(number=0, box=DOG, side=Side.LEFT, **changes):
    original = Stored(path="a.png", id="abc", width=100, height=100)
    return RemovalState(
        id=f"p-m{number}", pair_id="p", side=side, box=box, original=original, **changes
    )


def item(*removals, truth=None):
    state = ItemState(id="p", caption=None, removals=list(removals))
    state.images = ImagePair(
        id="p", left_caption="a", right_caption="b", left_path="a.png", right_path="b.png",
        left_id="abc", right_id="def", width=100, height=100, seed=1, truth=truth,
    )  # fmt: skip
    return state


def test_each_side_keeps_its_most_different_boxes_that_do_not_overlap(tmp_path):
    shifted = DOG.moved(2, 0)
    boxes = [DOG, shifted, CUP, DOG.moved(40, 0), DOG.moved(0, 50), DOG.moved(60, 0)]
    scores = [0.5, 0.3, 0.7, 0.6, 0.8, 0.65]
    left = [
        removal(n, box, crop_similarity=score)
        for n, (box, score) in enumerate(zip(boxes, scores, strict=True))
    ]
    right = removal(9, DOG, Side.RIGHT, crop_similarity=0.89)
    select_removals([item(*left, right)], tools_of(tmp_path))
    fell = {r.id: r.rejected.reason if r.rejected else None for r in (*left, right)}
    beyond = "beyond the most different of its image"
    assert fell == {
        "p-m0": "overlaps a more different box", "p-m1": None, "p-m2": beyond, "p-m3": None,
        "p-m4": beyond, "p-m5": None, "p-m9": None,
    }  # fmt: skip


def test_equal_scores_keep_the_detectors_order(tmp_path):
    boxes = [DOG.moved(25 * n, 0) for n in range(4)]
    removals = [removal(n, box, crop_similarity=0.5) for n, box in enumerate(boxes)]
    select_removals([item(*removals)], tools_of(tmp_path, "rules.removal.max_per_side=2"))
    assert [r.rejected is None for r in removals] == [True, True, False, False]


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        (np.s_[0:0, 0:0], "mask is empty"),
        (np.s_[:, :], "mask covers the image"),
        (np.s_[1:99, 1:99], "mask covers the image"),
        (np.s_[0:97, 0:95], "mask covers the image"),
        (np.s_[40:60, 40:60], None),
    ],
)
def test_masks_that_leave_nothing_fall_with_a_reason(tmp_path, marks, reason):
    noise = np.random.default_rng(0).integers(0, 60, (100, 100, 3), np.uint8)
    noise[40:60, 40:60] = 250
    tools = tools_of(tmp_path)
    save_image(Image.fromarray(noise), tmp_path / "store" / "a.png")
    mask = np.zeros((100, 100), dtype=bool)
    mask[marks] = True
    made = removal(runs=runs_of(mask))
    paint_over([item(made)], tools)
    assert (made.rejected.reason if made.rejected else None) == reason
    if reason is None:
        assert made.inpainted is not None
        painted = np.asarray(made.inpainted.open(tools.root, Image.fromarray(noise)))
        assert painted[40:60, 40:60].max() < 120
        assert made.inpainted.window is not None
        left, top, right, bottom = made.inpainted.window
        assert 34 <= min(left, top) <= max(right, bottom) <= 66


def test_sides_follow_run_seed_and_id_and_the_letter_follows_the_side(tmp_path):
    def drawn(seed):
        removals = [removal(n) for n in range(40)]
        place_removals([item(*removals)], tools_of(tmp_path, f"seed={seed}"))
        assert all(answer_of(r) == ("A" if r.shown is Side.LEFT else "B") for r in removals)
        return [r.shown for r in removals]

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert one == again != other
    assert 10 < one.count(Side.LEFT) < 30


def test_an_answer_that_names_the_painted_side_is_not_right():
    original, painted = Image.new("RGB", (100, 100), "white"), Image.new("RGB", (100, 100))
    on_right = removal(shown=Side.RIGHT)
    assert answer_shows(on_right, original, (painted, original))
    assert not answer_shows(on_right, original, (original, painted))
    assert not answer_shows(on_right, original, (original, original))


TRUTH = PairTruth(
    changes=(Change(left_name="dog", right_name="", left_box=DOG, right_box=None),),
    left_objects=(NamedBox(name="dog", box=DOG), NamedBox(name="cup", box=CUP)),
    right_objects=(NamedBox(name="cup", box=CUP),),
)


def test_what_a_box_truly_holds_is_asked_of_its_own_image():
    assert held_by(DOG, Side.LEFT, TRUTH) == ("dog", True)
    assert held_by(DOG, Side.RIGHT, TRUTH) == ("", False)
    assert held_by(CUP, Side.RIGHT, TRUTH) == ("cup", True)
    assert held_by(DOG.grown(10), Side.LEFT, TRUTH) == ("dog", False)
    bare = PairTruth(changes=TRUTH.changes)
    assert held_by(DOG, Side.LEFT, bare) == ("dog", True)
    assert held_by(DOG, Side.RIGHT, bare) == ("", False)


def test_the_audit_counts_gone_and_named_objects():
    kept = removal(0, content="A brown dog.", match=(0.5, 0.1))
    misnamed = removal(1, CUP, content="A dog.", match=(0.5, 0.2))
    there = removal(2, content="A dog.", match=(0.5, 0.4))
    there.reject("match", "object is still there")
    unfit = removal(3, content="A cat.", match=(0.1, 0.0))
    unfit.reject("match", "description does not fit the object")
    counts = removal_counts([item(kept, misnamed, there, unfit, truth=TRUTH)])
    report = audit_report(counts, edit=Edit.remove)
    assert report["removal_box_precision"] == 1.0
    assert report["removal_name_accuracy"] == 0.5
    assert report["object_gone"] == pytest.approx(2 / 3, abs=1e-4)
    assert "object_gone" not in audit_report(counts)


def test_the_funnel_counts_removals_beside_regions():
    fell = removal(1)
    fell.reject("mask", "mask is empty")
    funnel, joined = Funnel(), Funnel()
    funnel.count([item(removal(0), fell), item(removal(2))])
    joined.add(funnel.to_json())
    report = joined.report(edit=Edit.remove)
    stages = {row["stage"]: (row["in"], row["out"]) for row in report["removals"]}
    assert stages["propose"] == (3, 3)
    assert stages["mask"] == (3, 2)
    assert (report["samples"], report["pairs_with_samples"]) == (2, 2)
    assert report["regions"] == []
    assert [row["stage"] for row in report["items"]][-1] == "removal"
    assert "removals" not in joined.report()


def row_of_card(store: Path, **changes):
    mask = np.zeros((100, 100), dtype=bool)
    mask[10:30, 10:30] = True
    save_image(Image.new("RGB", (100, 100), (90, 90, 90)), store / "a.png")
    save_image(Image.new("RGB", (20, 20), (0, 90, 0)), store / "patch.png")
    row = {
        "id": "p-m0", "pair_id": "p", "side": 1, "left": 10.0, "top": 10.0, "right": 30.0,
        "bottom": 30.0, "crop_similarity": 0.5, "mask": mask_text(runs_of(mask), 100, 100),
        "original": "a.png", "patch": "patch.png", "patch_left": 10, "patch_top": 10,
        "change": 50.2, "content": "A <b>dog</b>.", "match_original": 0.5,
        "match_inpainted": 0.1, "shown": 1, "question": "Which\nA. left?", "answer": "B",
        "true_name": "dog", "kept": True, "stage": None, "reason": None, "detail": None,
    }  # fmt: skip
    return {"removal": row | changes}


def test_the_card_shows_mask_question_and_answer_and_escapes_text(tmp_path):
    page = removal_card(row_of_card(tmp_path), tmp_path)
    assert "A &lt;b&gt;dog&lt;/b&gt;." in page
    assert "<b>B</b> (the object is shown right)" in page
    assert "0.500 | 0.100" in page
    assert "50 grey levels" in page
    encoded = re.search(r"base64,([^\"]+)", page)
    assert encoded
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[1])))).astype(int)
    assert picture.shape == (300, 620, 3)  # enlarged three times
    for offset in (0, 320):  # the box, drawn just outside 30..90
        for x, y in ((28, 60), (91, 60), (60, 28), (60, 91)):
            red, green, blue = picture[y, offset + x]
            assert red > 180 > 90 > max(green, blue)


def test_a_card_without_its_image_says_so(tmp_path):
    entry = row_of_card(tmp_path, patch="gone.png", question=None, content=None, change=None)
    assert "gone.png" in removal_card(entry, tmp_path)


def test_the_outline_follows_the_mask(tmp_path):
    from imgdiff.synth.removal_card import outlined

    row = row_of_card(tmp_path)["removal"]
    drawn = np.asarray(outlined(Image.new("RGB", (200, 200)), row, (100, 100)))
    marked = (drawn == OUTLINE).all(axis=2)
    assert marked[20:60, 20].all()
    assert not marked[30:50, 30:50].any()
    assert not marked[:19].any()
    assert json.loads(row["mask"])["size"] == [100, 100]


def test_no_difference_leaves_no_patch(tmp_path):
    same = Inpainted(id="abc", patch=None, window=None, change=0.0)
    image = Image.new("RGB", (4, 4), (1, 2, 3))
    assert np.array_equal(np.asarray(same.open(tmp_path, image)), np.asarray(image))

"""The audit's verdicts on hand-made cases."""

from collections import Counter

import pytest

from imgdiff.core.geometry import Box
from imgdiff.core.records import Change, ImagePair, NamedBox, PairTruth, Region, Side
from imgdiff.synth.audit import (
    audit_counts,
    audit_report,
    box_is_right,
    names,
    sentence_is_right,
    true_names,
)
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.states import ItemState, RegionState

CAT = Box(left=10, top=10, right=30, bottom=30)
DOG = Box(left=12, top=10, right=32, bottom=34)
CUP = Box(left=70, top=70, right=90, bottom=90)
TRUTH = PairTruth(
    changes=(Change(left_name="cat", right_name="dog", left_box=CAT, right_box=DOG),),
    left_objects=(NamedBox(name="cat", box=CAT), NamedBox(name="cup", box=CUP)),
    right_objects=(NamedBox(name="dog", box=DOG), NamedBox(name="cup", box=CUP)),
)


def region(box=CAT, contents=("A red cat.", "A dog."), sentence=""):
    made = Region(id="p-r0", pair_id="p", side=Side.LEFT, box=box)
    return RegionState(region=made, contents=contents, sentence=sentence or None)


def test_a_name_inside_another_word_is_not_that_name():
    said = "The left image shows a carrot, while the right image shows a car."
    assert sentence_is_right(region(sentence=said), "carrot", "car")
    assert not sentence_is_right(region(sentence=said), "car", "carrot")


def test_a_box_is_right_by_either_side():
    assert box_is_right(CAT, TRUTH)
    assert box_is_right(DOG, TRUTH)
    assert not box_is_right(CUP, TRUTH)
    assert not box_is_right(Box(left=10, top=10, right=70, bottom=70), TRUTH)


def test_names_come_from_what_the_box_holds():
    assert true_names(CAT, TRUTH) == ("cat", "dog")
    assert true_names(CUP, TRUTH) == ("cup", "cup")
    assert true_names(Box(left=40, top=0, right=50, bottom=9), TRUTH) == ("", "")
    changes_only = PairTruth(changes=TRUTH.changes)
    assert true_names(CAT, changes_only) == ("cat", "dog")
    assert true_names(CUP, changes_only) == ("", "")


@pytest.mark.parametrize(
    ("text", "name", "named"),
    [
        ("A small red cat.", "cat", True),
        ("Two cats.", "cat", True),
        ("A catalogue.", "cat", False),
        ("A bobcat.", "cat", False),
        ("The BUS.", "bus", True),
        ("Two buses.", "bus", True),
        ("A cat.", "", False),
        ("A c.t", "c.t", True),
        ("A cat", "c.t", False),
    ],
)
def test_names_as_whole_words(text, name, named):
    assert names(text, name) is named


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        ("The left image shows a cat, while the right image shows a dog.", True),
        ("The left image shows a dog, while the right image shows a cat.", False),
        ("The right image shows a dog, the left one a cat.", True),
        ("The right image shows a cat, the left one a dog.", False),
        ("The cat in the left image is replaced by a dog in the right image.", True),
        ("A cat became a dog.", True),
        ("The left image shows a cat.", False),
        ("They are the same.", False),
    ],
)
def test_sentences_name_both_objects_on_their_sides(sentence, right):
    assert sentence_is_right(region(sentence=sentence), "cat", "dog") is right


def _state(regions, truth=TRUTH):
    images = ImagePair(
        id="p", left_caption="A cat.", right_caption="A dog.", left_path="0.png",
        right_path="1.png", left_id="a", right_id="b", width=100, height=100, seed=1, truth=truth,
    )  # fmt: skip
    return ItemState(id="p", caption=None, images=images, regions=regions)


def test_counts_and_shares():
    good = region(sentence="The left image shows a cat, while the right image shows a dog.")
    bad = region(CUP, ("A cup.", "A hat."), "The left image shows a cup, the right one a hat.")
    unchanged = PairTruth(changes=(), note="ignored")
    counts = audit_counts([_state([good, bad]), _state([], TRUTH), _state([], unchanged)])
    report = audit_report(counts)
    assert report["n_pairs"] == 3
    assert report["box_precision"] == 0.5
    assert report["changed_pair_recall"] == 0.5
    assert report["region_name_accuracy"] == 0.75
    assert report["difference_accuracy"] == 0.5
    assert report["what_the_generator_did"] == {"ignored": 1, "replaced": 2}


def test_nothing_known_is_none_and_not_zero():
    report = audit_report(audit_counts([_state([], None)]))
    assert report["n_pairs"] == 1
    assert report["box_precision"] is None
    assert report["changed_pair_recall"] is None


def test_rejected_regions_and_items_do_not_count():
    fallen = region(sentence="x")
    fallen.reject("match", "no changed object in the box")
    item = _state([region(sentence="The left image shows a cat, the right one a dog.")])
    item.reject("image_similarity", "images too alike")
    counts = audit_counts([_state([fallen]), item])
    assert counts["regions"] == 0
    assert counts["changed_found"] == 0
    assert counts["changed"] == 2


def test_a_report_by_construction_says_so() -> None:
    assert "not a model" in str(audit_report(Counter(pairs=1), by_construction=True)["remark"])
    assert audit_report(Counter(pairs=1))["remark"] == ""


def test_what_a_matcher_said_is_not_called_bookkeeping() -> None:
    counts = Counter(pairs=4, removals_scored=4, removals_gone=3)
    report = audit_report(counts, by_construction=True, edit=Edit.remove)
    assert report["object_gone"] == 0.75
    assert str(report["remark"]).endswith("Object gone alone is a model's word: the matcher's.")
    unmatched = audit_report(Counter(pairs=4), by_construction=True, edit=Edit.remove)
    assert "matcher" not in str(unmatched["remark"])

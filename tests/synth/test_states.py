"""States survive their JSON form; the first rejection stays the one that counts."""

from imgdiff.core.geometry import Box
from imgdiff.core.records import Caption, Change, NamedBox, PairTruth, PhotoObject, Rejected
from imgdiff.synth.states import (
    caption_to_json,
    open_items,
    state_from_json,
    truth_from_json,
    truth_to_json,
)

BOX = Box(left=1.5, top=2, right=30, bottom=40)


def test_captions_survive():
    photo = PhotoObject(image_file="train/1.jpg", annotation_id=7, split="train")
    for caption in (Caption(id="a", text="A dog 🐶."), Caption(id="b", text="dog", photo=photo)):
        assert state_from_json(caption_to_json(caption)).caption == caption


def test_rejected_rows_survive_and_are_closed():
    rejected = Rejected(id="a", stage="source", reason="empty caption", detail="''")
    state = state_from_json(caption_to_json(rejected))
    assert state.rejected == rejected
    assert open_items([state]) == []


def test_truth_survives():
    change = Change(left_name="cat", right_name="", left_box=BOX, right_box=None)
    named = (NamedBox(name="cat", box=BOX),)
    truth = PairTruth(changes=(change,), left_objects=named, right_objects=(), note="redrawn")
    assert truth_from_json(truth_to_json(truth)) == truth
    assert truth_from_json(None) is None

"""Scores of real annotations, made once with pycocoevalcap 1.2.

IMGDIFF_ANNOTATIONS names a folder that holds spot-the-diff/test.json and
image-edit-request/test.json as their authors publish them; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgdiff.eval.captions.scoring import score_captions
from imgdiff.eval.captions.texts import CaptionSet

VARIABLE = "IMGDIFF_ANNOTATIONS"
FOLDER = os.environ.get(VARIABLE)
pytestmark = pytest.mark.skipif(
    FOLDER is None, reason=f"{VARIABLE} names no folder of annotations (see the module's docstring)"
)


def rows(name):
    return json.loads((Path(FOLDER) / name / "test.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def edits():
    """Image-Edit-Request: three sentences per item."""
    found = {row["uid"]: tuple(row["sents"]) for row in rows("image-edit-request")}
    assert len(found) == 495
    return found


@pytest.fixture(scope="module")
def spots():
    """Spot-the-Diff: the sentences of all items with one image, empty ones included."""
    found = {}
    for row in rows("spot-the-diff"):
        found.setdefault(row["img_id"], []).extend(row["sentences"])
    assert len(found) == 1270
    return {id_: tuple(texts) for id_, texts in found.items()}


def leave_one_out(by_item):
    """Each sentence against the others of its item."""
    parts = [
        (f"{id_}:{place}", texts[place], texts[:place] + texts[place + 1 :])
        for id_, texts in by_item.items()
        for place in range(len(texts))
        if len(texts) > 1
    ]
    ids, hypotheses, references = zip(*parts, strict=True)
    return CaptionSet(ids=ids, hypotheses=hypotheses, references=references)


def constant(caption, by_item):
    return CaptionSet(
        ids=tuple(by_item),
        hypotheses=(caption,) * len(by_item),
        references=tuple(by_item.values()),
    )


def assert_scores(captions, tools, expected, digits=6):
    found = score_captions(captions, tools=tools, resamples=1)
    rounded = {name: round(found.scores[name], digits) for name in expected}
    assert rounded == expected
    return found


def test_people_on_image_edit_request(edits, tools):
    expected = {
        "bleu_1": 0.513933,
        "bleu_2": 0.333932,
        "bleu_3": 0.201805,
        "bleu_4": 0.121324,
        "meteor": 0.214433,
        "rouge_l": 0.443170,
        "cider_d": 0.793197,
    }
    found = assert_scores(leave_one_out(edits), tools, expected)
    totals = found.statistics.bleu.sum(axis=0).tolist()
    assert totals[:2] + totals[6:] == [11735, 11194, 6031, 2224, 646, 193]
    assert len(found.statistics) == 1485


def test_the_first_person_on_image_edit_request(edits, tools):
    captions = CaptionSet(
        ids=tuple(edits),
        hypotheses=tuple(texts[0] for texts in edits.values()),
        references=tuple(texts[1:] for texts in edits.values()),
    )
    expected = {
        "bleu_1": 0.422019,
        "bleu_2": 0.252711,
        "bleu_3": 0.146786,
        "bleu_4": 0.088091,
        "meteor": 0.170655,
        "rouge_l": 0.360895,
        "cider_d": 0.577608,
    }
    assert_scores(captions, tools, expected)


def test_a_constant_caption_on_image_edit_request(edits, tools):
    expected = {
        "bleu_1": 0.263400,
        "bleu_4": 0.004247,
        "meteor": 0.092127,
        "rouge_l": 0.355324,
        "cider_d": 0.230647,
    }
    found = assert_scores(constant("remove the background", edits), tools, expected)
    assert found.diagnostics.distinct == 1


def test_a_constant_caption_on_spot_the_diff(spots, tools):
    """The published figures have two digits, in percent."""
    expected = {"bleu_4": 0.0834, "meteor": 0.1207, "rouge_l": 0.2735, "cider_d": 0.2972}
    caption = "there is a person walking in the parking lot"
    assert_scores(constant(caption, spots), tools, expected, digits=4)


def test_people_on_spot_the_diff(spots, tools):
    """Images with two sentences or more. Figures in percent with two digits."""
    expected = {"bleu_4": 0.1586, "meteor": 0.1815, "rouge_l": 0.3564, "cider_d": 0.6491}
    assert_scores(leave_one_out(spots), tools, expected, digits=4)

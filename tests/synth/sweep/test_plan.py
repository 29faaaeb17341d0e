"""Which rows of a multirun share their work, and which would draw images of their own."""

from dataclasses import fields

import pytest

from imgdiff.core.errors import ConfigError
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.selection import Rules
from imgdiff.synth.sweep.plan import THRESHOLDS, check_images, groups, image_sets

# Rules that change what a model is shown, or whether it is asked at all.
OTHERS = {"regions_from", "noun_side", "content_margin_px", "removal"}


def rows(*changes):
    register()
    return [compose_typed("synth", SynthConfig, change.split()) for change in changes]


def test_every_rule_either_decides_or_not() -> None:
    names = {field.name for field in fields(Rules)}
    assert names == THRESHOLDS | OTHERS
    assert not THRESHOLDS & OTHERS


def test_rows_that_differ_in_thresholds_alone_belong_together() -> None:
    found = groups(
        rows(
            "rules.match.above=0.3", "rules.noun_side=head", "rules.max_iou=0.4 output_dir=other",
            "rules.match.above=0.3", "workers=1 rules.noun_side=head", "stop_after=decide",
            "store_dir=elsewhere",
        )
    )  # fmt: skip
    assert [group.numbers for group in found] == [(0, 2, 3), (1, 4), (5,), (6,)]


@pytest.mark.parametrize(
    ("changes", "sets"),
    [
        (("rules.match.above=0.3", "matcher.batch_size=4"), 1),
        (("source.limit=5", "source.limit=6"), 1),
        (("describe.sentence_by=template", "describe.sentence_by=chat"), 1),
        (("seed=1 stop_after=edit", "seed=2 stop_after=edit"), 0),
        (("seed=1 allow_new_images=true", "seed=2 allow_new_images=true"), 2),
        (("inpainter=opencv removal.dilate_px=3", "removal.dilate_px=5"), 1),
    ],
)
def test_these_need_so_many_sets_of_images_and_are_let_through(changes, sets) -> None:
    configs = rows(*changes)
    assert len(image_sets(configs)) == sets
    check_images(configs)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        (("seed=1", "seed=2"), "seed"),
        (("generator.noise=1", "generator.noise=2", "generator.noise=1"), "generator.noise"),
        (("candidates=2", "candidates=3 shard_size=9"), "candidates, shard_size"),
        (("edit=both removal.dilate_px=3", "edit=both removal.dilate_px=5"), "removal.dilate_px"),
    ],
)
def test_images_of_their_own_must_be_allowed(changes, keys) -> None:
    configs = rows(*(f"{change} source.limit=1200" for change in changes))
    with pytest.raises(ConfigError) as refused:
        check_images(configs)
    text = str(refused.value)
    assert text.startswith(f"a sweep over {keys}: 2 sets of images have to be drawn, each of 1,200")
    assert "allow_new_images=true" in text

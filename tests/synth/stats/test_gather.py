"""All numbers of a small run that is known by heart, and bad files."""

import tracemalloc

import numpy as np
import pytest
from stats_runs import pair, region, removal, write_run

from imgdiff.core.errors import DataError
from imgdiff.synth.stats.gather import gather
from imgdiff.synth.stats.reading import open_run

PAIRS = [
    pair(0, "A red dog.", "A red cat.", look_0="00000000000000ff"),
    pair(1, "A stop sign.", "A tree.", look_0="00000000000000fe", image_similarity=0.85),
    pair(2, "A red dog.", "A red cat.", image_id_0="left-0", look_0="00000000000000ff"),
    pair(3, "A boat.", "A boat.", kept=False, look_0=None, image_id_1="left-3"),
    pair(4, "A hat.", None, kept=False, image_0=None, image_1=None, image_id_0=None,
         image_id_1=None, look_0=None, width=None, height=None, image_similarity=None),
]  # fmt: skip
REGIONS = [
    region(0, 0, (0, 0, 50, 50)),
    region(1, 0, (50, 0, 100, 50), kept=False, sentence=None, content_0=None, content_1=None,
           content_similarity=None, crop_similarity=0.99, match_0=None, match_1=None,
           content_match_0=None, content_match_1=None),
    region(2, 1, (10, 10, 10, 20), content_0="A stop sign on a pole.", content_1="A tall tree."),
    region(3, 2, (0, 0, 100, 25), sentence="It is another one."),
]  # fmt: skip
RULES = (
    "rules.image_similarity.above=0.9", "rules.image_similarity.below=0.98",
    "rules.crop_similarity.below=0.85",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", *RULES, pairs=PAIRS, regions=REGIONS)


def counted(run, rows=16_384):
    return gather(open_run(run), rows=rows)


def test_counts_of_pairs_and_names(folder):
    stats = counted(folder)
    assert (stats.caption_pairs, stats.kept, stats.same_images) == (4, {"replace": 3}, 0)
    edited, exported, described = stats.names
    assert edited.looked_at == 4
    assert edited.unnamed == 1  # boat to boat
    assert dict(edited.pairs) == {"dog \u2192 cat": 2, "stop sign \u2192 tree": 1}
    assert dict(exported.by_side[0]) == {"dog": 2, "stop sign": 1}
    assert dict(described.by_side[1]) == {"cat": 2, "tree": 1}
    assert stats.absent == frozenset()


def test_nouns_are_found_anew_where_a_pair_has_none(tmp_path):
    pairs = [
        pair(0, "A dog.", "A cat.", nouns_0=["horse"], nouns_1=["cow"]),
        pair(1, "A hat.", "A bus.", kept=False),
    ]
    names = counted(write_run(tmp_path / "whole", pairs=pairs)).names[0]
    assert dict(names.pairs) == {"horse \u2192 cow": 1, "hat \u2192 bus": 1}


def test_counts_of_boxes(folder):
    (boxes,) = counted(folder).boxes
    assert (boxes.proposed.number, boxes.kept.number) == (4, 3)
    areas = boxes.proposed.areas
    assert areas.counts[46] == 3  # half of the image: its logarithm is -0.301
    assert (areas.below, areas.total) == (1, 4)  # one box has no width
    assert boxes.proposed.aspects.total == 3
    assert boxes.proposed.aspects.counts[24] == 1  # four times as wide as high
    assert boxes.proposed.centres.counts[10, 5] == 1  # of the left half
    assert boxes.kept.centres.counts.sum() == 3


def test_counts_of_scores(folder):
    found = {counts.kind.key: counts for counts in counted(folder).scores}
    assert set(found) == {
        "image_similarity", "crop_similarity", "match", "content_similarity", "content_match",
    }  # fmt: skip
    similarity = found["image_similarity"]
    assert (similarity.histogram.total, similarity.accepted) == (4, 3)
    assert similarity.histogram.counts[1950] == 3
    assert (found["crop_similarity"].histogram.total, found["crop_similarity"].accepted) == (4, 3)
    assert found["match"].histogram.counts[1600] == 3  # the better side
    assert found["content_match"].histogram.counts[1450] == 3  # the worse side


def test_counts_of_sentences_and_of_what_repeats(folder):
    stats = counted(folder)
    assert stats.sentence_words.counts[5] == 2
    assert stats.sentence_words.counts[4] == 1
    assert stats.description_words.total == 6
    found = {one.key: one for one in stats.repeats}
    figures = found["caption_pairs"].figures
    assert (figures.total, figures.distinct, figures.spare, figures.most) == (3, 2, 1, 2)
    (group,) = found["caption_pairs"].groups
    assert (group.number, group.ids) == (2, ("p-0", "p-2"))
    assert group.parts == ("A red dog.", "A red cat.")
    assert found["left_images"].figures.distinct == 2
    assert found["image_pairs"].figures.distinct == 3
    sentences = found["sentences"].groups
    assert [(group.number, *group.parts) for group in sentences] == [
        (2, "A dog became a cat."),
        (1, "It is another one."),
    ]


def test_the_nearest_images_are_distinct_ones(folder):
    nearest = counted(folder).nearest
    assert nearest is not None
    assert nearest.images == 2  # the third pair has the pixels of the first
    (near,) = nearest.pairs
    assert near.bits == 1
    assert [seen.pair_id for seen in near.images] == ["p-0", "p-1"]
    assert near.images[1].caption == "A stop sign."
    assert near.images[1].path == "1_0.png"


def told(stats):
    """What of the numbers can differ."""
    return (
        [(c.by_side, c.pairs, c.unnamed) for c in stats.names],
        [(b.kept.centres.counts.tolist(), b.proposed.areas.counts.tolist()) for b in stats.boxes],
        [(s.accepted, s.histogram.counts.tolist()) for s in stats.scores],
        stats.repeats, stats.nearest, stats.sentence_words.counts.tolist(), stats.kept,
    )  # fmt: skip


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_no_number_depends_on_how_many_rows_are_read_at_once(folder, rows):
    assert told(counted(folder, rows)) == told(counted(folder))


def test_removals_are_counted_beside_replacements(tmp_path):
    removals = [
        removal(0, 0, (0, 0, 10, 10)),
        removal(1, 1, (0, 0, 10, 10), answer="B", content="Two small boats."),
        removal(2, 1, (0, 0, 10, 10), kept=False, answer=None, content=None, match_inpainted=None),
    ]
    folder = write_run(
        tmp_path / "run", "edit=both", pairs=PAIRS, regions=REGIONS, removals=removals
    )
    stats = counted(folder)
    assert stats.kept == {"replace": 3, "remove": 2}
    assert stats.answers == {"A": 1, "B": 1}
    assert [counts.key for counts in stats.names] == ["edited", "exported", "described", "removed"]
    assert dict(stats.names[3].by_side[0]) == {"car": 1, "boat": 1}
    assert [boxes.key for boxes in stats.boxes] == ["regions", "removals"]
    found = {counts.kind.key: counts for counts in stats.scores}
    assert found["removal_inpainted_match"].histogram.total == 2


def test_memory_does_not_grow_with_regions(tmp_path):
    """Nine thousand boxes more cost less than 4 bytes each (hashes of the sentences among them)."""
    peaks = []
    for number in (1000, 10_000):
        rows = [region(n, 0, (0, 0, 20 + n % 7, 20), kept=n % 50 == 0) for n in range(number)]
        folder = write_run(tmp_path / str(number), pairs=PAIRS, regions=rows)
        counted(folder, rows=128)  # what is loaded once
        tracemalloc.start()
        stats = counted(folder, rows=128)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert stats.boxes[0].proposed.number == number
        assert stats.sentence_words.total == number // 50
    assert peaks[1] - peaks[0] < 4 * 9000


def damaged(folder, what):
    path = folder / "regions.parquet"
    if what == "absent":
        path.unlink()
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif what == "json":
        (folder / "funnel.json").write_text("{}")
    elif what == "no run":
        (folder / "run.json").unlink()
    elif what == "foreign":
        (folder / "run.json").write_text('{"settings": {"model": 1}, "complete": true}')


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("absent", r"regions\.parquet: no such file"),
        ("empty", r"regions\.parquet: cannot be read"),
        ("cut", r"regions\.parquet: cannot be read"),
        ("json", "is not the funnel of a run"),
        ("no run", r"holds no run \(no run\.json\)"),
        ("foreign", "is not of `python -m imgdiff.synth`"),
    ],
)
def test_files_that_cannot_be_read_are_named(folder, what, message):
    damaged(folder, what)
    with pytest.raises(DataError, match=message):
        counted(folder)


def test_a_run_that_has_not_ended_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", pairs=PAIRS, complete=False)
    with pytest.raises(DataError, match="has not ended"):
        open_run(folder)
    assert open_run(folder, finished=False).samples == 0


def test_a_run_that_only_decided_has_nothing_to_count(tmp_path):
    folder = write_run(tmp_path / "run", "stop_after=decide")
    with pytest.raises(DataError, match=r"only decided and has no tables.*stop_after=export"):
        open_run(folder)


@pytest.mark.parametrize(
    ("pairs", "regions", "message"),
    [
        (PAIRS, [region(0, 77, (0, 0, 1, 1))], r"of the pair 'p-77', which has no image size"),
        (PAIRS, [region(0, 4, (0, 0, 1, 1))], r"of the pair 'p-4', which has no image size"),
        (PAIRS, [region(0, 0, (0, 0, 1, 1), pair_id=None)], "a box has no pair_id"),
        ([pair(0, "A dog.", "A cat.", width=0)], [region(0, 0, (0, 0, 1, 1))], "has no pixel"),
        ([pair(0, "A dog.", "A cat.", look_0="zz")], [], "look_0 holds 'zz'"),
    ],
)
def test_rows_that_cannot_be(tmp_path, pairs, regions, message):
    folder = write_run(tmp_path / "run", pairs=pairs, regions=regions)
    with pytest.raises(DataError, match=message):
        counted(folder)


def test_scores_that_are_no_numbers_are_counted_apart(tmp_path):
    rows = [region(n, 0, (0, 0, 9, 9), crop_similarity=s) for n, s in enumerate((np.nan, 5.0, 0.1))]
    stats = counted(write_run(tmp_path / "run", *RULES, pairs=PAIRS, regions=rows))
    crops = next(counts for counts in stats.scores if counts.kind.key == "crop_similarity")
    assert (crops.not_numbers, crops.histogram.above, crops.accepted) == (1, 1, 1)

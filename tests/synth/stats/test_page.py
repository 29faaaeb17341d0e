"""stats.html: it says what the tables hold, safely, and says so where they hold nothing."""

import re

import pytest
from html_reader import Reader
from PIL import Image
from stats_runs import pair, region, removal, write_run

from imgdiff.core.images import save_image
from imgdiff.synth.stats import command
from imgdiff.synth.stats.page import page, write_stats
from imgdiff.synth.stats.reading import open_run

NASTY = "<script>alert(1)</script> \"&' כלב ורוד 🐶 \x00 \u202e dog"
SECTIONS = ["names", "boxes", "scores", "funnel", "repeats", "sentences"]
NOTHING = "Nothing to show."
RULES = (
    "rules.image_similarity.above=0.9", "rules.image_similarity.below=0.98",
    "rules.crop_similarity.below=0.85", "rules.match.above=0.35", "rules.min_area=0.0025",
)  # fmt: skip
PAIRS = [pair(0, "A red dog.", "A red cat."), pair(1, "A stop sign.", "A tree.")]
REGIONS = [region(0, 0, (0, 0, 50, 50)), region(1, 1, (10, 10, 40, 30))]


def written(folder, store=None):
    write_stats(folder, store)
    return (folder / "stats.html").read_text(encoding="utf-8")


def words(text):
    """What a person reads."""
    return re.sub(r"\s+", " ", " ".join(Reader(text).text))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", *RULES, pairs=PAIRS, regions=REGIONS)


def test_every_section_is_there_and_the_page_needs_nothing_else(run):
    text = written(run)
    reader = Reader(text)
    assert not reader.open
    ids = [attributes.get("id") for tag, attributes in reader.tags if tag == "section"]
    assert [one for one in ids if one in SECTIONS] == SECTIONS
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "object"}
    for _, attributes in reader.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert re.match(r"#|data:image/jpeg;base64,", value or "")
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert NOTHING not in words(text)


def test_figures_of_the_page(run):
    said = words(written(run))
    assert "2 captions 2 edited captions 2 pairs drawn 2 pairs with samples 2 samples" in said
    assert "dog \u2192 cat 1 50.0 %" in said
    assert "2 of 2 pairs (100.0 %) lie in rules.image_similarity : > 0.9 and < 0.98." in said
    assert "2 sentences , median 5 words, at most 5." in said
    assert "1 distinct of 2 sentences (50.0 %)." in said
    assert "Img-Diff as published (paper, 5.2) 1,203 3,680" in said


def test_thresholds_are_drawn_with_their_numbers(run):
    text = written(run)
    drawn = re.findall(r'<text class="limit"[^>]*>([^<]*)</text>', text)
    for sign in ("&gt; 0.9", "&lt; 0.98", "&lt; 0.85", "&gt; 0.35", "\u2265 0.25 %"):
        assert sign in drawn
    assert len(re.findall(r'<line class="limit"', text)) == len(drawn)


def test_the_threshold_stands_where_the_axis_says(run):
    """The line of `< 0.85` lies between the ticks around it, at its share of the way."""
    text = written(run)
    chart = next(part for part in text.split("<svg") if "Histogram of Crop similarity" in part)
    (line,) = re.findall(r'<line class="limit" x1="([\d.]+)"', chart)
    ticks = {
        float(value): float(x)
        for x, value in re.findall(
            r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([-\d.]+)</text>', chart
        )
    }
    low, high = min(ticks), max(ticks)
    unit = (ticks[high] - ticks[low]) / (high - low)
    assert float(line) == pytest.approx(ticks[low] + (0.85 - low) * unit, abs=0.1)


def test_texts_of_the_data_do_nothing(tmp_path):
    pairs = [pair(n, NASTY, NASTY + " cat", id=f"<b>{n}") for n in (0, 1)]
    regions = [
        region(n, 0, (0, 0, 9, 9), pair_id="<b>0", content_0=NASTY, sentence=NASTY) for n in (0, 1)
    ]
    text = written(write_run(tmp_path / "run", pairs=pairs, regions=regions))
    reader = Reader(text)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert any("<script>alert(1)</script> \"&' כלב ורוד 🐶 \ufffd" in part for part in reader.text)


def test_a_long_caption_is_cut(tmp_path):
    pairs = [pair(n, "word " * 5000, "word " * 5000 + "cat") for n in (0, 1)]
    assert len(written(write_run(tmp_path / "run", pairs=pairs))) < 80_000


def test_pictures_of_the_nearest_images_come_from_the_store(tmp_path, run):
    store = tmp_path / "store"
    for number in (0, 1):
        save_image(Image.new("RGB", (400, 200), (9, 90, 160)), store / f"{number}_0.png")
    text = written(run, store)
    pictures = re.findall(r'<img src="data:image/jpeg;base64,[^"]+" width="(\d+)"', text)
    assert pictures == ["168", "168"]
    assert "1_0.png" not in text
    assert "1_0.png" in written(run)  # no store at hand: its name
    (store / "1_0.png").write_bytes(b"not an image")
    assert "1_0.png" in written(run, store)


def test_a_path_out_of_the_store_is_not_opened(tmp_path):
    save_image(Image.new("RGB", (8, 8)), tmp_path / "secret.png")
    pairs = [pair(n, "A dog.", "A cat.", image_0="../secret.png") for n in (0, 1)]
    text = written(write_run(tmp_path / "run", pairs=pairs, regions=REGIONS), tmp_path / "store")
    assert "<img" not in text


def fallen(number):
    return pair(number, "A dog.", "A cat.", kept=False, look_0=None)


def not_edited(number):
    empty = ("image_0", "image_1", "image_id_0", "image_id_1", "look_0", "width", "height")
    nothing = dict.fromkeys((*empty, "image_similarity"))
    return pair(number, "A dog.", None, kept=False, **nothing)


EMPTY = {
    "no row at all": ([], [], "No caption of this run was edited."),
    "no edit": ([not_edited(n) for n in range(3)], [], "No caption of this run was edited."),
    "no pair kept": ([fallen(n) for n in range(3)], [], "This run has no sample"),
    "no region kept": (
        [fallen(0)],
        [region(0, 0, (0, 0, 9, 9), kept=False, sentence=None)],
        "No box was kept.",
    ),
    "no sentence": (PAIRS, [region(0, 0, (0, 0, 9, 9), sentence=None)], "The run has no sentences"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_run_without_data_says_so(tmp_path, case):
    pairs, regions, message = EMPTY[case]
    text = written(write_run(tmp_path / "run", pairs=pairs, regions=regions))
    assert message in words(text)
    assert NOTHING in words(text)
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL).lower()


@pytest.mark.parametrize("stage", ["edit", "generate"])
def test_a_run_that_stopped_early_says_so(tmp_path, stage):
    folder = write_run(tmp_path / "run", f"stop_after={stage}", pairs=[fallen(0)])
    said = words(written(folder))
    assert f"The run stopped after the stage {stage}, before scores." in said
    assert "dog \u2192 cat" in said


MISSING = {
    "regions.crop_similarity": "regions.parquet has no column crop_similarity, so scores cannot",
    "regions.left": "regions.parquet has no column left, so boxes cannot be shown.",
    "pairs.width": "pairs.parquet has no column width, so boxes cannot be shown.",
    "regions.sentence": "regions.parquet has no column sentence, so sentences cannot be shown.",
    "regions.kept": "regions.parquet has no column kept, so descriptions cannot be shown.",
    "pairs.look_0": "pairs.parquet has no hashes of images",
    "pairs.image_id_0": "pairs.parquet has no column image_id_0, so pixels are not compared.",
    "pairs.caption_0": "pairs.parquet has no column caption_0, so names cannot be shown.",
    "regions.pair_id": "regions.parquet has no column pair_id, so boxes cannot be shown.",
}


@pytest.mark.parametrize("column", MISSING)
def test_a_missing_column_is_named_where_it_is_missed_and_at_the_top(tmp_path, column):
    folder = write_run(tmp_path / "run", pairs=PAIRS, regions=REGIONS, without=[column])
    said = words(written(folder))
    assert MISSING[column] in said
    table, name = column.split(".")
    assert f"{table}.parquet has no column {name}: another version of imgdiff wrote it." in said
    assert NOTHING in said or column == "pairs.image_id_0"


def test_the_page_of_a_run_that_lacks_nearly_all_columns(tmp_path):
    gone = [f"{table}.{name}" for table, rows in (("pairs", PAIRS), ("regions", REGIONS))
            for name in rows[0] if name != "id"]  # fmt: skip
    text = written(write_run(tmp_path / "run", pairs=PAIRS, regions=REGIONS, without=gone))
    assert not Reader(text).open
    assert words(text).count(NOTHING) >= 8


def test_a_run_that_removes_shows_its_answers(tmp_path):
    removals = [removal(0, 0, (0, 0, 9, 9)), removal(1, 1, (0, 0, 9, 9), answer="B")]
    folder = write_run(tmp_path / "run", "edit=remove", pairs=PAIRS, removals=removals)
    said = words(written(folder))
    assert "A 1 50.0 % B 1 50.0 %" in said
    assert "Match after removal" in said
    assert "Match of a changed noun" not in said


def test_the_same_run_gives_the_same_bytes(run):
    assert written(run) == written(run) == page_of(run)


def page_of(folder):
    from imgdiff.synth.stats.gather import gather

    return page(gather(open_run(folder), rows=1))


def test_no_path_of_the_machine_is_on_the_page(tmp_path):
    folder = write_run(
        tmp_path / "run",
        "source=coco",
        "generator=composite",
        f"source.root={tmp_path}/photos/coco",
        pairs=PAIRS,
    )
    text = written(folder)
    assert str(tmp_path) not in text
    assert "photos of a folder in COCO layout, coco" in words(text)


def test_the_command_writes_the_page_and_tells_coverage(run, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    command.main([str(run), "--names", str(names)])
    assert str(run / "stats.html") in capsys.readouterr().out.replace("\n", "")
    said = words((run / "stats.html").read_text(encoding="utf-8"))
    assert "Coverage by names.txt (2 names)" in said
    assert "All edited captions 50.0 % 2 4 2 of 2" in said


@pytest.mark.parametrize("what", ["absent", "unfinished", "names"])
def test_the_command_refuses_in_one_message(tmp_path, what, capsys):
    folder = tmp_path / "run"
    values = [str(folder)]
    if what != "absent":
        write_run(folder, pairs=PAIRS, complete=what == "names")
    if what == "names":
        values += ["--names", str(tmp_path / "none.txt")]
    with pytest.raises(SystemExit) as ended:
        command.main(values)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("imgdiff.synth.stats: ")
    assert not (folder / "stats.html").exists()

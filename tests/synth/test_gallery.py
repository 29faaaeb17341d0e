"""The gallery page: what it shows, that it shows it safely, and always alike."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from html_reader import Reader
from PIL import Image

from imgdiff.core.images import save_image
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.gallery_card import highlighted, shown_size
from imgdiff.synth.report import write_gallery

NASTY = "<script>alert(1)</script> \"&' כלב ורוד 🐶 \x00\ud800 \u202e"
NASTY_SHOWN = "<script>alert(1)</script> \"&' כלב ורוד 🐶 \ufffd\ufffd \u202e"


def pair(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "p-1", "caption_0": "A red dog.", "caption_1": "A red cat.", "seed": 7,
        "nouns_0": ["dog"], "nouns_1": ["cat"], "image_0": "a.png", "image_1": "b.png",
        "width": 128, "height": 128, "image_similarity": 0.91234, "truth": "replaced",
        "n_regions": 1, "n_samples": 0, "kept": False, "stage": None, "reason": None,
        "detail": None,
    }  # fmt: skip
    return row | changes


def region(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": "r-1", "pair_id": "p-1", "side": 0, "left": 20.0, "top": 40.0, "right": 60.0,
        "bottom": 100.0, "crop_similarity": 0.5, "match_0": 0.41, "match_1": None,
        "content_0": "A dog.", "content_1": "A boat.", "content_similarity": 0.61,
        "content_match_0": 0.44, "content_match_1": 0.39, "sentence": "A dog became a cat.",
        "true_name_0": "dog", "true_name_1": "cat", "kept": True, "stage": None, "reason": None,
        "detail": None,
    }  # fmt: skip
    return row | changes


def fell(stage: str, reason: str, **changes: Any) -> dict[str, Any]:
    return region(kept=False, stage=stage, reason=reason, sentence=None) | changes


def entry(verdict: str, *regions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"verdict": verdict, "pair": pair(**changes), "regions": list(regions)}


def funnel() -> dict[str, Any]:
    counts = Funnel()
    counts.totals.update(items=1200, regions=5000, samples=878, pairs_with_samples=640)
    counts.fallen["items", "image_similarity", "images too alike"] = 97
    counts.fallen["regions", "difference", "crops too alike"] = 2411
    counts.fallen["regions", "match", "no changed object in the box"] = 1
    return counts.report()


ENTRIES = [
    entry("difference: crops too alike", fell("difference", "crops too alike")),
    entry("accepted", region()),
    entry("image_similarity: images too alike"),
    entry("somewhere: not in the funnel"),
    entry("accepted", region(), id="p-2"),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    for name in ("a.png", "b.png"):
        save_image(Image.new("RGB", (128, 128), (90, 120, 160)), folder / name)
    return folder


def page(store: Path, entries: list[dict[str, Any]], counts: dict[str, Any] | None = None) -> str:
    path = store.parent / "gallery.html"
    write_gallery(path, entries, store, counts or funnel())
    return path.read_text(encoding="utf-8")


def pictures(text: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def is_red(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    return pixel[0] > 200 and max(pixel[1:]) < 70


def is_orange(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    return pixel[0] > 200 and 90 < pixel[1] < 190 and pixel[2] < 80


def test_page_is_whole_and_refers_to_nothing_outside(store: Path) -> None:
    text = page(store, ENTRIES)
    reader = Reader(text)
    assert reader.open == []
    places = [
        v for _, attributes in reader.tags for k, v in attributes.items() if k in ("src", "href")
    ]
    assert {str(place)[:1] for place in places} == {"d", "#"}  # data: images and anchors
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    anchors = {str(place)[1:] for place in places if str(place).startswith("#")}
    assert len(ids) == len(set(ids))
    assert anchors <= set(ids)
    assert "url(" not in text
    assert "@import" not in text
    assert "http://" not in text
    assert "https://" not in text


def test_groups_are_accepted_first_then_as_in_the_funnel(store: Path) -> None:
    text = page(store, ENTRIES)
    headings = re.findall(
        r'<section class="group.*?<h2 dir="auto">(.*?)</h2><p class="soft">(.*?)<', text
    )
    assert headings == [
        ("Accepted", "2 of 640 pairs shown"),
        ("images too alike", "1 of 97 pairs shown"),
        ("crops too alike", "2,411 regions fell here, 1 pair shown"),
        ("not in the funnel", "1 pair shown"),
    ]
    buttons = re.findall(r'data-show="([\w-]+)".*?>([^<]+) <small>(\d+)<', text)
    assert buttons == [
        ("all", "All", "5"),
        ("accepted", "Accepted", "2"),
        ("rejected", "Rejected", "3"),
        ("reason-1", "images too alike", "1"),
        ("reason-2", "crops too alike", "1"),
        ("reason-3", "not in the funnel", "1"),
    ]
    assert text.count('<article class="card">') == 5


def test_funnel_is_drawn_to_scale_and_links_to_what_is_shown(store: Path) -> None:
    text = page(store, ENTRIES)
    steps = dict(re.findall(r"<li class=\"step\"><span>([\w ]+)</span>(.*?)</li>", text))
    assert "5,000 → 2,589" in steps["difference"]
    assert 'width:51.78%"></i><u style="width:48.22%' in steps["difference"]
    assert '<a href="#reason-2">2,411 crops too alike</a>' in steps["difference"]
    assert "<span>1 no changed object in the box</span>" in steps["match"]  # no picture of it
    assert '<a href="#reason-1">97 images too alike</a>' in steps["image similarity"]


def test_same_reason_of_pairs_and_of_regions_is_counted_at_its_own_level(store: Path) -> None:
    counts = Funnel()
    counts.totals.update(items=9, regions=30)
    counts.fallen["items", "regions", "odd"] = 2
    counts.fallen["regions", "regions", "odd"] = 13
    text = page(store, [entry("regions: odd")], counts.report())
    assert "1 of 2 pairs shown" in text
    text = page(store, [entry("regions: odd", fell("regions", "odd"))], counts.report())
    assert "13 regions fell here, 1 pair shown" in text


def test_both_images_are_embedded_with_a_red_box_around_the_region(store: Path) -> None:
    (picture,) = pictures(page(store, [entry("accepted", region())]))
    assert picture.size == (384 + 20 + 384, 384)  # 128 px enlarged three times
    assert picture.getpixel((394, 200)) == (0, 0, 0)
    for offset in (0, 404):
        # The box of 60..180 x 120..300, with a line of 3 px around it.
        edges = [(58, 200), (181, 200), (120, 118), (120, 301)]
        assert [is_red(picture.getpixel((offset + x, y))) for x, y in edges] == [True] * 4
        inside = [(64, 200), (175, 200), (120, 126), (120, 210), (50, 200), (120, 310)]
        assert not any(is_red(picture.getpixel((offset + x, y))) for x, y in inside)


def test_a_fallen_region_is_dashed_orange_and_named(store: Path) -> None:
    text = page(store, [entry("match: why", fell("content_match", "why", detail="0.1 < 0.3"))])
    (picture,) = pictures(text)
    edge = [picture.getpixel((x, 118)) for x in range(57, 183)]
    assert 40 < sum(map(is_orange, edge)) < 100  # neither absent nor solid
    assert not any(map(is_red, edge))
    assert text.count('<b class="tag fell above"') == 2
    assert ">content match</b>" in text
    assert '<h3 dir="auto">content match: why</h3>' in text
    assert "0.1 &lt; 0.3" in text


def test_several_regions_are_numbered_in_both_images(store: Path) -> None:
    other = region(left=90.0, right=120.0, top=0.0, bottom=30.0)
    text = page(store, [entry("accepted", region(), other, fell("top_n", "too many"))])
    tags = re.findall(r'<b class="(tag[\w ]*)"[^>]*>([^<]+)</b>', text)
    assert (
        tags
        == [("tag above", "1")] * 2 + [("tag", "2")] * 2 + [("tag fell above", "3 · top n")] * 2
    )
    assert len(re.findall(r'<b class="tag"[^>]*style="right:', text)) == 2
    single = page(store, [entry("accepted", region())])
    assert '<b class="tag' not in single


@pytest.mark.parametrize(
    "corners",
    [
        (-30.0, -30.0, 500.0, 500.0),
        (300.0, 300.0, 400.0, 400.0),
        (50.0, 50.0, 50.0, 50.0),
        (60.0, 60.0, 20.0, 20.0),
        (0.0, 0.0, 0.4, 128.0),
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_odd_boxes_are_drawn_without_a_fault(
    store: Path, corners: tuple[float, ...], kept: bool
) -> None:
    names = ("left", "top", "right", "bottom")
    box = dict(zip(names, corners, strict=True))
    text = page(store, [entry("x", region(kept=kept, stage="match", **box), region())])
    assert pictures(text)[0].size == (788, 384)


def test_contents_are_judged_by_the_truth_where_it_is_known(store: Path) -> None:
    def kinds(**changes: Any) -> list[str]:
        text = page(store, [entry("accepted", region(**changes))])
        return re.findall(r'<div class="content([ \w]*)" dir="auto">(.*?)</div>', text)

    assert kinds() == [
        (" right", 'A dog.<span class="truth">✓ truly <bdi>dog</bdi></span>'),
        (" wrong", 'A boat.<span class="truth">✗ truly <bdi>cat</bdi></span>'),
    ]
    assert kinds(true_name_0=None, true_name_1="") == [
        ("", "A dog."),
        (" wrong", 'A boat.<span class="truth">✗ truly <bdi>no object</bdi></span>'),
    ]
    assert kinds(content_0=None, content_1=None, true_name_1=None) == [
        ("", '<span class="truth">truly <bdi>dog</bdi></span>')
    ]


def test_every_score_has_its_chip_and_missing_ones_have_none(store: Path) -> None:
    text = page(store, [entry("accepted", region())])
    chips = dict(re.findall(r'<span class="chip"><i>(.*?)</i> <bdi>(.*?)</bdi>', text))
    assert chips == {
        "image similarity": "0.912",
        "nouns": "dog → cat",
        "generator": "replaced",
        "id": "p-1",
        "crop similarity": "0.500",
        "match": "0.410 | -",
        "content similarity": "0.610",
        "content match": "0.440 | 0.390",
    }
    assert '<blockquote dir="auto">A dog became a cat.</blockquote>' in text


def test_missing_fields_are_left_out(store: Path) -> None:
    empty = dict.fromkeys(pair(), None) | {"image_0": "a.png", "image_1": "b.png"}
    bare = dict.fromkeys(region(), None) | {"left": 1.0, "top": 1.0, "right": 9.0, "bottom": 9.0}
    text = page(store, [{"verdict": "x: y", "pair": empty, "regions": [bare]}])
    words = " ".join(Reader(text).text)
    assert "None" not in text
    assert "nan" not in words
    assert '<div class="chips">' not in text
    assert "<blockquote" not in text
    assert len(pictures(text)) == 1


@pytest.mark.parametrize("name", ["gone.png", "torn.png", "../outside.png", "a\0b.png"])
def test_an_image_that_cannot_be_read_is_named_not_fatal(store: Path, name: str) -> None:
    (store / "torn.png").write_bytes((store / "a.png").read_bytes()[:60])
    save_image(Image.new("RGB", (8, 8)), store.parent / "outside.png")
    text = page(store, [entry("accepted", region(), image_1=name)])
    assert pictures(text) == []
    assert f"{name.replace(chr(0), chr(0xFFFD))}: not a readable image" in text
    assert str(store) not in text
    assert "A dog became a cat." in text


def test_a_pair_without_images_says_so(store: Path) -> None:
    text = page(store, [entry("edit: refused", image_0=None, image_1=None)])
    assert "no image" in Reader(text).text


def test_nasty_text_is_shown_and_never_run(store: Path) -> None:
    nasty = region(
        sentence=NASTY, content_0=NASTY, content_1=NASTY, true_name_0=NASTY, detail=NASTY,
        reason=NASTY, stage=NASTY, kept=False,
    )  # fmt: skip
    texts = {"caption_0": NASTY, "caption_1": NASTY + " x", "id": NASTY, "detail": NASTY}
    counts = funnel()
    counts["regions"][0]["rejected"] = {NASTY: 3}
    text = page(
        store, [entry(f"regions: {NASTY}", nasty, **texts, truth=NASTY, nouns_0=[NASTY])], counts
    )
    reader = Reader(text)
    assert reader.open == []
    assert [tag for tag, _ in reader.tags].count("script") == 1  # the page's own
    assert not any(name.startswith("on") for _, attributes in reader.tags for name in attributes)
    words = "".join(reader.text)
    assert words.count(NASTY_SHOWN) >= 10
    assert "\x00" not in text
    (alt,) = [attributes["alt"] for tag, attributes in reader.tags if tag == "img"]
    assert alt == f"Left: {NASTY_SHOWN} Right: {NASTY_SHOWN} x"
    directed = re.findall(r'<(?:p|blockquote|h2|h3|div)[^>]* dir="auto"', text)
    assert len(directed) == 9  # heading, two captions, two details, title, two contents, sentence


@pytest.mark.parametrize(
    ("left", "right", "shown"),
    [
        ("A red dog.", "A red cat.", ("A red <mark>dog</mark>.", "A red <mark>cat</mark>.")),
        (
            "a  dog, alone",
            "a bird, alone",
            ("a  <mark>dog</mark>, alone", "a <mark>bird</mark>, alone"),
        ),
        ("a dog", "a dog and a cat", ("a dog", "a dog <mark>and a cat</mark>")),
        ("same", "same", ("same", "same")),
        ("", "new", ("", "<mark>new</mark>")),
        ("", "", ("", "")),
        ("a <b>", "a </b>", ("a <mark>&lt;b&gt;</mark>", "a <mark>&lt;/b&gt;</mark>")),
        ("ein Hund 🐶", "ein Hund 🐱", ("ein Hund <mark>🐶</mark>", "ein Hund <mark>🐱</mark>")),
    ],
)
def test_changed_words_are_highlighted(left: str, right: str, shown: tuple[str, str]) -> None:
    assert highlighted(left, right) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((128, 128), (384, 384)),
        ((640, 480), (512, 384)),
        ((512, 512), (512, 512)),
        ((400, 300), (400, 300)),
        ((1, 1), (384, 384)),
        ((100, 5000), (15, 768)),
        ((5000, 1), (512, 1)),
    ],
)
def test_images_are_shown_small_but_visible(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert shown_size(*size) == shown


def test_the_same_run_gives_the_same_bytes(store: Path) -> None:
    assert page(store, ENTRIES) == page(store, ENTRIES)
    assert [path.name for path in store.parent.iterdir() if path.suffix == ".tmp"] == []


def test_an_empty_run_has_a_page_that_says_so(store: Path) -> None:
    text = page(store, [], Funnel().report())
    assert Reader(text).open == []
    assert "No pairs to show" in text
    assert "Nothing entered this run." in text
    assert "<nav" not in text
    assert "the funnel above says" in page(store, [])

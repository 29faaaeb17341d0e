"""The page as a file: whole, self-contained, repeatable, and safe whatever a caption holds."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_runs import caption_answer, caption_run, choice_answer, choice_run

from imgdiff.core.errors import ConfigError, DataError, StoreError
from imgdiff.eval.records import Run
from imgdiff.eval.report.board import Difference
from imgdiff.eval.report.html import write_report

NASTY = [
    "<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "<!-- <script>",
    "line\u2028paragraph\u2029", "\u202eright to left\u200f", "\U0001f436",
    "\"'&amp;</bdi></table>", "nul\0 half \ud800",
]  # fmt: skip
VOID = {"meta", "img", "br", "input"}
EMPTY = {"line", "rect", "circle"}  # of SVG, written as <line/>


class Page(HTMLParser):
    """Checks that tags are balanced; keeps tags, visible text, and the texts of scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in EMPTY
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def data(self) -> dict[str, Any]:
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == "data"]
        held: dict[str, Any] = json.loads(text)
        return held

    def image(self, number: int) -> Image.Image:
        (url,) = [text for attributes, text in self.scripts if attributes.get("id") == f"p{number}"]
        head, _, encoded = url.partition(",")
        assert head == "data:image/jpeg;base64"
        return Image.open(io.BytesIO(base64.b64decode(encoded)))


def page_of(tmp_path: Path, *runs: Run, **options: Any) -> Page:
    path = tmp_path / "report.html"
    write_report(path, runs, **options)
    return Page(path)


def drawn(path: Path, size: tuple[int, int] = (640, 320)) -> str:
    Image.new("RGB", size, (200, 30, 30)).save(path)
    return str(path)


def test_scores_and_the_paper_stand_without_a_script(tmp_path: Path) -> None:
    page = page_of(tmp_path, caption_run([caption_answer("1", "x")], label="a <b>model</b>"))
    for words in (
        "Spot-the-Diff", "test split \u00b7 protocol merged \u00b7 1,270 items", "a <b>model</b>",
        "BLEU-4 8.3 [7.5, 9.2]", "METEOR is unavailable: no Java on this machine.",
        "LLaVA-1.5-7B + RP 9.7 \u22121.4 13.0 \u2013 43.2 0.0 30.8 \u22123.4",
        "Distinct captions 11 of 1,270", "\u201ca <b>person</b> walks\u201d", "Empty captions 2",
        "Length ratio to the references 0.875", "9.0 run 8.3, not above", "29.7 run 43.2, above",
        "2 items: the image is missing", "7, 9", "scripts are off", "tokenizer ptb batch_size 16",
    ):  # fmt: skip
        assert words.replace("\u201c", "").replace("\u201d", "") in page.words, words


def test_two_runs_and_their_difference(tmp_path: Path) -> None:
    second = caption_run(
        label="second", scores={"bleu_4": 0.0954, "cider_d": 0.5, "rouge_l": 0.2835}
    )
    given = {
        "bleu_4": Difference(value=0.012, low=-0.001, high=0.025),
        "cider_d": Difference(value=0.0684, low=0.01, high=0.12),
        "rouge_l": Difference(value=0.01, low=0.001, high=0.02, within_noise=True),
    }
    page = page_of(tmp_path, caption_run(), second, differences=given)
    assert "+1.2 [\u22120.1, +2.5] within noise" in page.words
    assert "+1.0 [+0.1, +2.0] within noise" in page.words
    assert "+6.8 [+1.0, +12.0] better" in page.words
    assert page.data["runs"] == ["ours", "second"]


def test_fewer_unparsed_answers_are_better(tmp_path: Path) -> None:
    given = {"unparsed": Difference(value=-0.02, low=-0.03, high=-0.01)}
    page = page_of(tmp_path, choice_run("ab"), choice_run("ab"), differences=given)
    assert "\u22122.0 [\u22123.0, \u22121.0] better" in page.words


def test_a_procedural_set_shows_no_published_figure(tmp_path: Path) -> None:
    page = page_of(tmp_path, choice_run("ab", benchmark="mmvp_procedural", procedural=True))
    assert "Procedural set: not the published benchmark" in page.words
    assert "no published figure is shown beside its scores" in page.words
    assert "LLaVA" not in page.words
    assert "Gap" not in page.words
    assert ("line", "tick") not in [(tag, held.get("class")) for tag, held in page.tags]


def test_captions_are_text_wherever_they_stand(tmp_path: Path) -> None:
    answers = [
        caption_answer(f"{number} {text}", text, kind=text, references=(text,), prompt=text)
        for number, text in enumerate(NASTY)
    ]
    frequent = {"most_frequent": [{"caption": text, "count": 1} for text in NASTY]}
    run = caption_run(
        answers,
        label=NASTY[1],
        diagnostics=frequent,
        left_out=[{"reason": NASTY[0], "count": 1, "ids": [NASTY[1]]}],
        settings={NASTY[0]: NASTY[1]},
        unavailable={"meteor": NASTY[2]},
    )
    page = page_of(tmp_path, run)
    shown = [text.replace("\0", "\ufffd").replace("\ud800", "\ufffd") for text in NASTY]
    assert [item["answers"][0]["text"] for item in page.data["items"]] == shown
    assert page.data["prompts"] == shown
    kinds = [attributes.get("type") or attributes.get("id") for attributes, _ in page.scripts]
    assert kinds == ["application/json", None]
    assert not any(name.startswith("on") for _, held in page.tags for name in held)
    assert "img" not in [tag for tag, _ in page.tags]
    assert shown[0] in page.words


def test_nothing_is_fetched_and_only_our_script_may_run(tmp_path: Path) -> None:
    page = page_of(tmp_path, caption_run([caption_answer("1", "x")]))
    policy = next(
        held["content"] for tag, held in page.tags if held.get("http-equiv") and tag == "meta"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    script = page.scripts[-1][1]
    style = page.source.partition("<style>")[2].partition("</style>")[0]
    for text in (script, style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not [held for _, held in page.tags if {"src", "style", "srcset"} & set(held)]
    assert [held["href"] for _, held in page.tags if "href" in held] == ["#items"]
    assert not re.search(r"https?:|//\w|url\(|@import", style)
    assert "innerHTML" not in script


def test_images_are_thumbnails_each_once(tmp_path: Path) -> None:
    images = (drawn(tmp_path / "a.png"), drawn(tmp_path / "b.jpg", (60, 90)))
    answers = [caption_answer(str(number), "x", images=images) for number in range(3)]
    page = page_of(tmp_path, caption_run(answers))
    assert page.image(0).size == (320, 160)
    assert page.image(1).size == (60, 90)
    assert [picture["name"] for picture in page.data["pictures"]] == ["a.png", "b.jpg"]
    assert page.source.count("data:image/jpeg") == 2
    assert str(tmp_path) not in page.source
    small = page_of(tmp_path, caption_run(answers), thumbnail_px=100)
    assert small.image(0).size == (100, 50)


def test_images_that_cannot_be_shown_are_counted(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    names = ("none.png", str(bad), str(tmp_path), "nul\0.png", "n" * 5000)
    answers = [caption_answer(str(k), "x", images=(name,)) for k, name in enumerate(names)]
    page = page_of(tmp_path, caption_run([*answers, caption_answer("9", "x")]))
    assert [picture["missing"] for picture in page.data["pictures"]] == [
        "absent", "unreadable", "absent", "absent", "absent",
    ]  # fmt: skip
    assert "4 image files are not on this machine. The first: none.png." in page.words
    assert "1 image file is damaged or not an image. The first: bad.png." in page.words
    assert page.data["items"][5]["images"] == []
    without = page_of(tmp_path, caption_run(answers), thumbnail_px=0)
    assert "5 image files are left out, as was asked for." in without.words


def test_pairs_show_letters_kinds_and_both_keys(tmp_path: Path) -> None:
    run = choice_run("ab", by_kind={"colour": {"pairs": 1, "pair_accuracy": 0.5}})
    answers = (choice_answer(1, "a", corrected="b"), choice_answer(2, None, judged_by="llm"))
    page = page_of(tmp_path, Run(folder=run.folder, scores=run.scores, answers=answers))
    assert "Pair accuracy, corrected key 28.7 [22.0, 36.4]" in page.words
    assert "(a) 1 50.0 %" in page.words
    assert "Pair accuracy by kind of difference" in page.words
    assert "colour 50.0 of 1" in page.words
    first, second = page.data["items"][0]["parts"]
    assert (first["correct"], first["corrected"]) == ("a", "b")
    assert (second["answers"][0]["unparsed"], second["answers"][0]["judge"]) == (True, "llm")


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    images = tuple(drawn(tmp_path / f"{number}.png") for number in range(40))
    answers = [caption_answer(str(k), "x", images=images[k : k + 2]) for k in range(39)]
    for name in ("one.html", "two.html"):
        write_report(tmp_path / name, [caption_run(answers), caption_run(answers)])
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_sparse_and_odd_scores_still_make_a_page(tmp_path: Path) -> None:
    bare = {"benchmark": "mmvp", "protocol": "free", "label": "x", "n": 0, "scores": {}}
    page = page_of(tmp_path, Run(folder=tmp_path, scores=bare, answers=()))
    assert "protocol free \u00b7 0 items" in page.words
    odd = caption_run(
        diagnostics={"most_frequent": [{"count": 1}], "constant_caption": None},
        by_kind={"a": None, "b": {"scores": {"cider_d": 0.5}, "n": 3}},
        intervals={"bleu_4": None},
        more={"unknown": [1]},
    )
    page = page_of(tmp_path, odd)
    assert "CIDEr-D by kind of difference" in page.words
    assert "b 50.0 of 3" in page.words


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="thumbnail_px=-1"):
        write_report(tmp_path / "r.html", [caption_run()], thumbnail_px=-1)
    with pytest.raises(DataError, match="only runs of one benchmark"):
        write_report(tmp_path / "r.html", [caption_run(), choice_run("ab")])
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="could not be written"):
        write_report(tmp_path / "file" / "r.html", [caption_run()])
    assert not (tmp_path / "r.html").exists()

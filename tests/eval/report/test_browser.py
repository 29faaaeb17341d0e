"""The page in a real browser: what its script builds, filters and sorts. Needs Chromium."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest
from PIL import Image
from report_runs import caption_answer, caption_run, choice_answer, choice_run

from imgdiff.eval.records import Run
from imgdiff.eval.report.html import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
NASTY = (
    "<script>document.title='hit'</script>",
    "</script><img src=x onerror=\"document.title='hit'\">",
    "<!-- <script>",
    "line\u2028paragraph",
    "\u202eto left",
    "\U0001f436",
)
Show = Callable[..., str]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """The page of these runs after its script ran, as the browser's HTML of the items."""

    def in_browser(*runs: Run, **state: str) -> str:
        path = tmp_path / "report.html"
        write_report(path, runs)
        done = subprocess.run(
            [
                str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
                f"--user-data-dir={tmp_path / 'profile'}", f"{path.as_uri()}#{urlencode(state)}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )  # fmt: skip
        page = done.stdout
        assert "<title>hit" not in page
        return page.partition('<div id="app">')[2].partition('<script type="application/json"')[0]

    return in_browser


def ids(page: str) -> list[str]:
    return re.findall(r'<article class="item" aria-label="(?:Item|Pair) ([^"]*)"', page)


def counts(page: str) -> dict[str, str]:
    return dict(re.findall(r"<span>([\w ]+) <small>([\d,]+)</small></span>", page))


def captions(*scores: float | None, label: str = "ours") -> Run:
    """Item k (from 1) with this CIDEr-D; None leaves the item out."""
    return caption_run(
        [
            caption_answer(str(k), f"caption {k} of {label}", scores={"cider_d": score})
            for k, score in enumerate(scores, start=1)
            if score is not None
        ],
        label=label,
    )


def test_captions_stay_text(show: Show) -> None:
    answers = [caption_answer(str(k), text, references=NASTY) for k, text in enumerate(NASTY)]
    page = show(caption_run(answers))
    assert ids(page) == [str(k) for k in range(len(NASTY))]
    assert "&lt;script&gt;document.title='hit'&lt;/script&gt;" in page
    assert "<img" not in page
    assert "<script" not in page
    assert page.count("no image named") == len(NASTY)


def test_two_runs_filter_by_who_is_better(show: Show) -> None:
    runs = (captions(0.1, 0.5, 0.3, 0.2, 0.9), captions(0.4, 0.1, 0.3, None, 1.9, label="B"))
    page = show(*runs)
    assert counts(page) == {"All": "5", "B wins": "2", "A wins": "1", "Ties": "1", "Empty": "0"}
    assert ids(show(*runs, show="wins", sort="gain")) == ["5", "1"]
    assert ids(show(*runs, show="losses")) == ["2"]
    assert ids(show(*runs, show="ties")) == ["3"]
    assert ids(show(*runs, sort="loss")) == ["2", "3", "1", "5", "4"]  # unanswered items last
    assert ids(show(*runs, sort="high1")) == ["5", "1", "3", "2", "4"]
    assert "CIDEr-D, B \u2212 A: +100.0" in page
    assert "not answered" in page


def test_the_address_may_hold_anything(show: Show) -> None:
    run = captions(0.1, 0.5)
    odd = show(run, show="x", sort="__proto__", metric="<b>", kind="?", page="-7", find="")
    assert ids(odd) == ["1", "2"]


def test_search_looks_at_ids_references_and_answers(show: Show) -> None:
    run = caption_run(
        [
            caption_answer("10", "A Caf\u00e9 opened"),
            caption_answer("11", "nothing", references=("the caf\u00e9 is gone",)),
            caption_answer("12", "nothing"),
        ]
    )
    assert ids(show(run, find="CAFE\u0301")) == ["10", "11"]
    assert ids(show(run, find="12")) == ["12"]
    assert ids(show(run, find="nothing gone")) == ["11", "12"]
    assert "Nothing matches these filters." in show(run, find="zebra")


def test_items_come_in_pages(show: Show) -> None:
    run = captions(*(0.01 * k for k in range(1304)))
    page = show(run, page="2")
    assert ids(page) == [str(k) for k in range(21, 41)]
    assert "21 to 40 of 1,304 items" in page
    assert "Page 66 of 66" in page
    assert ids(show(run, page="99999")) == [str(k) for k in range(1301, 1305)]


def test_one_run_of_captions_is_halved_at_the_median(show: Show) -> None:
    run = captions(0.1, 0.5, 0.3, 0.2)
    assert counts(show(run)) == {"All": "4", "Upper half": "2", "Lower half": "2", "Empty": "0"}
    assert ids(show(run, show="lower", sort="high0")) == ["4", "1"]


def test_pairs_are_right_wrong_or_unparsed(show: Show, tmp_path: Path) -> None:
    image = tmp_path / "1.jpg"
    Image.new("RGB", (30, 20), (0, 90, 0)).save(image)
    run = choice_run("abaa-b")
    first = choice_answer(1, "a", corrected="b", images=(str(image),), kind="state")
    run = Run(folder=run.folder, scores=run.scores, answers=(first, *run.answers[1:]))
    page = show(run)
    assert counts(page) == {"All": "3", "Right": "1", "Wrong": "2", "Unparsed": "1"}
    assert ids(show(run, show="right")) == ["1"]
    assert ids(show(run, show="wrong")) == ["2", "3"]
    assert ids(show(run, show="unparsed")) == ["3"]
    assert ids(show(run, show="right", metric="pair_corrected")) == []
    assert ids(show(run, kind="state")) == ["1"]
    card = page.partition('aria-label="Pair 1"')[2].partition("</article>")[0]
    assert 'src="data:image/jpeg;base64,' in card
    assert 'alt="Image of question 1 (1.jpg)"' in card
    assert "right by the corrected key" in card
    assert "wrong by the corrected key" in card
    assert "\u2713 right (a)" in card
    assert "? unparsed" in page


def test_a_run_without_answers_says_so(show: Show) -> None:
    assert "This run holds no answers, only scores." in show(caption_run())

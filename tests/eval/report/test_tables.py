"""Markdown and LaTeX: values, gaps, caveats, and text that would break them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import caption_run, choice_run

from imgdiff.eval.report.beside import beside_paper
from imgdiff.eval.report.board import Difference, boards_of
from imgdiff.eval.report.figures import difference_text, shown, signed
from imgdiff.eval.report.markup import Table, latex, markdown
from imgdiff.eval.report.tables import score_tables, write_tables

NASTY = [  # text, as Markdown, as LaTeX
    ("a|b", r"a\|b", r"a\textbar{}b"),
    ("50 % & $5_000 #1", r"50 % &amp; $5\_000 #1", r"50 \% \& \$5\_000 \#1"),
    (r"\input{x}", r"\\input{x}", r"\textbackslash{}input\{x\}"),
    ("a\nb\r\nc", "a b c", "a b c"),
    ("<script>", "&lt;script&gt;", r"\textless{}script\textgreater{}"),
    (
        "**b** `c` [d](e)",
        r"\*\*b\*\* \`c\` \[d\](e)",
        r"{}**b** \textasciigrave{}c\textasciigrave{} [d](e)",
    ),
    ("x^2 ~y", r"x^2 \~y", r"x\textasciicircum{}2 \textasciitilde{}y"),
    ("[low]", r"\[low\]", "{}[low]"),
    ('a "b"', 'a "b"', r"a \symbol{34}b\symbol{34}"),
    ("*", r"\*", "{}*"),
    ("\u22121.5", "\u22121.5", "$-$1.5"),
    ("nul\0 half\ud800", "nul\ufffd half\ufffd", "nul\ufffd half\ufffd"),
]


@pytest.mark.parametrize(("text", "as_markdown", "as_latex"), NASTY)
def test_text_is_escaped(text: str, as_markdown: str, as_latex: str) -> None:
    table = Table(title="t", header=("Model", "n"), rows=((text, "1"),))
    assert f"| {as_markdown} | 1 |\n" in markdown(table)
    assert f"\n{as_latex} & 1 \\\\\n" in latex(table)
    assert markdown(table).encode()  # no half of a character is left


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_the_tables_fit_into_a_plain_article(tmp_path: Path) -> None:
    runs = [caption_run(), caption_run(label='a "b" <c> ~^\\|`*[_]{$} ' + "long " * 20)]
    write_tables(tmp_path, runs)
    (tmp_path / "a.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}"
        "\\begin{document}\\input{scores.tex}\\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout


def test_numbers_are_written_as_papers_do() -> None:
    assert [shown(value) for value in (8.34, -0.04, -2.25, None)] == [
        "8.3", "0.0", "\u22122.2", "\u2013",
    ]  # fmt: skip
    assert [signed(value) for value in (0.04, -0.04, 1.25, -4.9, None)] == [
        "0.0", "0.0", "+1.2", "\u22124.9", "\u2013",
    ]  # fmt: skip
    assert difference_text(Difference(value=4.85, low=-0.1, high=9.0)) == "+4.8 [\u22120.1, +9.0]"


def test_scores_stand_with_their_intervals() -> None:
    table = score_tables([caption_run()])[0]
    assert table.header == ("Model", "BLEU-4", "METEOR", "CIDEr-D", "ROUGE-L")
    assert table.rows == (
        ("ours", "8.3 [7.5, 9.2]", "\u2013", "43.2 [38.0, 48.0]", "27.4"),
    )  # fmt: skip
    assert "ours: METEOR is unavailable: no Java on this machine." in table.notes
    assert "ours: 2 items are left out: the image is missing." in table.notes
    assert table.title == "Spot-the-Diff: test split, protocol merged, n = 1,270"


def test_what_is_unavailable_is_said_once() -> None:
    why = {"meteor": "METEOR unavailable: no Java was found. Install one. Then score again."}
    notes = score_tables([caption_run(unavailable=why)])[0].notes
    said = "ours: METEOR is unavailable: no Java was found. Install one. Then score again."
    assert said in notes


def test_two_runs_get_a_row_of_differences() -> None:
    second = caption_run(label="theirs", scores={"bleu_4": 0.0954, "cider_d": 0.4})
    given = {"bleu_4": Difference(value=0.012, low=-0.001, high=0.025)}
    table = score_tables([caption_run(), second], given)[0]
    assert table.rows[2] == (
        "difference (second minus first)", "+1.2 [\u22120.1, +2.5]", "\u2013", "\u22123.2",
        "\u2013",
    )  # fmt: skip
    assert table.lines_before == (2,)
    assert "A difference without brackets has no interval." in table.notes


def test_the_corrected_key_has_its_own_row() -> None:
    table = score_tables([choice_run("ab")])[0]
    assert table.rows[1] == ("ours (corrected key)", "28.7 [22.0, 36.4]", "\u2013", "\u2013")


def test_gaps_are_ours_minus_the_papers() -> None:
    table = score_tables([caption_run()])[1]
    assert table.header[:4] == ("Model", "Table", "BLEU-4", "gap")
    assert table.rows[0][:4] == ("ours", "ours", "8.3", "")
    by_name = {row[0]: row for row in table.rows[1:]}
    assert by_name["LLaVA-1.5-7B + RP"] == (
        "LLaVA-1.5-7B + RP", "Table 1", "9.7", "\u22121.4", "13.0", "\u2013", "43.2", "0.0",
        "30.8", "\u22123.4",
    )  # fmt: skip
    assert "LLaVA-1.5-13B" in by_name  # of the supplement
    assert any(note.startswith("\u2013 no figure") for note in table.notes)
    mmvp = score_tables([choice_run("ab" * 150)])[1]
    assert ("MGM-7B + RP", "Figure 5", "50.7", "\u221223.4") in mmvp.rows
    assert ("LLaVA-1.5-7B + RP", "Figure 5", "27.3", "0.0") in mmvp.rows


@pytest.mark.parametrize("benchmark", ["mmvp", "spot_the_diff", "image_edit_request"])
@pytest.mark.parametrize("how", ["suffix", "key"])
def test_a_procedural_set_is_never_beside_published_figures(
    tmp_path: Path, benchmark: str, how: str
) -> None:
    name = f"{benchmark}_procedural" if how == "suffix" else benchmark
    changes = {"benchmark": name, "procedural": how == "key"}
    run = choice_run("ab", **changes) if benchmark == "mmvp" else caption_run(**changes)
    tables = score_tables([run])
    assert len(tables) == 1
    assert any("no published figure is shown" in note for note in tables[0].notes)
    assert tables[0].title.startswith("Procedural set in the format of")
    for path in write_tables(tmp_path, [run]):
        text = path.read_text("utf-8")
        assert "gap" not in text
        assert "LLaVA" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"n": 1404}, "Scored on 1,404 images; the published set has 1,270."),
        ({"split": "val"}, "Scored on the split 'val'"),
        ({"protocol": "per_item"}, "Scored with protocol 'per_item'"),
        ({"tokenizer": "PTBTokenizer of Stanford"}, None),
        ({"tokenizer": "words"}, "Tokenised with 'words'"),
        ({"benchmark": "image_edit_request", "n": 495, "protocol": "per_uid"}, None),
        ({"benchmark": "birds_to_words"}, "The paper prints no figures for this benchmark."),
    ],
)
def test_what_makes_a_gap_doubtful_is_said(changes: dict[str, object], said: str | None) -> None:
    caveats = beside_paper(boards_of([caption_run(**changes)])[0]).caveats
    assert [caveat[: len(said or "")] for caveat in caveats] == ([said] if said else [])


def test_a_part_of_mmvp_is_not_mmvp() -> None:
    (caveat,) = beside_paper(boards_of([choice_run("abab")])[0]).caveats
    assert caveat.startswith("Scored on 4 questions; the published set has 300.")


def test_files_are_whole_and_equal_for_equal_runs(tmp_path: Path) -> None:
    runs = [caption_run(), caption_run(label="more & more")]
    paths = write_tables(tmp_path / "one", runs)
    again = write_tables(tmp_path / "two", runs)
    assert [path.name for path in paths] == ["scores.md", "scores.tex"]
    assert [p.read_bytes() for p in paths] == [p.read_bytes() for p in again]
    text = paths[1].read_text("utf-8")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}}") == 3
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert r"more \& more" in text
    for line in text.splitlines():
        if line.endswith(r" \\"):
            assert not line.startswith(("[", "*"))

"""Delta over general benchmarks: the paper's own figures, and every way a CSV can be wrong."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from imgdiff.core.errors import DataError
from imgdiff.eval.general import main
from imgdiff.eval.report.general import deltas, general_tables, read_scores
from imgdiff.eval.report.paper import GENERAL, load_paper

HEAD = "model,baseline,vqav2,gqa,pope,mmbench,mmbench_cn,mm_vet,scienceqa,seed"
BASE = "base,,78.5,62,85.9,64.3,58.3,30.5,66.8,58.6"
TUNED = "tuned,base,79.3,62.8,86.4,66.1,59.8,33.2,68.2,61.7"
# Deltas to four decimals, computed apart from this code from the printed scores.
CHECKSUMS = {
    "LLaVA-1.5-7B + RP": (3.0628, 2.2357),
    "MGM-7B + RP": (1.2827, 0.3105),
    "InternVL2-8B + RP": (1.0064, 0.1630),
    "LLaVA-7B + RP + RM": (3.9107, 3.2516),
    "LLaVA-1.5-7B + CLEVR": (1.3004, 1.8141),
    "LLaVA-1.5-7B + ImageEdit + Spot": (1.8671, 2.1338),
    "LLaVA-1.5-7B + RP(13K) + RP(35K)": (3.4024, 2.5770),
    "LLaVA-1.5-7B + RP(lexicon)": (2.6696, 2.2547),
    "LLaVA-1.5-13B + RP": (1.4925, 0.8986),
    "InternVL2-1B + RP": (0.8383, 0.2863),
    "ablation (1)": (2.4180, 1.7330),
    "ablation (2)": (2.5214, 1.8512),
    "ablation (4)": (2.2408, 1.7646),
}


def written(folder: Path, *lines: str) -> Path:
    path = folder / "scores.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def papers_scores(tmp_path: Path) -> Path:
    path = tmp_path / "paper.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["model", "baseline", *GENERAL])
        for row in load_paper().general:
            writer.writerow([row.model, row.baseline or "", *row.scores.values()])
    return path


def test_the_13_printed_deltas_come_out_of_the_printed_scores(papers_scores: Path) -> None:
    found = {delta.model: delta for delta in deltas(read_scores(papers_scores))}
    printed = {row.model: row.delta for row in load_paper().general if row.delta is not None}
    assert {name: round(delta.mean, 2) for name, delta in found.items()} == printed
    assert len(printed) == 13
    for name, (mean, without) in CHECKSUMS.items():
        (delta,) = [delta for model, delta in found.items() if model.split(":")[0] == name]
        assert delta.mean == pytest.approx(mean, abs=5e-5)
        assert delta.mean_without_mm_vet == pytest.approx(without, abs=5e-5)


def test_changes_are_relative_and_in_per_cent(tmp_path: Path) -> None:
    (delta,) = deltas(read_scores(written(tmp_path, HEAD, BASE, TUNED)))
    assert delta.changes["mm_vet"] == pytest.approx(100 * 2.7 / 30.5)
    assert (delta.model, delta.baseline, delta.missing) == ("tuned", "base", ())


@pytest.mark.parametrize("title", ["mm_vet", "MM-Vet", "mmvet", "MMVet", "MM Vet"])
def test_mm_vet_is_known_in_its_spellings(tmp_path: Path, title: str) -> None:
    path = written(tmp_path, HEAD.replace("mm_vet", title), BASE, TUNED)
    (delta,) = deltas(read_scores(path))
    assert delta.mean_without_mm_vet == pytest.approx(2.2357, abs=5e-5)


def test_the_papers_own_column_names_are_known(tmp_path: Path) -> None:
    head = "\ufeffModel,Baseline,VQAv2,GQA,POPE,MMB,MMB-CN,MM-Vet,SQA-I,SEED"
    (delta,) = deltas(read_scores(written(tmp_path, head, BASE, TUNED)))
    assert delta.mean == pytest.approx(3.0628, abs=5e-5)


def test_an_empty_cell_is_said_and_named(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, BASE, TUNED.replace("33.2", "").replace("62.8", " "))
    sheet = read_scores(path)
    (delta,) = deltas(sheet)
    assert delta.missing == ("gqa", "mm_vet")
    assert len(delta.changes) == 6
    table = general_tables(sheet)[0]
    assert table.rows[0][-1] == "6 of 8"
    assert any("over 6 benchmarks only, without GQA, MM-Vet" in note for note in table.notes)


def test_another_benchmark_counts_and_a_column_of_words_does_not(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + ",mmstar,comment", BASE + ",30,first", TUNED + ",33,second")
    sheet = read_scores(path)
    assert sheet.benchmarks == (*GENERAL, "mmstar")
    assert sheet.ignored == ("comment",)
    (delta,) = deltas(sheet)
    assert delta.changes["mmstar"] == pytest.approx(10)
    notes = general_tables(sheet)[0].notes
    assert any("mmstar" in note and "not part of the paper" in note for note in notes)
    assert any("not used: comment" in note for note in notes)


def test_a_chain_of_baselines_is_no_circle(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, BASE, TUNED, TUNED.replace("tuned,base", "again,tuned"))
    assert [delta.mean for delta in deltas(read_scores(path))][1] == pytest.approx(0)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "the file is empty"),
        (("", " , "), "the file is empty"),
        ((HEAD,), "no model under it"),
        ((HEAD.replace("gqa,", ""), BASE), r":1: no column 'gqa'; found model"),
        ((HEAD.replace("model,", ""), BASE), r":1: no column 'model'"),
        ((HEAD.replace(",seed", ",POPE"), BASE), r":1: two columns are 'pope'"),
        ((HEAD.replace("gqa", ""), BASE), r":1: column 4 has no name"),
        ((HEAD, BASE, TUNED + ",5"), r":3: 11 cells under 10 columns"),
        ((HEAD, BASE, TUNED.replace("62.8", "n/a")), r":3: column gqa: 'n/a' is not a number"),
        ((HEAD, BASE, TUNED.replace("62.8", "62.8%")), r":3: column gqa: '62.8%'"),
        ((HEAD, BASE, TUNED.replace("62.8", '"62,8"')), r":3: column gqa: '62,8'"),
        ((HEAD, BASE, TUNED.replace("62.8", "NaN")), r":3: column gqa: 'NaN' is not a number"),
        ((HEAD, BASE, TUNED.replace("62.8", "inf")), r":3: column gqa: 'inf' is not a number"),
        ((HEAD, BASE, TUNED.replace("62.8", "1e999")), r":3: column gqa: '1e999' is out of range"),
        ((HEAD, BASE, TUNED.replace("62.8", "-1")), r":3: column gqa: '-1' is out of range"),
        ((HEAD, BASE, TUNED.replace("62.8", "६२")), r":3: column gqa: '६२' is not a number"),
        ((HEAD, BASE.replace("62,", "0,"), TUNED), r":2: column gqa: the baseline 'base' has 0"),
        ((HEAD, BASE, TUNED.replace("base", "bsae")), r":3: column baseline.*Did you mean 'base'"),
        ((HEAD, TUNED.replace("base", "tuned")), r":2: column baseline: tuned -> tuned is a circ"),
        (
            (HEAD, BASE.replace("base,", "base,tuned"), TUNED),
            r":2: column baseline: base -> tuned -> base is a circle",
        ),
        ((HEAD, BASE, "", BASE), r":4: column model: 'base' stands already in line 2"),
        ((HEAD, BASE, TUNED.replace("tuned", "")), r":3: column model is empty"),
        ((HEAD, BASE, "tuned,base,,,,,,,,"), r":3: 'tuned' and its baseline 'base' share no"),
        ((HEAD, BASE, '"tuned,base'), "not a UTF-8 CSV file"),
    ],
)
def test_a_wrong_file_is_refused_by_line_and_column(
    tmp_path: Path, lines: tuple[str, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said) as refused:
        deltas(read_scores(written(tmp_path, *lines)))
    assert "scores.csv" in str(refused.value)


def test_a_file_that_is_not_text_or_not_there_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "scores.csv"
    binary.write_bytes(b"model,\xff\xfe")
    with pytest.raises(DataError, match="not a UTF-8 CSV file"):
        read_scores(binary)
    with pytest.raises(DataError, match="no such file"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]tuned[/red]"  # no mark-up of the terminal
    path = written(tmp_path, HEAD, BASE, TUNED.replace("tuned", name))
    main([str(path), "--output", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert name in printed
    assert "+3.06" in printed
    assert "+2.24" in printed
    written_md = (tmp_path / "out" / "general.md").read_text("utf-8")
    assert "| \\[red\\]tuned\\[/red\\] | base | +3.06 | +2.24 | 8 of 8 |" in written_md
    assert r"[red]tuned[/red] & base & +3.06 & +2.24 & 8 of 8 \\" in (
        tmp_path / "out" / "general.tex"
    ).read_text("utf-8")


def test_the_command_ends_with_one_message(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD, BASE, TUNED.replace("62.8", "x"))
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.eval.general", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert done.stderr.startswith("imgdiff.eval.general: ")
    assert "scores.csv:3: column gqa: 'x'" in done.stderr
    assert "Traceback" not in done.stderr

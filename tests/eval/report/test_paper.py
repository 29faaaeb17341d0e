"""The paper's numbers against what was read of it elsewhere."""

from __future__ import annotations

import pytest

from imgdiff.eval.report.paper import CAPTION_SCORES, GENERAL, load_paper

# The same rows in another paper (SCORER, ICCV 2023, tables 4 and 5).
ELSEWHERE = {
    ("spot_the_diff", "VAM"): {"bleu_4": 10.1, "meteor": 12.4, "cider_d": 38.1},
    ("spot_the_diff", "DUDA+Aux"): {"bleu_4": 8.1, "meteor": 12.5, "cider_d": 34.5},
    ("spot_the_diff", "VACC"): {"bleu_4": 9.7, "meteor": 12.6, "cider_d": 41.5},
    ("spot_the_diff", "IFDC"): {"bleu_4": 8.7, "meteor": 11.7, "cider_d": 37.0},
    ("image_edit_request", "VARD"): {
        "bleu_4": 10.0, "meteor": 14.8, "rouge_l": 39.0, "cider_d": 35.7,
    },
    ("image_edit_request", "NCT"): {
        "bleu_4": 8.1, "meteor": 15.0, "rouge_l": 38.8, "cider_d": 34.2,
    },
    ("image_edit_request", "BiDiff"): {
        "bleu_4": 6.9, "meteor": 14.6, "rouge_l": 38.5, "cider_d": 27.7,
    },
}  # fmt: skip


@pytest.mark.parametrize(("place", "scores"), ELSEWHERE.items())
def test_baseline_rows_equal_those_of_another_paper(
    place: tuple[str, str], scores: dict[str, float]
) -> None:
    (row,) = [row for row in load_paper().rows_of(place[0]) if row.model == place[1]]
    assert {name: row.scores[name] for name in scores} == scores


def test_every_table_has_its_rows() -> None:
    paper = load_paper()
    counts: dict[str, int] = {}
    for row in paper.rows:
        counts[f"{row.benchmark} {row.table}"] = counts.get(f"{row.benchmark} {row.table}", 0) + 1
    assert counts["spot_the_diff Table 1"] == 10
    assert counts["image_edit_request Table 2"] == 11
    assert counts["mmvp Figure 5"] == 11
    assert len(paper.general) == 18
    assert sum(row.delta is not None for row in paper.general) == 13
    assert paper.published_n == {"mmvp": 300, "spot_the_diff": 1270, "image_edit_request": 495}


def test_columns_are_complete_and_on_the_papers_scale() -> None:
    for row in load_paper().rows:
        names = ("pair_accuracy",) if row.benchmark == "mmvp" else CAPTION_SCORES
        assert tuple(row.scores) == names
        assert all(value is not None and 1 < value < 100 for value in row.scores.values())
    for general in load_paper().general:
        assert tuple(general.scores) == GENERAL


def test_mmvp_figures_are_counts_of_150_pairs_but_one() -> None:
    odd = []
    for row in load_paper().rows_of("mmvp"):
        value = row.scores["pair_accuracy"]
        assert value is not None
        if round(100 * round(value * 1.5) / 150, 1) != value:
            odd.append((row.table, value))
    assert odd == [("Table 11", 29.0)]


def test_notes_that_rows_name_exist() -> None:
    paper = load_paper()
    assert {row.note for row in paper.rows if row.note} <= set(paper.notes)

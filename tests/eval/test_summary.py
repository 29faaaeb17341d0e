"""What the terminal shows when an evaluation ends."""

from __future__ import annotations

import pytest
from report_runs import caption_run, choice_run

from imgdiff.eval.summary import show_summary


def test_both_keys_stand_with_their_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    show_summary(choice_run("abab", label="of [/x]"))
    shown = capsys.readouterr().out
    assert "MMVP, letter: of [/x]" in shown
    for parts in (("pair accuracy", "27.3", "20.8 - 35.0"), ("corrected key", "28.7", "22.0 - 3")):
        assert any(all(part in line for part in parts) for line in shown.splitlines())


def test_why_a_score_is_unavailable_is_said_word_for_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = {"low": 0.2, "high": 0.3}
    run = caption_run(
        unavailable={"meteor": "METEOR unavailable: `pip install imgdiff[java]`."},
        intervals=dict.fromkeys(("bleu_4", "rouge_l", "cider_d"), held),
        by_kind={},
    )
    show_summary(run)
    shown = capsys.readouterr().out
    assert "METEOR unavailable: `pip install imgdiff[java]`.\n" in shown
    assert "left out: 2 items, the image is missing\n" in shown

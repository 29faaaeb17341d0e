"""Comparing two evaluations: known tables, and pairs of runs that do not belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imgdiff.core.errors import ConfigError, DataError
from imgdiff.eval.compare import as_json, compare_runs, main
from imgdiff.eval.config import BenchmarkConfig, EvalConfig, MmvpConfig, SpotConfig
from imgdiff.eval.run import run
from imgdiff.eval.run_files import read_run


def _mmvp(folder: Path, pairs: int) -> MmvpConfig:
    folder.mkdir(exist_ok=True)
    rows = "".join(
        f"{2 * k + s + 1},Is {k} up?,(a) Up (b) Down,({'ab'[s]})\n"
        for k in range(pairs)
        for s in range(2)
    )
    (folder / "Questions.csv").write_text("Index,Question,Options,Correct Answer\n" + rows)
    return MmvpConfig(root=str(folder))


def _run(tmp_path: Path, name: str, benchmark: BenchmarkConfig, texts: dict[str, str]) -> Path:
    (tmp_path / f"{name}.json").write_text(json.dumps(texts))
    config = EvalConfig(
        benchmark=benchmark,
        predictions=str(tmp_path / f"{name}.json"),
        output_dir=str(tmp_path / name),
        cache_dir=str(tmp_path / "cache"),
    )
    run(config)
    return tmp_path / name


def _letters(pairs: int, right_pairs: int) -> dict[str, str]:
    """Pairs from the first on are right; the others answer A twice."""
    return {
        str(2 * k + s + 1): "ab"[s] if k < right_pairs else "a"
        for k in range(pairs)
        for s in range(2)
    }


def test_shares_are_compared_on_pairs_and_on_questions(tmp_path: Path) -> None:
    benchmark = _mmvp(tmp_path / "set", 20)
    first = read_run(_run(tmp_path, "a", benchmark, _letters(20, 6)))
    second = read_run(_run(tmp_path, "b", benchmark, _letters(20, 16)))
    pair, single = compare_runs(first, second).deltas
    assert (pair.metric, pair.first, pair.second) == ("pair_accuracy", 0.3, 0.8)
    # Ten pairs changed, all to the better: p = 2 / 2**10.
    assert pair.p == pytest.approx(2 / 2**10)
    assert 0.0 < pair.low < 0.5 < pair.high < 0.75
    assert not pair.within_noise
    assert (single.metric, single.value) == ("accuracy", pytest.approx(0.25))
    back = compare_runs(second, first).deltas[0]
    assert (back.value, back.low, back.high) == pytest.approx((-0.5, -pair.high, -pair.low))
    same = compare_runs(first, first).deltas[0]
    assert (same.value, same.p, same.within_noise) == (0.0, 1.0, True)


def _spot(tmp_path: Path, count: int = 30) -> SpotConfig:
    rows = [{"img_id": str(n), "sentences": [f"the car {n} is gone"]} for n in range(count)]
    (tmp_path / "test.json").write_text(json.dumps(rows))
    return SpotConfig(annotations=str(tmp_path / "test.json"))


@pytest.mark.usefixtures("without_java")
def test_captions_are_compared_without_java_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = _spot(tmp_path)
    good = {str(n): f"the car {n} is gone" for n in range(30)}
    poor = {str(n): f"the car {n} is here" for n in range(30)}
    folders = [_run(tmp_path, n, benchmark, t) for n, t in (("poor", poor), ("good", good))]
    compared = compare_runs(*map(read_run, folders), resamples=200)
    by_name = {item.metric: item for item in compared.deltas}
    assert set(by_name) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"}
    assert (by_name["bleu_1"].second, by_name["bleu_1"].within_noise) == (pytest.approx(1.0), False)
    assert "without Java" in compared.unavailable["meteor"]
    value = as_json(compared)
    assert value["differences"]["bleu_1"]["difference"] == by_name["bleu_1"].value
    capsys.readouterr()
    report, table = tmp_path / "both.html", tmp_path / "both.json"
    main([*map(str, folders), "--resamples", "200", "--report", str(report), "--json", str(table)])
    assert json.loads(table.read_text()) == value
    assert "the car 7 is here" in report.read_text("utf-8")
    shown = capsys.readouterr().out
    assert "B is better" in shown
    assert "METEOR unavailable" in shown


@pytest.mark.usefixtures("without_java")
def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    answers = {str(n): "gone" for n in range(30)}
    mmvp = read_run(_run(tmp_path, "m", _mmvp(tmp_path / "set", 4), _letters(4, 1)))
    spot = read_run(_run(tmp_path, "s", _spot(tmp_path), answers))
    with pytest.raises(DataError, match="benchmark is 'mmvp' and 'spot_the_diff'"):
        compare_runs(mmvp, spot)
    fewer = {str(n): "gone" for n in range(20)}
    small = read_run(_run(tmp_path, "few", _spot(tmp_path, 20), fewer))
    with pytest.raises(DataError, match=r"10 items are in one of them only.*first is '20'"):
        compare_runs(spot, small)
    changed: Any = json.loads((tmp_path / "test.json").read_text())
    changed[3]["sentences"] = ["a man came"]
    (tmp_path / "test.json").write_text(json.dumps(changed))
    other = SpotConfig(annotations=str(tmp_path / "test.json"))
    with pytest.raises(DataError, match="first is '3'"):
        compare_runs(small, read_run(_run(tmp_path, "other", other, fewer)))
    with pytest.raises(ConfigError, match="resamples=1"):
        compare_runs(spot, spot, resamples=1)
    with pytest.raises(ConfigError, match="seed=-1"):
        compare_runs(spot, spot, seed=-1)


def test_the_command_refuses_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), str(tmp_path)])
    assert ended.value.code == 2
    assert "no scores.json there" in capsys.readouterr().err


def test_damaged_runs_are_named(tmp_path: Path) -> None:
    folder = _run(tmp_path, "m", _mmvp(tmp_path / "set", 4), _letters(4, 1))
    lines = (folder / "predictions.jsonl").read_text().split("\n")
    (folder / "predictions.jsonl").write_text("\n".join(lines[:-2]))
    with pytest.raises(
        DataError, match=r"predictions\.jsonl.*7 answers, but scores\.json says n=8"
    ):
        read_run(folder)
    (folder / "predictions.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"predictions\.jsonl.*Run the evaluation again"):
        read_run(folder)
    (folder / "scores.json").write_text("[]")
    with pytest.raises(DataError, match="not what an evaluation wrote"):
        read_run(folder)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("scores.json", "benchmark", 5),
        ("scores.json", "procedural", None),
        ("scores.json", "scores", 5),
        ("scores.json", "intervals", []),
        ("scores.json", "left_out", [5]),
        ("scores.json", "n", "8"),
        ("predictions.jsonl", "id", 5),
        ("predictions.jsonl", "answer", None),
        ("predictions.jsonl", "images", 5),
        ("predictions.jsonl", "options", "a"),
        ("predictions.jsonl", "", "no object"),
    ],
)
def test_a_part_of_another_kind_is_damage(
    tmp_path: Path, name: str, key: str, value: object
) -> None:
    folder = _run(tmp_path, "m", _mmvp(tmp_path / "set", 4), _letters(4, 1))
    text = (folder / name).read_text("utf-8")
    whole, rest = (text, "") if name == "scores.json" else text.split("\n", 1)
    changed = json.loads(whole) | {key: value} if key else value
    (folder / name).write_text(f"{json.dumps(changed)}\n{rest}")
    with pytest.raises(DataError, match=r"not what an evaluation wrote .*Run the evaluation again"):
        read_run(folder)

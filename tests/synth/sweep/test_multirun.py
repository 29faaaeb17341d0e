"""`python -m imgdiff.synth -m`: the same as every row by itself, for the price of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.errors import ConfigError, StoreError
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.manifest import LOCK, sole_run
from imgdiff.synth.pipeline import run
from imgdiff.synth.sweep.prepare import prepare
from imgdiff.synth.sweep.summary import Row, summarise

REPO = Path(__file__).parents[3]
FEW = (
    "source.limit=12", "source.split=test", "shard_size=5", "workers=1",
    "describe.sentence_by=template",
)  # fmt: skip
LOOSE = "rules.match.above=0.2 rules.content_similarity.below=0.95"
ROWS = (
    LOOSE, "rules.match.above=0.314 rules.max_regions=1", "rules.content_match.above=0.41",
)  # fmt: skip


def config(folder, name, store, *changes):
    register()
    where = (f"output_dir={folder / name}", f"store_dir={folder / store}")
    return compose_typed("synth", SynthConfig, [*FEW, *where, *changes])


def held(folder, name):
    """The decided figures of a run."""
    return [
        json.loads((folder / name / f"{kind}.json").read_text()) for kind in ("funnel", "audit")
    ]


def calls(profile):
    return sum(row["model_calls"] for row in profile)


def multirun(folder, *settings, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.synth", "-m", *FEW, "hydra.sweep.dir=many", *settings],
        cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def test_rows_together_are_as_each_alone_and_ask_no_more_than_the_loosest(tmp_path) -> None:
    decide = "stop_after=decide"
    for number, row in enumerate(ROWS):
        run(config(tmp_path, f"alone{number}", f"store{number}", decide, *row.split()))
    profile = prepare(
        [
            config(tmp_path, f"row{number}", "shared", decide, *row.split())
            for number, row in enumerate(ROWS)
        ]
    )
    for number in range(len(ROWS)):
        assert held(tmp_path, f"row{number}") == held(tmp_path, f"alone{number}")
        run(config(tmp_path, f"row{number}", "shared", decide, *ROWS[number].split()))  # is there
    assert len({json.dumps(held(tmp_path, f"row{n}")) for n in range(len(ROWS))}) == len(ROWS)
    loosest = json.loads((tmp_path / "alone0" / "profile.json").read_text())
    assert calls(loosest) > 100
    assert calls(profile) <= 1.1 * calls(loosest)
    again = prepare([config(tmp_path, "again", "shared", decide, *ROWS[1].split())])
    assert calls(again) == 0
    assert held(tmp_path, "again") == held(tmp_path, "alone1")


def test_a_decided_run_says_what_the_whole_run_keeps(tmp_path) -> None:
    run(config(tmp_path, "whole", "store"))
    run(config(tmp_path, "decided", "store", "stop_after=decide"))
    whole, decided = held(tmp_path, "whole"), held(tmp_path, "decided")
    assert decided[0]["samples"] == whole[0]["samples"] > 0
    assert decided[0]["items"] == whole[0]["items"]
    assert decided[0]["regions"] == whole[0]["regions"][:-1]  # no sentences
    for figure in ("box_precision", "changed_pair_recall", "region_name_accuracy"):
        assert decided[1][figure] == whole[1][figure] is not None
    assert decided[1]["difference_accuracy"] is None
    assert not (tmp_path / "decided" / "dataset").exists()
    assert not (tmp_path / "decided" / "work").exists()


@pytest.mark.skipif(not (mini_root() / "sdxl").exists(), reason="the mini SDXL is not built")
def test_rows_over_drawn_pairs_are_looked_up(tmp_path) -> None:
    """A diffusion model keeps no record of what it drew, so nothing but scores decides."""
    drawn = ("generator=sdxl_p2p", "generator.steps=6", "stop_after=decide", "source.limit=6")
    first = prepare([config(tmp_path, "first", "store", *drawn)])
    rows = ("rules.match.above=0.33", "rules.image_similarity.below=0.9")
    looked = prepare([config(tmp_path, f"row{n}", "store", *drawn, r) for n, r in enumerate(rows)])
    assert calls(first) > 20
    assert calls(looked) == 0
    assert [row["stage"] for row in looked] == ["edit", "generate", "look_up"]
    for number, row in enumerate(rows):
        run(config(tmp_path, f"whole{number}", "store", *drawn[:2], drawn[3], row))
        whole, decided = held(tmp_path, f"whole{number}"), held(tmp_path, f"row{number}")
        assert decided[0]["regions"] == whole[0]["regions"][:-1]
        assert decided[0]["samples"] == whole[0]["samples"]
        assert decided[1]["n_pairs"] == whole[1]["n_pairs"] == 6


def test_a_multirun_makes_the_data_sets_of_its_rows(tmp_path) -> None:
    multirun(tmp_path, "rules.match.above=0.314,0.33", "hydra/launcher=joblib")
    found = json.loads((tmp_path / "many" / "sweep.json").read_text())
    for number, above in enumerate((0.314, 0.33)):
        alone = config(tmp_path, f"alone{number}", "store", f"rules.match.above={above}")
        run(alone)
        row = tmp_path / "many" / str(number)
        for name in ("dataset/img_diff.json", "dataset/img_diff.parquet", "funnel.json"):
            assert (row / name).read_bytes() == Path(alone.output_dir, name).read_bytes()
        entry = found[number]
        assert entry["overrides"] == [f"rules.match.above={above}"]
        assert entry["thresholds"]["match"]["above"] == above
        assert [entry["funnel"], entry["audit"]] == held(tmp_path, f"alone{number}")
    assert calls(json.loads((tmp_path / "many" / "profile.json").read_text())) > 0
    for number in (0, 1):  # everything was there
        row = json.loads((tmp_path / "many" / str(number) / "profile.json").read_text())
        assert calls(row) == 0
    table = (tmp_path / "many" / "sweep.md").read_text()
    assert "| row | swept | image similarity | match |" in table
    assert "| 1 | rules.match.above=0.33 |" in table


def test_images_of_their_own_are_refused_before_any_is_drawn(tmp_path) -> None:
    done = multirun(tmp_path, "seed=1,2", code=2)
    assert done.stderr.startswith("imgdiff.synth: a sweep over seed: 2 sets of images")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rules.match.above=0.3,x", "rules.match.above=x"),
        ("rules.max_iou=0.5,1.5", "rules.max_iou=1.5: must lie in [0, 1]"),
        ("rules.matsh=1,2", "Did you mean rules.match"),
    ],
)
def test_a_wrong_row_is_refused_before_the_first_one_works(tmp_path, setting, message) -> None:
    done = multirun(tmp_path, setting, code=2)
    assert message in done.stderr
    assert not (tmp_path / "many" / "0").exists()


def test_slurm_composes_with_the_rows_of_table_14(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.synth", "experiment=synth/table14", "hydra/launcher=slurm",
         "hydra.launcher.partition=gpu", "--cfg", "hydra"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "submitit_launcher.SlurmLauncher" in done.stdout
    assert "ablation: table14_row1,table14_row2,table14_row3,table14_row4" in done.stdout


def test_table_14_is_that_of_the_paper() -> None:
    register()
    found = []
    for number in (1, 2, 3, 4):
        settings = ["experiment=synth/table14", f"ablation=table14_row{number}"]
        rules = compose_typed("synth", SynthConfig, settings).rules
        images = rules.image_similarity
        found.append((images.above, images.below, rules.match.above,
                      rules.content_similarity.below, rules.content_match.above))  # fmt: skip
        assert rules.crop_similarity.below == 0.85
    assert found == [
        (0.90, 0.98, 0.30, 0.90, 0.30), (0.90, 0.98, 0.35, 0.90, 0.30),
        (0.90, 0.98, 0.35, 0.85, 0.40), (0.85, 0.98, 0.35, 0.85, 0.40),
    ]  # fmt: skip


def test_of_two_runs_into_one_folder_the_later_one_is_refused(tmp_path) -> None:
    settings = config(tmp_path, "out", "store", "stop_after=edit")
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / LOCK), pytest.raises(ConfigError, match="another run is"):
        run(settings)
    run(settings)
    with sole_run(tmp_path / "out"), pytest.raises(ConfigError, match="another run is"):
        prepare([config(tmp_path, "out", "store", "stop_after=decide")])


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"file.out.*could not be written"):
        run(config(tmp_path, "file/out", "store", "stop_after=edit"))


def test_rows_that_are_not_known_beforehand_are_found_in_the_folder(tmp_path, capsys) -> None:
    for name, above in (("10", 0.314), ("9", 0.33)):
        run(config(tmp_path, name, "store", "stop_after=decide", f"rules.match.above={above}"))
    summarise(tmp_path, [])
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert [(entry["row"], entry["thresholds"]["match"]["above"]) for entry in found] == [
        (9, 0.33), (10, 0.314),
    ]  # fmt: skip
    assert "row 10" in capsys.readouterr().out


def test_many_rows_are_a_line_each_and_missing_ones_are_left_out(tmp_path, capsys) -> None:
    run(config(tmp_path, "one", "store", "stop_after=decide"))
    (tmp_path / "one" / "scores.json").write_text('{"mmvp": 41.25, "spot": null}')
    rows = [Row(number=n, overrides=(f"a={n}",), output=tmp_path / "one") for n in range(7)]
    summarise(tmp_path, [*rows, Row(number=7, overrides=(), output=tmp_path / "none")])
    assert len(json.loads((tmp_path / "sweep.json").read_text())) == 7
    text = (tmp_path / "sweep.md").read_text()
    assert "| score mmvp | score spot |" in text
    assert "| 41.2500 | - |" in text
    assert "a=6" in capsys.readouterr().out
    summarise(tmp_path / "empty", [])
    assert not (tmp_path / "empty").exists()

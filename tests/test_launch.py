"""One door for every command: typed configs, and refusals that say what to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from imgdiff import launch
from imgdiff.core.errors import ConfigError

CONF = Path(launch.__file__).parent.parent / "conf"


class Strategy(str, Enum):
    single = "single"
    ddp = "ddp"


@dataclass(kw_only=True)
class Range:
    lo: float = 0.0
    hi: float = 1.0

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise ConfigError(f"range is empty: lo={self.lo} > hi={self.hi}; need lo <= hi")


@dataclass(kw_only=True)
class Narrow(Range):
    step: float = 0.5


@dataclass(kw_only=True)
class FakeConfig:
    steps: int = 1
    strategy: Strategy = Strategy.single
    folder: str = MISSING
    keep: Range = field(default_factory=Range)
    filters: dict[str, Range] = field(default_factory=dict)
    note: str | None = None


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[Path]:
    """A conf folder with one root, one group and the snippet that all roots share."""
    folder = tmp_path / "conf"
    (folder / "preset").mkdir(parents=True)
    shutil.copytree(CONF / "hydra", folder / "hydra")
    shutil.copy(CONF / "launch.yaml", folder)
    (folder / "fake.yaml").write_text(
        "defaults:\n  - schema/fake\n  - preset: mini\n  - launch\n  - _self_\n"
    )
    for name, steps in (("mini", 3), ("paper", 300)):
        (folder / "preset" / f"{name}.yaml").write_text(f"# @package _global_\nsteps: {steps}\n")
    ConfigStore.instance().store(group="schema", name="fake", node=FakeConfig, package="_global_")
    yield folder
    del ConfigStore.instance().repo["schema"]["fake.yaml"]


def compose(conf: Path, *overrides: str) -> FakeConfig:
    return launch.compose_typed("fake", FakeConfig, overrides, folder=conf)


def test_compose_gives_the_dataclass_with_its_values(conf: Path) -> None:
    config = compose(conf, "folder=out", "preset=paper", "keep.lo=0.5", "strategy=ddp")
    expected = FakeConfig(
        folder="out", steps=300, keep=Range(lo=0.5, hi=1.0), strategy=Strategy.ddp
    )
    assert config == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stepss=3"], "unknown key stepss. Did you mean steps? Keys of the config: filters, "),
        (["keep.low=1"], "unknown key keep.low. Did you mean keep.lo? Keys of keep: hi, lo."),
        (["hi=1"], "unknown key hi. Did you mean keep.hi?"),
        (["prest=mini"], "unknown key prest. Did you mean preset?"),
        (["+extra=1", "folder=x"], "unknown key extra. Keys of the config: "),
        (["+keep.loo=1", "folder=x"], "unknown key keep.loo. Did you mean keep.lo?"),
        (["steps=many"], "steps=many: Value 'many' of type 'str' could not be converted to Int"),
        (["steps=3.5"], "steps=3.5: Value '3.5' of type 'float' could not"),
        (["steps=null"], "steps=null: field 'steps' is not Optional"),
        (["keep=3"], "keep=3: Invalid type assigned: int is not a subclass of Range"),
        (["strategy=dp"], "strategy=dp: Invalid value 'dp', expected one of [single, ddp]"),
        (["preset=minii"], "preset=minii: no such option. Did you mean mini? Options of preset: "),
        (["steps==3"], "Error parsing override 'steps==3'"),
        (["steps"], "Write overrides as key=value"),
        ([], "folder is required and not set. Add folder=... to the command."),
        (["folder=x", "note='${nowhere}'"], "note: Interpolation key 'nowhere' not found"),
        (["folder=x", "keep.lo=2"], "range is empty: lo=2.0 > hi=1.0; need lo <= hi"),
        (["folder=x", "+filters.a={lo:0.2,typo:1}"], "typo"),
    ],
)
def test_refusals_name_key_value_rule_and_remedy(
    conf: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(conf, *overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hydra.cc" not in str(caught.value)


def test_missing_root_config_is_named(conf: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot find primary config 'nope'"):
        launch.compose_typed("nope", FakeConfig, folder=conf)


def test_untyped_config_is_checked_against_the_schema() -> None:
    raw = OmegaConf.create({"folder": "x", "steps": 7})
    assert launch.to_typed(raw, FakeConfig) == FakeConfig(folder="x", steps=7)
    with pytest.raises(ConfigError, match="unknown key stps"):
        launch.to_typed(OmegaConf.create({"folder": "x", "stps": 7}), FakeConfig)


def test_subclass_schemas_survive_typing() -> None:
    raw = OmegaConf.structured(FakeConfig(folder="x", keep=Narrow(step=0.1)))
    assert launch.to_typed(raw, FakeConfig).keep == Narrow(step=0.1)


def test_conf_dir_is_the_checkout_else_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "imgdiff"
    packaged, checkout = package / "conf", tmp_path / "site" / "conf"
    monkeypatch.setattr(launch, "__file__", str(package / "launch.py"))
    for folder in (packaged, checkout):
        folder.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"synth\.yaml"):
        launch.conf_dir()
    (packaged / "synth.yaml").touch()
    assert launch.conf_dir() == packaged
    (checkout / "synth.yaml").touch()
    assert launch.conf_dir() == checkout


ROOM = """
import logging, os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from hydra.core.config_store import ConfigStore
from imgdiff.core.errors import DataError
from imgdiff.launch import run_main

@dataclass(kw_only=True)
class FakeConfig:
    steps: int = 1

ConfigStore.instance().store(group="schema", name="fake", node=FakeConfig, package="_global_")

def run(config: FakeConfig) -> None:
    if config.steps == 13:
        raise DataError("photos.json:3:1: malformed JSON. Fix the file.")
    if config.steps == 0:
        raise ZeroDivisionError("a defect")
    if config.steps == -1:
        os.kill(os.getpid(), signal.SIGINT)
    logging.getLogger("imgdiff").info("ran %d steps", config.steps)

heavy = {"torch", "transformers", "lightning", "numpy"} & set(sys.modules)
assert not heavy, heavy
run_main("fake", FakeConfig, run, folder=Path(sys.argv.pop(1)))
"""


def command(conf: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The fake room as a process of its own, in an empty folder beside `conf`."""
    work = conf.parent / "work"
    work.mkdir(exist_ok=True)
    line = [sys.executable, "-c", ROOM, str(conf), *arguments]
    return subprocess.run(
        line, cwd=work, capture_output=True, text=True, check=False,
        # A shell that runs the tests in the background lets them, and us, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def test_a_run_logs_to_the_console_and_leaves_nothing_behind(conf: Path) -> None:
    done = command(conf, "steps=5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran 5 steps\n", "")
    assert list((conf.parent / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stesp=3", "imgdiff.fake: unknown key stesp. Did you mean steps? Keys of the config: st"),
        ("steps=x", "imgdiff.fake: steps=x: Value 'x' of type 'str' could not be converted to In"),
        ("steps=13", "imgdiff.fake: photos.json:3:1: malformed JSON. Fix the file.\n"),
    ],
)
def test_a_refusal_is_one_message_and_exit_code_2(conf: Path, override: str, message: str) -> None:
    done = command(conf, override)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_one_message_and_exit_code_130(conf: Path) -> None:
    done = command(conf, "steps=-1")
    assert (done.returncode, done.stderr) == (130, "imgdiff.fake: stopped by Ctrl-C.\n")


def test_a_defect_keeps_its_traceback(conf: Path) -> None:
    done = command(conf, "steps=0")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a defect" in done.stderr


def test_multirun_runs_each_combination_under_its_own_folder(conf: Path) -> None:
    done = command(conf, "-m", "steps=1,2", "hydra.sweep.dir=multirun/two")
    assert done.returncode == 0, done.stderr
    assert "ran 1 steps\n" in done.stdout
    assert "ran 2 steps\n" in done.stdout
    assert [path.name for path in (conf.parent / "work").iterdir()] == ["multirun"]


def test_the_jobs_of_a_multirun_write_side_by_side(tmp_path: Path) -> None:
    settings = ["stop_after=edit", "source.limit=2", "hydra.sweep.dir=many", "workers=1"]
    done = subprocess.run(
        [sys.executable, "-m", "imgdiff.synth", "-m", "seed=1,2", *settings],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(CONF.parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"many/{job}/run.json").read_text()) for job in (0, 1)]
    assert [run["settings"]["seed"] for run in found] == [1, 2]
    assert not (tmp_path / "outputs" / "synth").exists()


def test_help_shows_groups_and_values(conf: Path) -> None:
    done = command(conf, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("python -m imgdiff.fake [group=option]")
    assert "preset: mini, paper" in done.stdout
    assert "steps: 3" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "Is it red, or blue?", "What's (a) [b] {c}: d=e", "say \"hi\"", "a \\ b", "ends with \\",
        "\\\"", "${foo} \\${x}", "%@!*?|&;<>", "12", "true", "日本\nnew", "  blanks  ", "x",
    ],
)  # fmt: skip
def test_a_text_is_taken_literally(conf: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", f"note={text}", "folder=out"])
    launch.take_literally(["note"])
    assert sys.argv[2] == "folder=out"
    assert compose(conf, *sys.argv[1:]).note == text


def test_what_is_quoted_or_null_stays(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["note='a, b'", "note=null", "--help", "folder=a,b"]
    monkeypatch.setattr(sys, "argv", ["command", *given])
    launch.take_literally(["note"])
    assert sys.argv[1:] == given
    assert compose(conf, "folder=x", "note='a, b'").note == "a, b"


def test_help_names_the_groups_of_its_own_command_alone() -> None:
    assert launch.options_of(CONF, "eval") == {
        "benchmark": ["image_edit_request", "mmvp", "spot_the_diff"]
    }
    train, synth = (launch.options_of(CONF, name) for name in ("train", "synth"))
    assert launch.options_of(CONF, "preview") == train
    assert "train/spot_the_diff" in train["experiment"]
    assert {"editor", "generator", "inpainter", "profile"} <= set(synth)
    assert not {"recipe", "strategy"} & set(synth)
    assert launch.options_of(CONF, "export") == {}

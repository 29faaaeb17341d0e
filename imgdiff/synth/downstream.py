"""What a data set is worth: train a model on it and evaluate that, right after the synthesis.

The rooms know nothing of each other, so both are commands in processes of their own.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgdiff.core.console import say, show_table
from imgdiff.core.errors import ConfigError, ImgdiffError
from imgdiff.core.files import read_json, write_json

SCORES = "scores.json"  # in the run's folder: every score of every evaluation


@dataclass(kw_only=True, slots=True)
class DownstreamConfig:
    """Commands after the data set is written; null and [] for none."""

    train: str | None = None  # settings of imgdiff.train, as typed after it
    eval: list[str] = field(default_factory=list)  # settings of imgdiff.eval, one text for each

    def __post_init__(self) -> None:
        if self.eval and self.train is None:
            raise ConfigError(
                f"downstream.eval={self.eval}: asks the model that downstream.train makes. Add "
                'downstream.train="..." (settings of imgdiff.train; "" for its defaults).'
            )
        for key, texts in (("train", [self.train or ""]), ("eval", self.eval)):
            for text in texts:
                _words(f"downstream.{key}", text)

    @property
    def asked(self) -> bool:
        """Whether there is anything to do."""
        return self.train is not None


def check_downstream(config: DownstreamConfig) -> None:
    """ConfigError for settings that the commands do not compose; asks them, before any work."""
    if not config.asked:
        return
    for room, text in [("train", config.train or ""), *(("eval", text) for text in config.eval)]:
        words = _words(f"downstream.{room}", text)
        done = subprocess.run(
            [*_command(room), *words, "--cfg", "job"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"downstream.{room}={text!r}: {done.stderr.strip()}")


def follow(config: DownstreamConfig, output: Path) -> None:
    """Train on the data set in `output`, evaluate, and write the scores beside it.

    Both commands resume, and do nothing where they are done.
    """
    if not config.asked:
        return
    _run("train", [f"data.synth={output}", f"output_dir={output / 'train'}"], config.train or "")
    scores: dict[str, float | None] = {}
    for number, text in enumerate(config.eval):
        folder = output / f"eval_{number}"
        model = f"model.path={output / 'train' / 'checkpoint'}"
        _run("eval", [model, f"output_dir={folder}"], text)
        found = read_json(folder / "scores.json")
        for name, value in found["scores"].items():
            key = f"{found['benchmark']} {name}"
            scores[key if key not in scores else f"{key} ({number})"] = value
    write_json(output / SCORES, scores)
    shown = [(key, "-" if value is None else f"{value:.4f}") for key, value in scores.items()]
    show_table("What a model makes of the data", ("score", "value"), shown)


def _words(key: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text!r}: {error}; close the quotes") from None


def _command(room: str) -> list[str]:
    return [sys.executable, "-m", f"imgdiff.{room}"]


def _run(room: str, settings: Sequence[str], text: str) -> None:
    words = [*settings, *_words(f"downstream.{room}", text)]
    say(f"\n$ python -m imgdiff.{room} {shlex.join(words)}")
    done = subprocess.run([*_command(room), *words], check=False)
    if done.returncode:
        raise ImgdiffError(
            f"downstream.{room}: the command above ended with exit code {done.returncode}. The "
            "data set is whole; correct the settings and run the same command again."
        )

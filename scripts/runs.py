"""The three commands as the demo and the results run them, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say
from imgdiff.core.files import write_text

STEPS = 700


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One fine-tuning to compare: its name and the settings that set it apart."""

    name: str
    settings: tuple[str, ...]


def run(room: str, *settings: str) -> None:
    """`python -m imgdiff.ROOM SETTINGS`, its output passed through; stops where it fails.

    The output folders are the scripts' own, so what an older version left there is replaced.
    """
    settings = (*settings, "overwrite=true")
    say(f"\n$ python -m imgdiff.{room} {' '.join(settings)}")
    done = subprocess.run([sys.executable, "-m", f"imgdiff.{room}", *settings], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def arms(synth: Path) -> tuple[Trained, Trained]:
    """Fine-tuning without and with the difference data: same steps, same base instructions."""
    return (
        Trained(name="without difference data", settings=("data.synth=null",)),
        Trained(name="with difference data", settings=(f"data.synth={synth}",)),
    )


def train(arm: Trained, folder: Path, seed: int) -> Path:
    """Fine-tune the mini LLaVA; the checkpoint folder."""
    run(
        "train",
        *arm.settings,
        f"max_steps={STEPS}",
        f"seed={seed}",
        f"output_dir={folder}",
    )
    return folder / "checkpoint"


def evaluate(model: Path | str, folder: Path) -> dict[str, Any]:
    """Ask the procedural MMVP-format set; its scores.json."""
    run("eval", "benchmark=mmvp", f"model.path={model}", f"output_dir={folder}")
    return read(folder / "scores.json")


def read(path: Path) -> dict[str, Any]:
    """A JSON object of a finished run."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def percent(share: float | None) -> str:
    """`97.3 %`, or a dash where nothing was measured."""
    return "-" if share is None else f"{100 * share:.1f} %"


def into_readme(part: str, text: str) -> None:
    """Put `text` into the README between the marks of this part."""
    readme = Path("README.md")
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, rest = readme.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    write_text(readme, f"{before}{begin}\n{text}\n{end}{after}")


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table whose columns after the first are numbers, the last one words."""
    lines = [header, ["---", *["--:"] * (len(header) - 2), "---"], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

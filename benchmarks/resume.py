"""Kill `python -m imgdiff.train` at random moments, type it again, compare with an unbroken run.

    python benchmarks/resume.py                    # 12 cases, about ten minutes on two cores
    python benchmarks/resume.py --cases 4 --seed 7 --json resume.json

Each case is a combination of workers, accumulation, batching and strategy. Its run gets SIGKILL
(the whole process group) once or twice, each time soon after a step drawn at random, and is then
left to end. Compared: every byte of checkpoint/, the plan (which sample stands where) and the
figures of all steps in metrics.csv but rates over time. Data: 44 drawn samples, so that 12 steps
of 8 pass two epoch boundaries. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say, show_table

STEPS, SAVE_EVERY, SAMPLES = 12, 2, 44
MICRO = {1: "micro_batch_size=8", 2: "micro_batch_size=4"}  # of steps of 8, by accumulation
LATER_S = 0.3  # a kill comes up to so many seconds after its step
PATIENCE_S = 300
OVER_TIME = ("samples_per_second", "useful_tokens_per_second", "mfu")  # columns of rates


@dataclass(frozen=True)
class Case:
    """One way to run; `accumulation` counts the micro-batches of a step on one device."""

    workers: int
    accumulation: int
    batching: str
    devices: int

    @property
    def settings(self) -> list[str]:
        """What the weights depend on: cases that agree here share an unbroken run."""
        micro = MICRO[self.accumulation] if self.devices == 1 else MICRO[2]
        chosen = [micro, f"batching={self.batching}"]
        return chosen + (["strategy=ddp", "strategy.devices=2"] if self.devices > 1 else [])


@dataclass(frozen=True)
class Verdict:
    """What a killed run looks like beside its unbroken twin."""

    case: Case
    killed_after: tuple[int, ...]  # rows of metrics.csv at each kill
    found: tuple[int, ...]  # steps of the resume points that the last start found
    same_bytes: bool
    same_plan: bool
    same_figures: bool

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return self.same_bytes and self.same_plan and self.same_figures


def cases(count: int) -> list[Case]:
    """`count` cases: all eight on one device, then two devices with and without workers."""
    single = [Case(*c, 1) for c in itertools.product((0, 2), (1, 2), ("plain", "pack"))]
    double = [Case(w, 1, b, 2) for w, b in itertools.product((0, 2), ("plain", "pack"))]
    every = [*single, *double]
    return [every[number % len(every)] for number in range(count)]


def command(case: Case, cache: Path, output: Path) -> list[str]:
    """The line that a person would type, twice."""
    return [
        sys.executable, "-m", "imgdiff.train", "data.synth=null", f"data.world_samples={SAMPLES}",
        f"max_steps={STEPS}", "batch_size=8", f"save_every={SAVE_EVERY}", "threads=1",
        "logging.tensorboard=false", f"cache_dir={cache}", f"workers={case.workers}",
        f"output_dir={output}", *case.settings,
    ]  # fmt: skip


def finish(line: list[str]) -> None:
    """Run to the end."""
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(line)}\n{done.stderr}")


def kill_after(line: list[str], output: Path, step: int, rng: random.Random) -> bool:
    """SIGKILL the run and its children soon after `step`; False where it ended before."""
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and len(figures(output)) < step and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, LATER_S))
    running = process.poll() is None
    if running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def figures(output: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without rates over time; a cut line is left out."""
    path = output / "metrics.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if None not in row.values()]
    return [{k: v for k, v in row.items() if k not in OVER_TIME} for row in rows]


def digests(folder: Path) -> dict[str, str]:
    """Every file of the checkpoint by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def plan_of(output: Path) -> str:
    """The identity of the plan: a digest of the row at every place, among others."""
    return str(json.loads((output / "run.json").read_text())["plan"])


def judge(case: Case, whole: Path, cache: Path, output: Path, rng: random.Random) -> Verdict:
    """Kill, start again, compare."""
    line = command(case, cache, output)
    moments = sorted(rng.sample(range(1, STEPS), rng.choice((1, 2))))
    killed = []
    for step in moments:
        if kill_after(line, output, step, rng):
            killed.append(len(figures(output)))
    points = tuple(sorted(int(p.stem[len("step-") :]) for p in (output / "resume").glob("step-*")))
    finish(line)
    return Verdict(
        case=case,
        killed_after=tuple(killed),
        found=points,
        same_bytes=digests(whole / "checkpoint") == digests(output / "checkpoint"),
        same_plan=plan_of(whole) == plan_of(output),
        same_figures=figures(whole) == figures(output) and len(figures(whole)) == STEPS,
    )


def run(folder: Path, count: int, seed: int) -> list[Verdict]:
    """All cases; unbroken runs are made once for each kind of arithmetic."""
    rng = random.Random(seed)
    wholes: dict[tuple[str, ...], Path] = {}
    verdicts = []
    for number, case in enumerate(cases(count)):
        key = tuple(case.settings)
        if key not in wholes:
            wholes[key] = folder / f"whole-{len(wholes)}"
            unbroken = Case(0, case.accumulation, case.batching, case.devices)
            finish(command(unbroken, folder / "cache", wholes[key]))
        output = folder / f"killed-{number}"
        verdicts.append(judge(case, wholes[key], folder / "cache", output, rng))
        say(f"{number + 1}/{count}: {'same' if verdicts[-1].holds else 'DIFFERS'} {case}")
    return verdicts


def show(verdicts: list[Verdict]) -> None:
    """One line per case."""
    header = (
        "workers", "acc.", "batching", "devices", "killed", "found", "bytes", "plan", "figures",
    )  # fmt: skip
    rows = [
        (
            str(v.case.workers), str(v.case.accumulation), v.case.batching, str(v.case.devices),
            ", ".join(map(str, v.killed_after)) or "no", ", ".join(map(str, v.found)) or "none",
            *("same" if same else "DIFFERS" for same in (v.same_bytes, v.same_plan,
                                                           v.same_figures)),
        )
        for v in verdicts
    ]  # fmt: skip
    show_table(f"Killed after step, point found: {STEPS} steps", header, rows)


def main() -> None:
    """Parse, run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        verdicts = run(Path(name), chosen.cases, chosen.seed)
    show(verdicts)
    held = sum(verdict.holds for verdict in verdicts)
    say(f"{held} of {len(verdicts)} killed runs end as the unbroken ones")
    if chosen.json:
        record: dict[str, Any] = {"seed": chosen.seed, "verdicts": [asdict(v) for v in verdicts]}
        chosen.json.write_text(json.dumps(record, indent=1))
    raise SystemExit(0 if held == len(verdicts) else 1)


if __name__ == "__main__":
    main()

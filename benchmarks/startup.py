"""How long the three commands take until they answer, as ratios to a bare Python.

    python benchmarks/startup.py                # --help of synth, train and eval, best of 5
    python benchmarks/startup.py --out startup.json

Beside them: Python alone, `import hydra` and `import torch`, which the help does without. Wall time
and CPU time of whole processes, the runs taking turns. Nothing asserts them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from imgdiff.core.console import show_table
from imgdiff.core.files import write_json

BARE = "python -c pass"
RUNS = {
    BARE: ("-c", "pass"),
    "import hydra": ("-c", "import hydra"),
    "import torch": ("-c", "import torch"),
    "imgdiff.synth --help": ("-m", "imgdiff.synth", "--help"),
    "imgdiff.train --help": ("-m", "imgdiff.train", "--help"),
    "imgdiff.eval --help": ("-m", "imgdiff.eval", "--help"),
}


class Took(NamedTuple):
    """Seconds of one process: on the clock, and of the processor."""

    seconds: float
    cpu_seconds: float


def took(arguments: tuple[str, ...]) -> Took:
    """One process, whose output goes nowhere; SystemExit where it fails."""
    clock = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return Took(time.perf_counter() - clock, usage.ru_utime + usage.ru_stime)


def main() -> None:
    """All runs in turns, the table, and the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    args = parser.parse_args()
    for arguments in RUNS.values():  # files are read into memory, byte code is written
        took(arguments)
    rounds = [{name: took(RUNS[name]) for name in RUNS} for _ in range(args.rounds)]
    best = {
        name: Took(
            min(one[name].seconds for one in rounds), min(one[name].cpu_seconds for one in rounds)
        )
        for name in RUNS
    }
    rows = [
        (
            name,
            f"{one.seconds:.2f} s",
            f"{one.seconds / best[BARE].seconds:.1f}",
            f"{one.cpu_seconds:.2f} s",
        )
        for name, one in best.items()
    ]
    show_table(f"Start-up, best of {args.rounds}", ("process", "time", "ratio", "CPU"), rows)
    if args.out is not None:
        figures = {name: one._asdict() for name, one in best.items()}
        write_json(args.out, {"rounds": args.rounds, "cores": os.cpu_count(), "best": figures})


if __name__ == "__main__":
    main()

"""Kill `python -m imgdiff.eval` at random moments, type it again, compare with an unbroken run.

    python benchmarks/answering.py                      # 10 kills, about five minutes on two cores
    python benchmarks/answering.py --kills 4 --benchmark mmvp

Compared: the bytes of predictions.jsonl and scores.json. Counted: how many answers the store holds
for each question (one), so what was answered before a kill was not asked again. Exit code 1 where
anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from imgdiff.core.console import say, show_table

PATIENCE_S = 300
BATCH = 4  # answers between two writes


def command(folder: Path, name: str, benchmark: str, pairs: int) -> list[str]:
    """What a user types; each run has a store of its own, so that nothing is found there."""
    return [
        *(sys.executable, "-m", "imgdiff.eval", f"benchmark={benchmark}", "model.path=mini:llava"),
        *(f"benchmark.pairs={pairs}", f"model.batch_size={BATCH}", "label=mini"),
        *(f"output_dir={folder / name}", f"cache_dir={folder / f'{name}-cache'}"),
    ]


def stored(folder: Path, name: str) -> list[str]:
    """The key of every whole line in the store, doubles included."""
    keys = []
    for path in (folder / f"{name}-cache" / "answers").glob("*.jsonl"):
        for line in path.read_text("utf-8", errors="replace").split("\n"):
            try:
                keys.append(json.loads(line)["key"])
            except ValueError:
                continue
    return keys


def kill_at(line: list[str], folder: Path, name: str, answers: int, rng: random.Random) -> int:
    """SIGKILL soon after the store holds so many answers; how many it then holds."""
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + PATIENCE_S
    while process.poll() is None and len(stored(folder, name)) < answers and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(stored(folder, name))


def parts(folder: Path, name: str) -> list[str]:
    """What must be equal: answers and scores, without the place of the procedural set."""
    texts = [
        (folder / name / file).read_text("utf-8") for file in ("predictions.jsonl", "scores.json")
    ]
    return [text.replace(f"{folder / name}-cache", "CACHE") for text in texts]


def run(folder: Path, benchmark: str, pairs: int, kills: int, seed: int) -> bool:
    """The unbroken run, the killed one, and the table."""
    rng = random.Random(seed)
    subprocess.run(
        command(folder, "whole", benchmark, pairs), check=True, stdout=subprocess.DEVNULL
    )
    total = len(stored(folder, "whole"))
    line = command(folder, "killed", benchmark, pairs)
    moments = sorted(rng.sample(range(1, total), kills))
    found = [kill_at(line, folder, "killed", moment, rng) for moment in moments]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    keys = stored(folder, "killed")
    twice = sum(count - 1 for count in Counter(keys).values())
    same = parts(folder, "whole") == parts(folder, "killed")
    rows = [
        ("questions", total),
        ("answers in the store at each kill", ", ".join(map(str, found))),
        ("answers given", len(keys)),
        ("asked again after it was answered", twice),
        ("predictions.jsonl and scores.json", "same" if same else "DIFFERENT"),
    ]
    show_table(f"{benchmark}, killed {kills} times", ("", ""), rows)
    return same and twice == 0 and len(keys) == total


def main() -> None:
    """Exit code 1 where a killed run ends otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--benchmark", default="spot_the_diff")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        held = run(
            Path(name), arguments.benchmark, arguments.pairs, arguments.kills, arguments.seed
        )
    say("holds" if held else "FAILS")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()

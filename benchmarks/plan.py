"""Time and memory of the table and the plan of a large run, cold and warm.

    python benchmarks/plan.py                         # 1,000,000 rows, every grouping
    python benchmarks/plan.py --rows 50000 --json plan.json

Writes synthetic LLaVA rows (about 1 KB each, 94 % with one of 1,000 small images) into a temporary
folder. Each measurement is a process of its own; its peak memory includes what it imports. `cold`
begins with an empty cache, `warm` finds table and token counts. `fit` is the check against 2,048
tokens, which a run makes between table and plan. `CPU s` counts all threads after the imports: it
says more than the seconds where other programs run. Timings are for people; nothing asserts them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgdiff.core.console import say, show_table

IMAGES = 1000
MAX_TOKENS = 2048
SYLLABLES = "ba de fi go ku la me ni po ra se ti vo wa xe yu zi cho sha the".split()
GROUPINGS = ("plain", "modality", "length_bucket", "pack")
PHASES = ("import", "table", "lengths", "fit", "plan")


def write_rows(folder: Path, count: int) -> Path:
    """`count` rows of one to three turns; lengths are spread as in instruction data."""
    (folder / "images").mkdir()
    for number in range(IMAGES):
        side = 32 + number % 32
        Image.new("RGB", (side * 2, side), (number % 256,) * 3).save(
            folder / f"images/{number}.jpg"
        )
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(SYLLABLES, rng.integers(1, 5))) for _ in range(20_000)])
    path = folder / "rows.json"
    with path.open("w", encoding="utf-8") as handle:
        handle.write("[")
        for number in range(count):
            handle.write(",\n" if number else "\n")
            handle.write(json.dumps(row_of(number, rng, words)))
        handle.write("\n]\n")
    return path


def row_of(number: int, rng: np.random.Generator, words: np.ndarray[Any, Any]) -> dict[str, Any]:
    """One LLaVA row of about 1 KB."""
    shown = rng.random() < 0.94  # noqa: PLR2004 (as in LLaVA's mix)
    turns = int(rng.integers(1, 4))
    total = int(min(1500, rng.lognormal(4.6 if shown else 6.0, 0.6)))
    chosen = words[(rng.random(total + 1) ** 3 * len(words)).astype(int)].tolist()  # few are common
    share = max(1, len(chosen) // (2 * turns))
    messages = []
    for turn in range(2 * turns):
        text = " ".join(chosen[turn * share : (turn + 1) * share] or chosen[:1])
        opening = "<image>\n" if shown and not turn else ""
        messages.append({"from": "gpt" if turn % 2 else "human", "value": f"{opening}{text}."})
    image = {"image": f"images/{number % IMAGES}.jpg"} if shown else {}
    return {"id": f"{number:09d}"} | image | {"conversations": messages}


def measure(path: Path, cache: Path, grouping: str, threads: int) -> dict[str, float]:
    """Seconds of every phase, those of the processor in all, and the peak in MiB."""
    clock = [time.monotonic()]

    def lap() -> float:
        clock.append(time.monotonic())
        return clock[-1] - clock[-2]

    from imgdiff.backends.chat_templates import TEMPLATES
    from imgdiff.backends.checkpoints import locate
    from imgdiff.backends.readers import LlavaReader
    from imgdiff.train.fit_check import check_fit
    from imgdiff.train.lengths import token_lengths
    from imgdiff.train.plan import Batching, PlanConfig, make_plan
    from imgdiff.train.source_config import OnDefect, RowRules, SourceConfig
    from imgdiff.train.table import open_table

    reader = LlavaReader(locate("model.path", "mini:llava"), TEMPLATES["vicuna_v1"])
    config = PlanConfig(batching=Batching(grouping))
    found = {"import": lap()}
    started = time.process_time()
    table = open_table({"rows": SourceConfig(path=str(path))}, RowRules(), cache)
    found["table"] = lap()
    lengths = token_lengths(table, reader, threads) if config.needs_lengths else None
    found["lengths"] = lap()
    fit = check_fit(table, reader, MAX_TOKENS, OnDefect.skip, threads)
    found["fit"] = lap()
    plan = make_plan(config, table, MAX_TOKENS, lengths, fit.excluded)
    plan.save(cache / f"{grouping}.npz")
    found["plan"] = lap()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = time.process_time() - started
    return found | {"cpu": cpu, "peak_mib": peak, "steps": float(plan.steps)}


def child(path: Path, cache: Path, grouping: str, threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--measure", str(path), str(cache), grouping]
    done = subprocess.run(
        [*command, "--threads", str(threads)], stdout=subprocess.PIPE, check=True, text=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(rows: int, groupings: list[str], threads: int, output: Path | None) -> None:
    """Every grouping cold and warm, as a table and as JSON."""
    results: dict[str, Any] = {"rows": rows, "threads": threads}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_rows(folder, rows)
        results["mib"] = path.stat().st_size / 2**20
        say(f"{rows:,} rows, {results['mib']:.0f} MiB of JSON")
        for grouping in groupings:
            for state in ("cold", "warm"):
                found = child(path, folder / grouping, grouping, threads)
                results[f"{grouping}, {state}"] = found
                say(f"{grouping}, {state}: {found}")
    shown = []
    for key, value in results.items():
        if not isinstance(value, dict):
            continue
        wanted = value["table"] + value["lengths"] + value["plan"]
        seconds = [f"{value[phase]:.1f}" for phase in PHASES]
        figures = (f"{wanted:.1f}", f"{value['cpu']:.1f}", f"{value['peak_mib']:.0f}")
        shown.append((key, *seconds, *figures))
    phases = (f"{phase} s" for phase in PHASES)
    header = ("grouping", *phases, "table+lengths+plan s", "CPU s", "peak MiB")
    show_table(f"{rows:,} rows", header, shown)
    if output is not None:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groupings", nargs="+", choices=GROUPINGS, default=list(GROUPINGS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        path, cache, grouping = args.measure
        print(json.dumps(measure(Path(path), Path(cache), grouping, args.threads)))
    else:
        compare(args.rows, args.groupings, args.threads, args.json)


if __name__ == "__main__":
    main()

"""Speed and memory of `python -m imgdiff.synth` on the mini preset, as ratios in one run.

    python benchmarks/synth.py                  # 200 pairs: first run, second threshold, 1 worker
    python benchmarks/synth.py --pairs 200 2000      # one worker for the first size only
    python benchmarks/synth.py --memory 200 2000
    python benchmarks/synth.py --memory 2000 20000 --by-record
    python benchmarks/synth.py --kills 10

`--by-record` asks no model: regions and sentences are taken from what the world knows of its pairs,
and all files are written as ever. Everything is written to a temporary folder; `--out` is a JSON
file of the figures. Timings are for people; nothing asserts them.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from imgdiff.core.console import say, show_table
from imgdiff.core.files import read_json, write_json

BY_RECORD = ("rules.regions_from=truth", "describe.by=truth", "describe.sentence_by=template")


def command(folder: Path, out: str, *settings: str) -> list[str]:
    """One synth command on the test world."""
    return [
        sys.executable, "-m", "imgdiff.synth", "source.split=test", f"output_dir={folder / out}",
        f"store_dir={folder / 'store'}", *settings,
    ]  # fmt: skip


class Cost(NamedTuple):
    """What one command took: wall time, CPU time of all its processes, peak of the largest."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def timed(arguments: list[str]) -> Cost:
    """Run one command."""
    clock = time.monotonic()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(time.monotonic() - clock, cpu, usage.ru_maxrss / 1024)


def speed(folder: Path, pairs: int, *, alone: bool) -> dict[str, Any]:
    """First run, a second with another threshold, and, if asked for, the same from one worker."""
    limit = f"source.limit={pairs}"
    first = timed(command(folder, "first", limit, "workers=2"))
    second = timed(command(folder, "second", limit, "workers=2", "rules.max_regions=1"))
    runs = {"first run, 2 workers": first, "another threshold": second}
    if alone:
        single = f"store_dir={folder / 'single'}"
        runs["first run, 1 worker"] = timed([*command(folder, "alone", limit, "workers=1"), single])
    rows = [
        (
            name,
            f"{cost.seconds:.1f} s",
            f"{cost.seconds / first.seconds:.3f}",
            f"{cost.cpu_seconds:.1f} s",
            f"{pairs / cost.seconds:.1f}",
            f"{cost.peak_mib:.0f} MiB",
        )
        for name, cost in runs.items()
    ]
    show_table(f"{pairs} pairs", ("run", "time", "ratio", "CPU", "pairs/s", "peak"), rows)
    found = {
        "pairs": pairs,
        "runs": {name: cost._asdict() for name, cost in runs.items()},
        "profile": read_json(folder / "first" / "profile.json"),
    }
    if alone:
        found["equal_bytes"] = same(folder / "first", folder / "alone")
        say(f"equal bytes from 1 and 2 workers: {found['equal_bytes']}")
    return found


def memory(folder: Path, sizes: list[int], *, by_record: bool) -> list[dict[str, Any]]:
    """Peak memory at several sizes (one worker, so that one process holds everything)."""
    found = []
    for size in sizes:
        store = f"store_dir={folder / f'memory-{size}'}"
        settings = (f"source.limit={size}", "workers=1", "export.parquet_images=true", store)
        settings += BY_RECORD if by_record else ()
        cost = timed(command(folder, f"memory-{size}-out", *settings))
        found.append({"pairs": size, **cost._asdict()})
    least = found[0]["peak_mib"]
    rows = [
        (
            str(one["pairs"]),
            f"{one['peak_mib']:.0f} MiB",
            f"{one['peak_mib'] / least:.3f}",
            f"{one['pairs'] / one['seconds']:.1f}",
        )
        for one in found
    ]
    show_table("Peak memory", ("pairs", "peak", "ratio", "pairs/s"), rows)
    return found


def kills(folder: Path, count: int, pairs: int) -> dict[str, Any]:
    """Kill the run at random moments, start it again, and compare the bytes at the end."""
    settings = (f"source.limit={pairs}", "workers=2", "shard_size=10")
    whole = timed(command(folder, "whole", *settings)).seconds
    again = [*command(folder, "killed", *settings), f"store_dir={folder / 'killed-store'}"]
    moments = random.Random(0)
    for _ in range(count):
        process = subprocess.Popen(again, stdout=subprocess.DEVNULL, start_new_session=True)
        time.sleep(moments.uniform(0.5, whole / 4))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    timed(again)
    equal = same(folder / "whole", folder / "killed")
    say(f"equal bytes after {count} kills: {equal}")
    return {"pairs": pairs, "kills": count, "equal_bytes": equal}


def same(one: Path, two: Path) -> bool:
    """Whether both runs wrote the same data set."""
    return tree(one) == tree(two)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of the data set with its bytes."""
    files = sorted(p for p in (folder / "dataset").rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, nargs="+", default=[200])
    parser.add_argument("--memory", type=int, nargs="+")
    parser.add_argument("--by-record", action="store_true", help="with --memory: ask no model")
    parser.add_argument("--kills", type=int)
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    args = parser.parse_args()
    found: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        if args.memory:
            found["memory"] = memory(Path(name), args.memory, by_record=args.by_record)
        elif args.kills:
            found["kills"] = kills(Path(name), args.kills, args.pairs[0])
        else:
            found["speed"] = [
                speed(Path(name) / str(pairs), pairs, alone=pairs == args.pairs[0])
                for pairs in args.pairs
            ]
    if args.out is not None:
        write_json(args.out, found)


if __name__ == "__main__":
    main()

"""The same pairs by one process, by two, and on two Ray nodes of which one is killed half way.

    python benchmarks/executors.py               # 200 pairs of the test world
    python benchmarks/executors.py --pairs 40 --without-ray

Printed: wall time and the ratio to one process, the same of the stages that models bound (without
loading), and whether all files are the same. Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgdiff.core.console import say, show_table
from imgdiff.core.files import write_json
from imgdiff.core.identity import fingerprint

HALF = 2  # the node is killed when one part of so many is there


@dataclass(frozen=True)
class Outcome:
    """One run: its name, wall seconds, busy seconds of the busiest process, and its files."""

    name: str
    seconds: float
    model_seconds: float
    files: str


def main() -> None:
    """Run all, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--shard", type=int, default=10, help="pairs in a shard")
    parser.add_argument("--without-ray", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON of the figures")
    args = parser.parse_args()
    size = (f"source.limit={args.pairs}", f"shard_size={args.shard}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        outcomes = [local(folder, size, workers) for workers in (1, 2)]
        if not args.without_ray:
            outcomes.append(on_ray(folder, size, args.pairs // args.shard))
    first = outcomes[0]
    rows = [
        (
            one.name,
            f"{one.seconds:.1f}",
            f"{first.seconds / one.seconds:.2f}",
            f"{one.model_seconds:.1f}",
            f"{first.model_seconds / one.model_seconds:.2f}",
            "yes" if one.files == first.files else "NO",
        )
        for one in outcomes
    ]
    header = ("run", "s", "x", "model-bound s", "x", "same bytes")
    show_table(f"{args.pairs} pairs, {os.cpu_count()} cores", header, rows)
    if args.out is not None:
        write_json(args.out, [vars(one) for one in outcomes])
    if any(one.files != first.files for one in outcomes):
        raise SystemExit("the data sets differ")


def command(name: str, *settings: str) -> list[str]:
    """A synthesis of the test world below the working folder."""
    return [
        sys.executable, "-m", "imgdiff.synth", "source.split=test",
        f"output_dir={name}/out", f"store_dir={name}/store", *settings,
    ]  # fmt: skip


def local(folder: Path, size: tuple[str, ...], workers: int) -> Outcome:
    """In so many processes of this machine."""
    name = f"local{workers}"
    clock = time.monotonic()
    arguments = command(name, *size, f"workers={workers}")
    subprocess.run(arguments, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return outcome(folder / name / "out", f"local, {workers}", time.monotonic() - clock, workers)


def on_ray(folder: Path, size: tuple[str, ...], shards: int) -> Outcome:
    """On two nodes of one device each; one is killed when half of the shards are there."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray = ("executor=ray", f"executor.address={cluster.address}", "executor.shards=2")
    clock = time.monotonic()
    with subprocess.Popen(
        command("ray", *size, *ray), cwd=folder, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            if nodes and len(list(folder.glob("ray/out/work/part-*"))) >= shards / HALF:
                cluster.remove_node(nodes.pop(), allow_graceful=False)
                nodes.clear()
                say("one of two nodes killed")
            time.sleep(0.2)
    seconds = time.monotonic() - clock
    cluster.shutdown()
    if process.returncode:
        raise SystemExit(f"failed with exit code {process.returncode}")
    return outcome(folder / "ray" / "out", "Ray, 2 nodes, one killed", seconds, 2)


def outcome(output: Path, name: str, seconds: float, processes: int) -> Outcome:
    """What a finished run took, and the fingerprint of its files."""
    profile: list[dict[str, Any]] = json.loads((output / "profile.json").read_text("utf-8"))
    bound = [row for row in profile if row["model_calls"]]
    busy = sum(row["seconds"] - row["loading_seconds"] for row in bound) / processes
    names = ("funnel.json", "audit.json", "gallery.html", "pairs.parquet", "regions.parquet")
    files = [path for path in sorted((output / "dataset").rglob("*")) if path.is_file()]
    files += [output / file for file in names]
    content = {path.relative_to(output).as_posix(): path.read_bytes().hex() for path in files}
    return Outcome(name, round(seconds, 2), round(busy, 2), fingerprint(content))


if __name__ == "__main__":
    main()

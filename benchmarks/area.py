"""imgdiff's stages of the difference area beside Data-Juicer's operator for it, in one run.

    python benchmarks/area.py --peer PEER/bin/python --out area.json
    python benchmarks/area.py                        # imgdiff alone

PEER is an environment of its own (`peers/data_juicer_area.py` says how to make it): py-data-juicer
1.6.1 does not run with imgdiff's transformers. Both sides get the same pairs of the procedural
world, checkpoints, nouns, thresholds (the recipe's rules; the mini CLIP's own similarities, and for
random weights thresholds between their scores) and two cores: imgdiff two processes of one thread
each, the operator one process, which is what it sets itself to (`num_proc=1`), whose models may use
both; `--peer-processes 2` deals its pairs to two by hand. Measured with the boxes that each side's
FastSAM finds, and with given ones, as many as large photos have. `open` thresholds let every box
through to every model.

Not timed: imports, loading, and a first round. Then the sides take turns; medians of the rounds.
Then the four rows of an ablation, once: imgdiff keeps its scores, the operator has none to keep.
`at most` would be the ratio if all of imgdiff but the passes of its networks took no time: no work
around these can exceed it, as long as the same crops are asked for. Decisions are compared box by
box, with the operator's JPEG crops and with lossless ones.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from area_job import OPEN, SIZES, Intervals, Size, write_job
from area_verdicts import Agreement, Outcome, Scored, middle_rules, table14
from peers.lines import Worker

from imgdiff.core.console import say, show_table
from imgdiff.core.files import write_json

HERE = Path(__file__).parent
BOXES = {"found": False, "given": True}
CROPS = ("jpeg", "lossless")
QUIET = {  # no connection, no installation, no file outside the temporary folder
    "HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0", "YOLO_VERBOSE": "0",
    "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
}  # fmt: skip


@dataclass
class Team:
    """The processes of one side, and how the pairs are dealt to them."""

    name: str
    workers: list[Worker]
    ready: list[dict[str, Any]]
    shares: list[list[int]]

    def round(
        self, rules: Intervals, *, given: bool, lossless: bool = False, again: bool = False
    ) -> Round:
        """Every pair once; the seconds are those of the slowest process.

        imgdiff starts from nothing, but `again` keeps what its last round stored.
        """
        question = {"rules": rules, "given": given, "lossless": lossless, "again": again}
        for worker, share in zip(self.workers, self.shares, strict=True):
            worker.ask(question | {"pairs": share})
        told = [worker.answer() for worker in self.workers]
        found = {number: pair for part in told for number, pair in part["pairs"].items()}
        stages: dict[str, float] = {}
        for part in told:
            for name, seconds in part["stages"].items():
                stages[name] = stages.get(name, 0.0) + seconds
        outcomes = [found[str(number)] for number in range(len(found))]
        seconds = max(part["seconds"] for part in told)
        say(f"{self.name}: a round of {len(found)} pairs in {seconds:.1f} s")
        models = max(part.get("model_seconds", 0.0) for part in told)
        cpu = sum(part["cpu_seconds"] for part in told)
        return Round(seconds, cpu, models, stages, outcomes)


@dataclass
class Round:
    """What one side took for all pairs, and its outcomes.

    CPU seconds and those of the stages are of all processes together; those of the networks alone
    (imgdiff's side) are of the process that had most of them.
    """

    seconds: float
    cpu_seconds: float
    model_seconds: float
    stages: dict[str, float]
    outcomes: list[Outcome]


@contextmanager
def team(
    command: Sequence[str], folder: Path, name: str, pairs: int, processes: int, threads: int
) -> Iterator[Team]:
    """A side whose models are loaded, one process after the other."""
    processes = min(processes, pairs)
    workers, ready = [], []
    try:
        for number in range(processes):
            own = folder / f"{name}-{number}"
            own.mkdir()
            places = {"DATA_JUICER_CACHE_HOME": str(own), "YOLO_CONFIG_DIR": str(own)}
            counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
            log = folder / f"{name}-{number}.log"
            workers.append(Worker(command, QUIET | places | counts, log))
            ready.append(workers[-1].answer())
        shares = [list(range(number, pairs, processes)) for number in range(processes)]
        yield Team(name, workers, ready, shares)
    finally:
        for worker in workers:
            worker.close()


def measure(args: argparse.Namespace, size: Size, folder: Path) -> dict[str, Any]:
    """Both sides on one set of checkpoints."""
    write_job(folder, size)
    job = str(folder / "job.json")
    script = str(HERE / "area_stages.py")
    with team([sys.executable, script, job], folder, "ours", size.pairs, args.processes, 1) as ours:
        if args.peer is None:
            return compared(args, size, ours, None)
        script = str(HERE / "peers" / "data_juicer_area.py")
        processes = args.peer_processes
        threads = max(1, args.processes // processes)
        with team([args.peer, script, job], folder, "peer", size.pairs, processes, threads) as peer:
            return compared(args, size, ours, peer)


def compared(args: argparse.Namespace, size: Size, ours: Team, peer: Team | None) -> dict[str, Any]:
    """Speed and decisions of every case."""
    sides = [ours] if peer is None else [ours, peer]
    scores = [side.round(OPEN, given=True) for side in sides]  # the first round: not timed
    rules = size.rules or middle_rules(scores[0].outcomes, args.different, args.matching)
    cases: dict[str, Any] = {}
    for boxes, given in BOXES.items():
        for side in sides if not given else ():  # of the given ones, the scores were the first
            side.round(OPEN, given=given)
        done: dict[str, list[list[Round]]] = {}
        for name, intervals in (("recipe", rules), ("open", OPEN)):
            done[name] = rounds(args.rounds, sides, intervals, given=given)
            cases[f"{boxes}, {name}"] = speed(size.pairs, done[name])
            count = sum(len(one["boxes"]) for one in done[name][0][0].outcomes) / size.pairs
            cases[f"{boxes}, {name}"]["boxes_per_pair"] = count
        if peer is not None:
            for name, found in decisions(done, peer, rules, given=given).items():
                cases[f"{boxes}, {name}"] |= found
    ablation = table14(rules, scores[0].outcomes)
    return {
        "checkpoints": size.name, "pairs": size.pairs, "rules": rules, "cases": cases,
        "ablation": {"rows": ablation, "sides": [sweep(side, ablation) for side in sides]},
        "ours": ours.ready, "peer": None if peer is None else peer.ready,
    }  # fmt: skip


def rounds(count: int, sides: list[Team], rules: Intervals, *, given: bool) -> list[list[Round]]:
    """The rounds of each side; the sides take turns, and take turns at being first."""
    done: list[list[Round]] = [[] for _ in sides]
    for number in range(count):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for place in order:
            done[place].append(sides[place].round(rules, given=given))
    return done


def sweep(side: Team, rows: Sequence[Intervals]) -> dict[str, Any]:
    """Seconds and kept boxes of each row of an ablation over the same pairs and given boxes."""
    done = [side.round(row, given=True, again=number > 0) for number, row in enumerate(rows)]
    kept = [sum(len(outcome["kept"]) for outcome in one.outcomes) for one in done]
    return {"seconds": [one.seconds for one in done], "kept": kept}


def speed(pairs: int, done: list[list[Round]]) -> dict[str, Any]:
    """Pairs per second of each side, their ratio, and where the time went."""
    seconds = [[one.seconds for one in side] for side in done]
    cpu = [[one.cpu_seconds for one in side] for side in done]
    found: dict[str, Any] = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "pairs_per_second": [pairs / median(side) for side in seconds],
        "stages": [
            {name: median(one.stages[name] for one in side) for name in side[0].stages}
            for side in done
        ],
    }
    if len(done) > 1:
        of_rounds = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
        found["ratio"] = median(seconds[1]) / median(seconds[0])
        found["ratio_of_rounds"] = [min(of_rounds), max(of_rounds)]
        found["cpu_ratio"] = median(cpu[1]) / median(cpu[0])
        # the column `at most`
        networks = median(one.model_seconds for one in done[0])
        found["ratio_of_networks"] = median(seconds[1]) / networks
    return found


def decisions(
    done: dict[str, list[list[Round]]], peer: Team, rules: Intervals, *, given: bool
) -> dict[str, Any]:
    """Agreement under either set of thresholds, with JPEG crops and with lossless ones."""
    found: dict[str, Any] = {"recipe": {}, "open": {}}
    lossless = {
        name: peer.round(intervals, given=given, lossless=True)
        for name, intervals in (("recipe", rules), ("open", OPEN))
    }
    for kind in CROPS:
        theirs = lossless if kind == "lossless" else {name: done[name][1][0] for name in done}
        for name, intervals in (("recipe", rules), ("open", OPEN)):
            agreement = Agreement()
            scored = zip(done["open"][0][0].outcomes, theirs["open"].outcomes, strict=True)
            decided = zip(done[name][0][0].outcomes, theirs[name].outcomes, strict=True)
            for (ours, other), scores in zip(decided, scored, strict=True):
                agreement.add(ours, other, Scored(*scores), intervals)
            found[name][kind] = agreement.to_json()
    return found


def show(found: dict[str, Any]) -> None:
    """The tables of one set of checkpoints."""
    cases = found["cases"]
    lines = []
    for name, case in cases.items():
        rates = [f"{rate:.3g}" for rate in case["pairs_per_second"]]
        ratios = ["-"] * 4
        if "ratio" in case:
            low, high = case["ratio_of_rounds"]
            ratios = [rates[1], f"{case['ratio']:.1f} ({low:.1f}-{high:.1f})",
                      f"{case['ratio_of_networks']:.1f}", f"{case['cpu_ratio']:.1f}"]  # fmt: skip
        lines.append((name, f"{case['boxes_per_pair']:.0f}", rates[0], *ratios))
    header = ("boxes, thresholds", "boxes a pair", "pairs/s", "peer's", "ratio", "at most",
              "of CPU time")  # fmt: skip
    show_table(f"{found['checkpoints']}, {found['pairs']} pairs", header, lines)
    for side in ("ours", "peer"):
        if found[side]:
            loading = median(one["loading_seconds"] for one in found[side])
            imports = median(one["import_seconds"] for one in found[side])
            threads = f"{len(found[side])} process(es) of {found[side][0]['threads']} thread(s)"
            say(f"{side}: loading {loading:.1f} s, imports {imports:.1f} s; {threads}")
    show_ablation(found["ablation"])
    compared = [
        (f"{name}, {kind}", case[kind])
        for name, case in cases.items() for kind in CROPS if kind in case
    ]  # fmt: skip
    if compared:
        show_decisions(compared)


def show_ablation(found: dict[str, Any]) -> None:
    """The table of the four rows: what each took, and all together."""
    sides = found["sides"]
    lines = [
        (str(number + 1), *(f"{side['seconds'][number]:.1f}" for side in sides),
         *(str(side["kept"][number]) for side in sides))
        for number in range(len(found["rows"]))
    ]  # fmt: skip
    total = [sum(side["seconds"]) for side in sides]
    lines.append(("all", *(f"{seconds:.1f}" for seconds in total), *[""] * len(sides)))
    header = ("row", "s", "peer's", "kept", "peer's") if len(sides) > 1 else ("row", "s", "kept")
    show_table("Four rows as of Table 14, given boxes, one after the other", header, lines)
    if len(total) > 1:
        say(f"all four rows: ratio {total[1] / total[0]:.1f}")


def show_decisions(compared: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """The table of decisions, and below it why they differ."""
    lines = [
        (
            name, f"{agreed['boxes']} ({agreed['thin']})", agreed["kept_by_both"],
            agreed["kept_by_ours_only"], agreed["kept_by_theirs_only"],
            *(f"{agreed['largest_difference'][key]:.0e}" for key in ("crop_similarity", "match")),
        )
        for name, agreed in compared
    ]  # fmt: skip
    header = ("boxes, thresholds, crops", "boxes (thin)", "kept", "ours only", "peer only",
              "crop diff", "match diff")  # fmt: skip
    show_table("Decisions; largest differences of scores, without thin crops", header, lines)
    for name, agreed in compared:
        for cause, count in agreed["causes"].items():
            say(f"{name}: {count} differ, {cause}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", help="python of an environment with py-data-juicer")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--pairs", type=int, help="default: 12 of mini, 4 of base")
    parser.add_argument("--boxes", type=int, help="given to a pair; default: 60 and 20")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2, help="of imgdiff; cores of both sides")
    parser.add_argument("--peer-processes", type=int, default=1, help="which share those cores")
    parser.add_argument(
        "--different", type=float, default=0.25, help="share of boxes, under random weights"
    )
    parser.add_argument("--matching", type=float, default=0.5, help="and of these")
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    return parser.parse_args()


def main() -> None:
    """Every size, its tables, and the record."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # temporary folders go then too
    if args.peer is None:
        say("No --peer: only imgdiff is measured, and nothing is compared.")
    load = os.getloadavg()[0]
    say(f"{os.cpu_count()} cores, load {load:.1f} before this run")
    record: dict[str, Any] = {"cores": os.cpu_count(), "load_before": load, "sizes": {}}
    record |= {key: value for key, value in vars(args).items() if key not in ("out", "peer")}
    results = record["results"] = {}
    for name in args.sizes:
        size = SIZES[name]
        size = replace(size, pairs=args.pairs or size.pairs, boxes=args.boxes or size.boxes)
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(args, size, Path(folder))
        show(results[name])
        if args.out is not None:
            write_json(args.out, record)


if __name__ == "__main__":
    main()

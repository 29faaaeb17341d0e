"""The same model on the same data: imgdiff's trainer beside the plain Trainer of transformers.

    python benchmarks/train.py                                   # CPU, one thread, ten minutes
    python benchmarks/train.py --scale 1 --width 2048 --layers 16 --batch 128 --steps 12 \
        --precision bfloat16 --workers 8                         # a GPU

A random LLaVA, lengths spread as in LLaVA's mix665k (`train_mix.py`), full tuning, no recompute.
Speed: useful tokens per second from the end of the first step on, reading and decoding included;
each case is a process of its own, cases alternate, the best of the repeats counts. With one thread
on a CPU seconds are CPU seconds of the process. The peer
(`train_peer.py`) in three orders: LLaVA's own sampler, Trainer's default (shuffled), and Trainer's
option group_by_length, which LLaVA does not use. imgdiff in its four batchings.
Losses: 20 steps of float32 with the same micro-batches through both, and packed. There imgdiff's
loss covers the added rows of the head (`<image>`, `<pad>`) too, as the peer's does.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import train_peer
from train_mix import Shape, open_reader, write_model, write_rows
from transformers import LlavaConfig

from imgdiff.core.console import say, show_table
from imgdiff.train.config import (
    DataConfig,
    LoggingConfig,
    ModelConfig,
    Precision,
    TrainConfig,
)
from imgdiff.train.plan import Batching

SPEED = (
    "peer modality", "peer plain", "peer by_length",
    "imgdiff pack", "imgdiff length_bucket", "imgdiff modality", "imgdiff plain",
)  # fmt: skip
LOSSES = ("peer plain", "imgdiff plain", "imgdiff pack")
RATE = 1e-3
LABELS = {
    "peer modality": "Trainer, LLaVA's sampler", "peer plain": "Trainer, shuffled (its default)",
    "peer by_length": "Trainer, group_by_length",
}  # fmt: skip


def settings(args: argparse.Namespace, batching: Batching) -> TrainConfig:
    """The settings of imgdiff in a case."""
    shape = shape_of(args)
    folder = Path(args.folder)
    return TrainConfig(
        output_dir=str(folder / "imgdiff"), cache_dir=str(folder / "cache"),
        model=ModelConfig(path=str(folder / "model"), max_tokens=shape.max_tokens),
        data=DataConfig(base=str(folder / "data" / "mix.json"), synth=None, synth_share=None),
        max_steps=args.steps, batch_size=args.batch, micro_batch_size=args.micro,
        batching=batching, learning_rate=RATE,
        precision=Precision(args.precision), save_every=args.steps, workers=args.workers,
        threads=args.threads, logging=LoggingConfig(tensorboard=False),
    )  # fmt: skip


def shape_of(args: argparse.Namespace) -> Shape:
    """The model's sizes."""
    return Shape(width=args.width, layers=args.layers, scale=args.scale)


def run_case(args: argparse.Namespace) -> dict[str, Any]:
    """One case in this process."""
    torch.set_num_threads(args.threads)
    system, order = args.case.split()
    watch = run_peer(args, order) if system == "peer" else run_imgdiff(args, Batching(order))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    return asdict(watch) | {"peak_mib": peak}


def run_imgdiff(args: argparse.Namespace, batching: Batching) -> train_peer.Watch:
    """The parts of imgdiff itself, in the order of `imgdiff.train.fit`; only the watch is added."""
    import lightning.pytorch as pl

    from imgdiff.train.data import plan_run
    from imgdiff.train.fit import _quiet_lightning
    from imgdiff.train.loading import PlannedData
    from imgdiff.train.models import find_base, load_model
    from imgdiff.train.module import FineTuning
    from imgdiff.train.steps import Steps
    from imgdiff.train.strategies import build_trainer

    config = settings(args, batching)
    base = find_base(config.model, Path(config.cache_dir))
    reader = open_reader(base.folder, shape_of(args))
    if args.whole_head:
        reader.vocabulary = LlavaConfig.from_pretrained(base.folder).text_config.vocab_size
    planned = plan_run(config, reader)
    watch = train_peer.Watch()

    class Ends(pl.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, out: Any, batch: Any, n: int
        ) -> None:
            watch.batch(sum(batch.lengths), batch.input_ids.numel())
            if (n + 1) % trainer.accumulate_grad_batches == 0:
                watch.step()

    module = FineTuning(
        lambda: load_model(config, base), config, steps=args.steps, sources=1,
        vocabulary=reader.vocabulary, view_px=reader.view_px,
    )  # fmt: skip
    output = Path(config.output_dir)
    output.mkdir(exist_ok=True)
    steps = Steps(
        output, module, steps=args.steps, save_every=args.steps, sources=["base"], peak=None
    )
    with _quiet_lightning():
        trainer = build_trainer(config, args.steps, callbacks=[steps, Ends()], logger=False)
        trainer.fit(module, datamodule=PlannedData(planned, reader, config))
    watch.losses = steps.losses
    return watch


def run_peer(args: argparse.Namespace, order: str) -> train_peer.Watch:
    """The peer on the rows of imgdiff's plan of that order, or in its own order by length."""
    from imgdiff.train.data import plan_run
    from imgdiff.train.lengths import token_lengths

    by_length = order == "by_length"
    config = settings(args, Batching.plain if by_length else Batching(order))
    reader = open_reader(Path(config.model.path), shape_of(args))
    planned = plan_run(config, reader)
    rows = planned.plan.rows.tolist()
    if by_length:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        tokens = token_lengths(planned.table, reader).tokens_N[rows].tolist()
        generator = torch.Generator().manual_seed(0)
        grouped = get_length_grouped_indices(tokens, args.batch, generator=generator)
        rows = [rows[place] for place in grouped]
    shared = train_peer.PeerSettings(
        micro_batch=args.micro, accumulation=args.batch // args.micro, steps=args.steps,
        learning_rate=RATE, bfloat16=args.precision == "bfloat16", workers=args.workers,
    )  # fmt: skip
    path, model = Path(str(config.data.base)), Path(config.model.path)
    return train_peer.train(model, path, reader, config.model.max_tokens, rows, shared)


def in_process(args: argparse.Namespace, folder: Path, case: str, **changes: Any) -> dict[str, Any]:
    """Run one case in a process of its own."""
    named = {
        "case": case, "folder": str(folder), "scale": args.scale, "width": args.width,
        "layers": args.layers, "steps": args.steps, "batch": args.batch, "micro": args.micro,
        "precision": args.precision, "workers": args.workers,
        "threads": args.threads,
    }  # fmt: skip
    line = [sys.executable, __file__]
    for key, value in (named | changes).items():
        line += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} failed\n{done.stdout}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def speed(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """Every case `repeats` times in turn; the fastest run of each."""
    best: dict[str, dict[str, Any]] = {}
    for repeat in range(args.repeats):
        for case in args.cases or SPEED:
            run = in_process(args, folder, case)
            seconds = run["ends"][-1] - run["ends"][0]
            found = {
                "useful_tokens_per_second": sum(run["useful"][1:]) / seconds,
                "samples_per_second": args.batch * (args.steps - 1) / seconds,
                "padding": 1 - sum(run["useful"]) / sum(run["placed"]),
                "peak_mib": run["peak_mib"],
            }
            rate = found["useful_tokens_per_second"]
            say(f"{case}, {repeat + 1}: {rate:.0f} useful tokens/s, {seconds:.0f} s")
            rates = [*best.get(case, {}).get("all_rates", []), rate]
            if rate == max(rates):
                best[case] = found
            best[case]["all_rates"] = rates
    return best


def losses(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """20 losses of each with one micro-batch per step, so that all three see the same ones."""
    options = {
        "steps": 20, "batch": args.micro // 2, "micro": args.micro // 2, "precision": "float32",
        "whole_head": True,
    }  # fmt: skip
    curves = {case: in_process(args, folder, case, **options)["losses"] for case in LOSSES}
    base = curves["peer plain"]
    return {
        "curves": curves,
        "largest_difference": {
            case: max(abs(a - b) for a, b in zip(base, curve, strict=True))
            for case, curve in curves.items()
        },
    }


def show(best: dict[str, dict[str, Any]], curves: dict[str, Any]) -> None:
    """Both tables."""
    peer = max(
        (best[case]["useful_tokens_per_second"] for case in ("peer modality",) if case in best),
        default=0.0,
    )
    rows: list[Sequence[str]] = []
    for case, found in best.items():
        rate = found["useful_tokens_per_second"]
        slowest = min(found["all_rates"])
        rows.append(
            (
                LABELS.get(case, case), f"{rate:.0f}", f"{slowest:.0f}",
                f"{found['samples_per_second']:.2f}", f"{found['padding']:.0%}",
                f"{rate / peer:.2f}" if peer else "", f"{found['peak_mib']:.0f}",
            )
        )  # fmt: skip
    header = ("trainer", "useful tok/s", "slowest", "samples/s", "padding", "ratio", "MiB")
    show_table("Speed; ratio to the Trainer with LLaVA's sampler", header, rows)
    pairs = [
        (case, f"{curve[0]:.5f}", f"{curve[-1]:.5f}", f"{curves['largest_difference'][case]:.1e}")
        for case, curve in curves["curves"].items()
    ]
    header = ("same micro-batches", "first", "last", "largest difference from the peer")
    show_table("Losses of 20 steps, float32", header, pairs)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, value in (
        ("scale", 4), ("width", 768), ("layers", 2), ("steps", 10), ("batch", 32), ("micro", 16),
        ("workers", 0), ("threads", 1), ("repeats", 2),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precision", default="float32", choices=[p.value for p in Precision])
    parser.add_argument("--cases", nargs="+", help=f"of {', '.join(SPEED)}")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--whole-head", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make model and data, run every case, print, and write JSON where asked."""
    args = arguments()
    if args.case:
        print(json.dumps(run_case(args)))
        return
    shape = shape_of(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model", shape)
        reader = open_reader(folder / "model", shape)
        write_rows(folder / "data", reader, shape, max(args.steps * args.batch, 20 * args.micro))
        best = speed(args, folder)
        curves = losses(args, folder)
    show(best, curves)
    if args.json:
        shown = {key: value for key, value in vars(args).items() if key != "json"}
        record = {"settings": shown, "torch": torch.__version__, "speed": best, "losses": curves}
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()

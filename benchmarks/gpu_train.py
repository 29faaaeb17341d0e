"""Speed and memory of fine-tuning on one GPU: LLaVA-1.5 shapes, random weights, nothing fetched.

    python benchmarks/gpu_train.py                             # 7B, LoRA r128, bf16, 800 tokens
    python benchmarks/gpu_train.py --micro 8 16 --recompute on --batching pack --json gpu.json
    python benchmarks/gpu_train.py --tiny                      # minute-long check on a CPU

imgdiff's own loading (frozen parts in bfloat16), FineTuning, collators and Trainer; batches lie
ready in memory, so that no disk or image decoding counts. Every sample has one image and --tokens
tokens, an eighth of them supervised (--spread draws lengths as in LLaVA's mix instead). MFU counts
useful arithmetic (`imgdiff.train.flops`: no recompute, no adapters). Needs no Hydra.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as pl
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.backends.checkpoint_kind import Kind
from imgdiff.core.console import say, show_table
from imgdiff.train import models
from imgdiff.train.collate import Item, PackedCollator, PaddedCollator
from imgdiff.train.config import ModelConfig, Precision, TrainConfig, Tuning, TuningConfig
from imgdiff.train.flops import arithmetic, peak
from imgdiff.train.module import FineTuning
from imgdiff.train.strategies import build_trainer

IMAGE_ID, PAD_ID, WORDS, VOCABULARY = 32000, 32001, 32000, 32064
HEAD_WIDTH, SUPERVISED = 128, 8  # one token of so many
WARM_UP = 2  # steps that are not timed
GIB, TERA = 2**30, 1e12
SHAPES = {  # width, inner width, layers of the language model; of CLIP; image and patch side
    "7b": ((4096, 11008, 32), (1024, 4096, 24), 336, 14),
    "13b": ((5120, 13824, 40), (1024, 4096, 24), 336, 14),
    "tiny": ((256, 512, 2), (64, 128, 2), 56, 14),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One line of the table; None where the memory did not suffice."""

    micro_batch: int
    recompute: bool
    samples_per_second: float | None = None
    useful_tokens_per_second: float | None = None
    padding: float | None = None
    tera_per_second: float | None = None  # useful floating-point operations
    mfu: float | None = None
    peak_gib: float | None = None
    loss: float | None = None


def shaped(size: str) -> LlavaConfig:
    """The configuration of LLaVA-1.5 at that size."""
    (width, inner, layers), (seen, seen_inner, seen_layers), side, patch = SHAPES[size]
    vision = CLIPVisionConfig(
        hidden_size=seen, intermediate_size=seen_inner, num_hidden_layers=seen_layers,
        num_attention_heads=seen // 64, image_size=side, patch_size=patch, projection_dim=768,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH, num_key_value_heads=width // HEAD_WIDTH,
        max_position_embeddings=4096, pad_token_id=PAD_ID,
    )  # fmt: skip
    return LlavaConfig(
        vision_config=vision.to_dict(), text_config=text.to_dict(), image_token_index=IMAGE_ID,
        image_seq_length=(side // patch) ** 2, vision_feature_layer=-2,
        vision_feature_select_strategy="default", tie_word_embeddings=False,
    )  # fmt: skip


def random_model(size: str, dtype: torch.dtype, attention: str) -> Any:
    """Random weights, made where they are used: 7B takes seconds on a GPU, minutes on a CPU."""
    torch.manual_seed(0)
    config = shaped(size)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return LlavaForConditionalGeneration._from_config(
            config, dtype=dtype, attn_implementation=attention
        )


def open_model(config: TrainConfig, size: str) -> Any:
    """`imgdiff.train.models.load_model` with random weights in place of a checkpoint's."""
    attention = config.model.attention.value

    def weights(config: TrainConfig, base: Any, dtype: torch.dtype) -> Any:
        return random_model(size, dtype, attention)

    base = models.Base(name=size, folder=Path(), kind=Kind.llava, identity=size)
    with mock.patch.object(models, "_weights", weights):
        return models.load_model(config, base)


def settings(args: argparse.Namespace, micro: int, *, recompute: bool) -> TrainConfig:
    """The recipe of finetune_lora.sh (or of --tuning), a step being one micro-batch."""
    return TrainConfig(
        model=ModelConfig(path="random", recompute=recompute),
        tuning=TuningConfig(kind=Tuning(args.tuning), rank=args.rank, alpha=2 * args.rank),
        batch_size=micro, micro_batch_size=micro, learning_rate=2e-4, projector_learning_rate=2e-5,
        precision=Precision.bfloat16, threads=torch.get_num_threads(),
    )  # fmt: skip


def lengths(args: argparse.Namespace, count: int) -> list[int]:
    """--tokens each, or spread as in LLaVA's mix (those with an image: mean about 800)."""
    if not args.spread:
        return [args.tokens] * count
    draw = torch.Generator().manual_seed(0)
    text = torch.exp(4.9 + 0.75 * torch.randn(count, generator=draw))
    share = args.tokens / 800
    return (share * (621 + text)).clamp(max=share * 2048).long().tolist()


def items(args: argparse.Namespace, count: int) -> Iterator[Item]:
    """Samples of random words with one image of noise each, in bfloat16's range."""
    _, _, side, patch = SHAPES[args.size]
    image = (side // patch) ** 2
    draw = torch.Generator().manual_seed(1)
    for total in lengths(args, count):
        ids = torch.randint(3, WORDS, (max(total, image + 16),), generator=draw)
        ids[8 : 8 + image] = IMAGE_ID
        labels = torch.full_like(ids, IGNORED)
        answer = max(1, len(ids) // SUPERVISED)
        labels[-answer:] = ids[-answer:]
        views = torch.randn(1, 3, side, side, generator=draw)
        yield Item(input_ids=ids, labels=labels, views=views, source=0)


class Stopwatch(pl.Callback):
    """Counts and times the steps after the warm-up; the device has finished at both ends."""

    def __init__(self) -> None:
        self.start = self.seconds = 0.0
        self.samples = self.useful = self.placed = self.squares = self.views = 0
        self.loss = math.nan

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, n: int) -> None:
        """A step ends."""
        tally = module.take_tally()
        if n + 1 == WARM_UP:
            _wait()
            self.start = time.perf_counter()
        if n < WARM_UP:
            return
        self.samples += batch.samples
        self.placed += batch.input_ids.numel()
        self.useful += tally.useful
        self.squares += tally.squares
        self.views += batch.views
        if n + 1 == trainer.max_steps:
            _wait()
            self.seconds = time.perf_counter() - self.start
            self.loss = float(tally.losses)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(args: argparse.Namespace, micro: int, *, recompute: bool) -> Measured:
    """Train a few steps at that size; a table line, empty where memory ran out."""
    config = settings(args, micro, recompute=recompute)
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        module, watch = train(args, config)
    except torch.cuda.OutOfMemoryError:
        return Measured(micro_batch=micro, recompute=recompute)
    work = arithmetic(module.model, config.tuning.kind)
    rate = work.step(watch.useful, watch.squares, watch.views) / watch.seconds
    limit = args.peak_tflops * TERA if args.peak_tflops else peak(config.precision)
    return Measured(
        micro_batch=micro,
        recompute=recompute,
        samples_per_second=watch.samples / watch.seconds,
        useful_tokens_per_second=watch.useful / watch.seconds,
        padding=1 - watch.useful / watch.placed,
        tera_per_second=rate / TERA,
        mfu=rate / limit if limit else None,
        peak_gib=torch.cuda.max_memory_allocated() / GIB if gpu else None,
        loss=watch.loss,
    )


def train(args: argparse.Namespace, config: TrainConfig) -> tuple[FineTuning, Stopwatch]:
    """A run of imgdiff's parts over batches that lie ready."""
    steps = WARM_UP + args.steps
    samples = list(items(args, steps * config.batch_size))
    packed = PackedCollator()
    collate = packed if args.batching == "pack" else PaddedCollator(pad_id=PAD_ID)
    loader = torch.utils.data.DataLoader(
        samples, batch_size=config.batch_size, collate_fn=collate,  # type: ignore[arg-type]
        pin_memory=torch.cuda.is_available(),
    )  # fmt: skip
    module = FineTuning(
        lambda: open_model(config, args.size), config, steps=steps, vocabulary=WORDS, sources=1,
        view_px=SHAPES[args.size][2],
    )  # fmt: skip
    watch = Stopwatch()
    trainer = build_trainer(config, steps, callbacks=[watch], logger=False)
    trainer.fit(module, loader)
    return module, watch


def show(title: str, lines: list[Measured]) -> None:
    """The table."""

    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        (
            str(line.micro_batch), "on" if line.recompute else "off",
            text(line.samples_per_second, ".2f"), text(line.useful_tokens_per_second, ".0f"),
            text(line.padding, ".0%"), text(line.tera_per_second, ".2f"), text(line.mfu, ".1%"),
            "out of memory" if line.loss is None else text(line.peak_gib, ".1f"),
        )
        for line in lines
    ]  # fmt: skip
    header = ("micro", "recompute", "samples/s", "tok/s", "padding", "TFLOP/s", "MFU", "GiB")
    show_table(title, header, rows)


def arguments() -> argparse.Namespace:
    """The command line; --tiny sets what a CPU can do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", default="7b", choices=list(SHAPES))
    parser.add_argument("--tuning", default="lora", choices=("lora", "full", "projector"))
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--spread", action="store_true", help="lengths as in LLaVA's mix")
    parser.add_argument("--batching", default="plain", choices=("plain", "pack"))
    parser.add_argument("--micro", type=int, nargs="+", help="default: 1 2 4 8 16")
    parser.add_argument("--recompute", default="both", choices=("on", "off", "both"))
    parser.add_argument("--steps", type=int, default=8, help=f"timed, after {WARM_UP}")
    parser.add_argument("--peak-tflops", type=float, help="of the device, if it is not known")
    parser.add_argument("--tiny", action="store_true", help="a small model and short samples")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.tiny:
        args.size, args.tokens, args.rank, args.steps = "tiny", 64, 8, 2
    args.micro = args.micro or ([2, 4] if args.tiny else [1, 2, 4, 8, 16])
    return args


def main() -> None:
    """Measure every size, print, and write JSON where asked."""
    args = arguments()
    torch.set_float32_matmul_precision("high")  # as LLaVA's --tf32 True
    ways = {"on": (True,), "off": (False,), "both": (False, True)}[args.recompute]
    lines: list[Measured] = []
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    for recompute in ways:
        for micro in args.micro:
            lines.append(measure(args, micro, recompute=recompute))
            say(str(lines[-1]))
            if lines[-1].loss is None:
                break  # a larger one would not fit either
    show(f"{args.size} {args.tuning} on {device}, {args.tokens} tokens, {args.batching}", lines)
    if args.json:
        shown = {key: value for key, value in vars(args).items() if key != "json"}
        record = {"device": device, "torch": torch.__version__, "settings": shown}
        args.json.write_text(
            json.dumps(record | {"lines": [asdict(line) for line in lines]}, indent=1)
        )


if __name__ == "__main__":
    main()

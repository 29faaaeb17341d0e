"""The peer of `benchmarks/train.py`: the plain Trainer of transformers, used as LLaVA uses it.

As `llava/train/train.py` and `llava_trainer.py`: rows are tokenised and images decoded when they
are asked for, padded on the right to the longest of a micro-batch, with an attention mask; logits
of all positions, the model's own loss; AdamW, cosine, no clipping; every step logged. Token ids,
labels and pixels are imgdiff's (equal to LLaVA's own), so that only the trainers differ.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    LlavaForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from imgdiff.backends.chat_templates import IGNORED, Exchange
from imgdiff.backends.readers import LlavaReader
from imgdiff.core.images import open_rgb


@dataclass
class Watch:
    """What a run did, step by step.

    The clock: after the device has finished, wall time; with one thread of a CPU the CPU seconds
    of this process, to which other load on the machine does not count.
    """

    ends: list[float] = field(default_factory=list)
    useful: list[int] = field(default_factory=list)
    placed: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def batch(self, useful: int, placed: int) -> None:
        """Add a micro-batch to the step under way."""
        if len(self.useful) == len(self.ends):
            self.useful.append(0)
            self.placed.append(0)
        self.useful[-1] += useful
        self.placed[-1] += placed

    def step(self) -> None:
        """A step ends."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
        self.ends.append(time.process_time() if alone else time.perf_counter())


class Rows(torch.utils.data.Dataset[dict[str, Tensor]]):
    """LLaVA's LazySupervisedDataset."""

    def __init__(self, path: Path, reader: LlavaReader, max_tokens: int) -> None:
        self._rows = json.loads(path.read_text())
        self._folder, self._reader, self._max_tokens = path.parent, reader, max_tokens

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        row = self._rows[number]
        said = [message["value"] for message in row["conversations"]]
        images = [open_rgb(self._folder / row["image"])] if "image" in row else []
        counts = self._reader.image_tokens([image.size for image in images])
        encoded = self._reader.encode(
            [Exchange(*pair) for pair in zip(said[::2], said[1::2], strict=True)], counts
        )
        item = {
            "input_ids": torch.tensor(encoded.input_ids[: self._max_tokens]),
            "labels": torch.tensor(encoded.labels[: self._max_tokens]),
        }
        return item | ({"pixel_values": self._reader.views(images)} if images else {})


@dataclass
class Collator:
    """LLaVA's DataCollatorForSupervisedDataset; the mask follows the lengths."""

    pad_id: int
    watch: Watch

    def __call__(self, items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One row per sample."""
        ids = [item["input_ids"] for item in items]
        batch = {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            "labels": pad_sequence(
                [item["labels"] for item in items], batch_first=True, padding_value=IGNORED
            ),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        }
        pixels = [item["pixel_values"] for item in items if "pixel_values" in item]
        return batch | ({"pixel_values": torch.cat(pixels)} if pixels else {})


class Peer(Trainer):
    """With a given order of rows, and losses that are not rounded."""

    def __init__(self, *args: Any, order: Sequence[int], watch: Watch, **options: Any) -> None:
        super().__init__(*args, **options)
        self.order, self.watch = list(order), watch
        self.step_losses: list[Tensor] = []

    def _get_train_sampler(self, *_: Any) -> Any:
        return self.order

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **options: Any) -> Any:
        """As it is, noted."""
        mask = inputs["attention_mask"]
        self.watch.batch(int(mask.sum()), mask.numel())
        loss = super().compute_loss(model, inputs, *args, **options)
        self.step_losses.append(loss.detach())
        return loss


class Ends(TrainerCallback):
    """Reads the clock after every step."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step ends."""
        self._watch.step()


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """What both trainers share."""

    micro_batch: int
    accumulation: int
    steps: int
    learning_rate: float
    bfloat16: bool
    workers: int


def train(
    model: Path, rows: Path, reader: LlavaReader, max_tokens: int, order: Sequence[int],
    settings: PeerSettings,
) -> Watch:  # fmt: skip
    """Train and return what was watched."""
    network = LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    network.model.vision_tower.requires_grad_(requires_grad=False)
    gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(rows.parent / "peer"), per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.accumulation, max_steps=settings.steps,
        learning_rate=settings.learning_rate, lr_scheduler_type="cosine", warmup_steps=0.03,
        weight_decay=0.0, max_grad_norm=0.0, optim="adamw_torch_fused" if gpu else "adamw_torch",
        bf16=settings.bfloat16, use_cpu=not gpu, logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, remove_unused_columns=False,
        dataloader_num_workers=settings.workers, dataloader_pin_memory=gpu, seed=42,
    )  # fmt: skip
    watch = Watch()
    trainer = Peer(
        network, arguments, order=order, watch=watch, callbacks=[Ends(watch)],
        train_dataset=Rows(rows, reader, max_tokens), data_collator=Collator(reader.pad_id, watch),
    )  # fmt: skip
    trainer.train()
    losses = torch.stack(trainer.step_losses).reshape(-1, settings.accumulation).sum(1)
    watch.losses = losses.tolist()
    return watch

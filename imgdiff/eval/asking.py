"""Asking a model: every question once, whatever was killed, repeated or asked in another run.

An answer is kept under its content: model and decoding, pixels, words, limit of tokens. The answers
of one model lie in one file of JSON lines that only grows; a line that a killed run left half is
skipped, and what it held is asked again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from imgdiff.backends.configs import VlmConfig
from imgdiff.backends.gpu_memory import device_variables
from imgdiff.backends.protocols import Chat, Chats
from imgdiff.backends.runtime import limit_torch_threads
from imgdiff.backends.workers import Report, in_processes
from imgdiff.core.console import meter, say
from imgdiff.core.errors import DataError
from imgdiff.core.files import not_written
from imgdiff.core.identity import fingerprint, image_id
from imgdiff.core.images import open_rgb, side_by_side

REMEDY = (
    "Run the same command again, with a smaller `processes` or `model.batch_size` if memory ran "
    "out: answers are kept."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a model sees: words, with one image, two that are laid side by side, or none."""

    images: tuple[Path, ...]
    prompt: str
    max_new_tokens: int

    def picture(self) -> Image.Image | None:
        """The image that the model sees, RGB: two with the 20-px black bar, as in training."""
        images = [open_rgb(path) for path in self.images]
        if len(images) > 1:
            return side_by_side(images)
        return images[0] if images else None


class AnswerStore:
    """The answers of one model by key; in memory, and in a file that grows."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.path = folder / f"{fingerprint(identity)}.jsonl"
        self.answers = _read(self.path)

    def add(self, answers: Mapping[str, str]) -> None:
        """Keep these answers; StoreError where the disk is full."""
        lines = [
            json.dumps({"key": key, "answer": text}, ensure_ascii=False) + "\n"
            for key, text in answers.items()
        ]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as handle:
                _end_line(handle)
                handle.write("".join(lines).encode("utf-8", "replace"))
        except OSError as error:
            raise not_written(self.path, error) from error
        self.answers.update(answers)


def _read(path: Path) -> dict[str, str]:
    answers: dict[str, str] = {}
    if not path.is_file():
        return answers
    with path.open(encoding="utf-8", errors="replace", newline="\n") as handle:
        for line in handle:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and isinstance(row.get("answer"), str):
                answers[str(row.get("key"))] = row["answer"]
    return answers


def _end_line(handle: BinaryIO) -> None:
    """A line that a killed run left half must not swallow the next one."""
    handle.seek(0, os.SEEK_END)
    if handle.tell():
        handle.seek(-1, os.SEEK_END)
        if handle.read(1) != b"\n":
            handle.write(b"\n")


@dataclass(frozen=True, kw_only=True)
class Asker:
    """A model, where its answers are kept, and how many processes ask it."""

    config: VlmConfig
    store: AnswerStore
    processes: int = 1

    def answers(self, questions: Sequence[Question], label: str = "questions") -> list[str]:
        """One answer per question, in order; only what was never asked loads and asks the model.

        Reads every image first, so that an unreadable one (DataError) is told before that.
        """
        identity = self.config.identity()
        keys = [_key(identity, question) for question in questions]
        missing = {
            key: question
            for key, question in zip(keys, questions, strict=True)
            if key not in self.store.answers
        }
        known = len(keys) - sum(key in missing for key in keys)
        if known:
            say(f"{self.store.path}: {known} of {len(keys)} answers are there already")
        with meter(len(missing), label) as bar:

            def keep(answers: dict[str, str]) -> None:
                self.store.add(answers)
                bar.advance(len(answers))

            self._ask(list(missing.items()), keep)
        return [self.store.answers[key] for key in keys]

    def _ask(self, missing: Sequence[tuple[str, Question]], report: Report) -> None:
        size = self.config.batch_size
        batches = list(_batches(missing, self.config.USUAL_BATCH if size is None else size))
        processes = min(self.processes, len(batches))
        if processes == 0:
            return
        if processes == 1:
            answer_batches(self.config, batches, report)
            return
        parts = [batches[rank::processes] for rank in range(processes)]
        work = partial(answer_batches, self.config)
        in_processes(work, parts, report, REMEDY, device_variables(processes))


@dataclass(frozen=True, kw_only=True)
class StoredChat:
    """An asker that `Chats` about words alone, so that a judge is asked once as well."""

    asker: Asker

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """As `Chats.chat`; DataError where an image is given."""
        if any(image is not None for image in images):
            raise DataError("a chat over stored answers takes no image in memory; give paths")
        limit = max_new_tokens or self.asker.config.max_new_tokens
        asked = [Question(images=(), prompt=text, max_new_tokens=limit) for text in questions]
        return self.asker.answers(asked, "answers judged")


def _key(identity: str, question: Question) -> str:
    picture = question.picture()
    seen = image_id(picture) if picture else ""
    return fingerprint(identity, seen, question.prompt, question.max_new_tokens)


Batch = Sequence[tuple[str, Question]]


def _batches(items: Sequence[tuple[str, Question]], size: int) -> Iterator[Batch]:
    """Batches of questions with one limit of tokens, those of equal length side by side."""
    ordered = sorted(items, key=lambda item: (item[1].max_new_tokens, len(item[1].prompt)))
    start = 0
    while start < len(ordered):
        limit = ordered[start][1].max_new_tokens
        batch = [item for item in ordered[start : start + size] if item[1].max_new_tokens == limit]
        yield batch
        start += len(batch)


def answer_batches(config: VlmConfig, batches: Sequence[Batch], report: Report) -> None:
    """Load the model, answer batch after batch, and report the answers of each by key."""
    limit_torch_threads()  # as in several processes: two threads may round by an answer's company
    chat: Chat = config.build()
    with chat as model:
        for batch in batches:
            report(_answered(model, batch))


def _answered(model: Chats, batch: Batch) -> dict[str, str]:
    images = [question.picture() for _, question in batch]
    prompts = [question.prompt for _, question in batch]
    answers = model.chat(images, prompts, max_new_tokens=batch[0][1].max_new_tokens)
    return {key: text for (key, _), text in zip(batch, answers, strict=True)}

"""What the authors' code makes of a conversation, stated anew, as the yardstick for ours.

From llava/train/train.py (`preprocess_multimodal`, `preprocess_v1`, `LazySupervisedDataset`),
llava/mm_utils.py (`tokenizer_image_token`) and llava/conversation.py (`vicuna_v1`) at HEAD, for a
tokenizer with `legacy=False` and tokenizers >= 0.14. It counts the lengths of pieces tokenised
again one by one; when the count does not come out, a sample loses all its labels.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from imgdiff.mini.language import describe
from imgdiff.mini.scene import Split, sample_scene

IMAGE_INDEX = -200  # where the model puts the features of an image
NO_LOSS = -100
UNKNOWN = 0  # pads a batch too, and is counted as padding
HEAD = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
BREAK = " ASSISTANT: "
Turn = tuple[str, str]


class Verdict(Enum):
    """How the authors' labels stand to ours."""

    same = "same"
    all_masked = "whole sample masked"
    other = "other labels"


@dataclass(frozen=True)
class Sample:
    """Ids with IMAGE_INDEX for every image, their labels, and whether the count failed."""

    ids: list[int]
    labels: list[int]
    mismatch: bool

    def expanded(self, image_id: int, tokens_per_image: int) -> tuple[list[int], list[int]]:
        """As the model sees it, with `image_id` where features are."""
        ids: list[int] = []
        labels: list[int] = []
        for token, label in zip(self.ids, self.labels, strict=True):
            times = tokens_per_image if token == IMAGE_INDEX else 1
            ids += [image_id if token == IMAGE_INDEX else token] * times
            labels += [NO_LOSS if token == IMAGE_INDEX else label] * times
        return ids, labels


def image_first(message: str) -> str:
    """`preprocess_multimodal` on one message of a sample with an image."""
    if "<image>" not in message:
        return message
    return ("<image>\n" + message.replace("<image>", "").strip()).strip()


def prompt(turns: Sequence[Turn]) -> str:
    """`get_prompt` of separator style TWO."""
    written = HEAD + " "
    for question, answer in turns:
        written += f"USER: {question} " if question else "USER:"
        written += f"ASSISTANT: {answer}</s>" if answer else "ASSISTANT:"
    return written


def in_chunks(tokenizer: Any, text: str) -> list[int]:
    """Chunks around `<image>`, each without its opening token but the first."""
    ids: list[int] = []
    for number, chunk in enumerate(text.split("<image>")):
        coded = tokenizer(chunk).input_ids
        ids += coded if number == 0 else [IMAGE_INDEX, *coded[1:]]
    return ids


def _plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text).input_ids)


def preprocess(
    tokenizer: Any, turns: Sequence[Turn], *, has_image: bool, max_length: int = 2048
) -> Sample:
    """Ids and labels of one sample."""
    if has_image:
        turns = [(image_first(question), image_first(answer)) for question, answer in turns]
    text = prompt(turns)
    tokenize = in_chunks if has_image else _plain
    ids = tokenize(tokenizer, text)
    ids = ids if has_image else ids[:max_length]  # one with an image is cut inside the model
    labels = list(ids)
    total = sum(label != UNKNOWN for label in labels)
    labels[0] = NO_LOSS
    done = 1
    for number, part in enumerate(text.split("</s>")):
        pieces = part.split(BREAK)
        if part == "" or len(pieces) != 2:
            break
        # later rounds: `USER` after </s> is one piece, `▁US ER` alone is two
        extra = 1 if number else 0
        length = len(tokenize(tokenizer, part)) - extra
        asked = len(tokenize(tokenizer, pieces[0] + BREAK)) - 2 - extra
        labels[done : done + asked] = [NO_LOSS] * len(labels[done : done + asked])
        done += length
    labels[done:] = [NO_LOSS] * len(labels[done:])
    mismatch = done < max_length and done != total
    return Sample(ids, [NO_LOSS] * len(labels) if mismatch else labels, mismatch)


def verdict(theirs: Sequence[int], ours: Sequence[int]) -> Verdict:
    """Which of the three it is; all masked on both sides counts as the same."""
    if list(theirs) == list(ours):
        return Verdict.same
    return Verdict.all_masked if set(theirs) == {NO_LOSS} else Verdict.other


EVERYDAY = (
    "What is the difference between the two images?", "How many are there? Count them.", "Yes.",
    "No", "A", "(b)", "42", "3.5 %", "It's red, isn't it?", "1. First\n2. Second\n\n3. Third",
    "What colour is the bus?\nAnswer the question using a single word or phrase.", "x" * 40,
    "The café's menu: crème brûlée - 5 €.", "def f(x):\n    return x + 1", "-5 < 7 & 8 > 2",
    "https://example.org/a?b=c", "\"Quoted\" and 'quoted'", '{"key": [1, 2]}',
    "Provide the bounding box: [0.12, 0.34, 0.56, 0.78]", "das Mädchen läuft über die Straße",
    "左边的猫是黑色的。", "Он стоит слева.",
)  # fmt: skip


def everyday_samples(number: int) -> list[tuple[list[Turn], bool]]:
    """Conversations of one to five turns, two thirds with an image; the same ones every time."""
    import numpy as np

    chance, rng = random.Random(0), np.random.default_rng(0)
    said = [*EVERYDAY, *(describe(sample_scene(rng, Split.train), rng) for _ in range(200))]
    samples = []
    for _ in range(number):
        turns = [
            (" ".join(chance.choices(said, k=chance.randint(1, 3))), chance.choice(said))
            for _ in range(chance.randint(1, 5))
        ]
        with_image = chance.random() < 2 / 3
        if with_image:
            question, answer = turns[0]
            front = chance.random() < 0.5
            turns[0] = (f"<image>\n{question}" if front else f"{question}\n<image>", answer)
        samples.append((turns, with_image))
    return samples


# Name of a kind of text -> such texts. `{}` stands for ordinary words around it.
ADVERSARIAL = {
    "stop sign": ["{}</s>{}", "</s>", "{} </s>", "</s></s>{}"],
    "role words": ["{} ASSISTANT: {}", "USER: {} ASSISTANT: {}", "{} ASSISTANT:", "ASSISTANT: {}"],
    "unknown token": ["<unk>", "{} <unk> {}", "<unk>{}", "a<unk>b"],
    "opening token": ["<s>", "{}<s>{}", "<s><s>"],
    "blanks": [" ", "   ", "\n", "\t", "  {}", "{}  ", " \n {} \n "],
    "line ends": ["{}\r\n{}", "\n{}", "{}\n\n\n{}", "\u2028{}", "\x0b\x0c"],
    "direction": ["שלום {}", "\u202e{}", "مرحبا بالعالم", "\u200f{}\u200e"],
    "emoji": ["🙂", "👩‍👩‍👧 {}", "{} 🇫🇷", "\U0001f9ff\U00020000"],
    "odd unicode": ["e\u0301 {}", "\u00a0{}\u00a0", "\u200b", "\ufeff{}", "\ufffd", "\u2581{}"],
    "ligatures": ["\ufb01 {}", "\u0132", "\u210c {}"],
    "control": ["\x00", "{}\x07", "\x1b[0m{}"],
    "byte spelling": ["<0x0A>", "{}<0x41>", "▁<0xFF>"],
    "near misses": ["<IMAGE>", "< image >", "</S>", "ASSISTANT", "user: {}", "<im_start>", "{{}}"],
}  # fmt: skip


def adversarial_samples() -> list[tuple[str, list[Turn], bool]]:
    """Kind, turns and whether there is an image: each text asked, answered, early and late."""
    samples = []
    for kind, texts in ADVERSARIAL.items():
        for pattern in texts:
            text = pattern.replace("{}", "two red cars")
            for with_image in (False, True):
                show = "<image>\n" if with_image else ""
                plain = (f"{show}What is it?", "A dog.")
                samples += [
                    (kind, [(show + text, "A dog.")], with_image),
                    (kind, [(f"{show}What is it?", text)], with_image),
                    (kind, [plain, (text, text), ("And now?", "No.")], with_image),
                ]
    return samples

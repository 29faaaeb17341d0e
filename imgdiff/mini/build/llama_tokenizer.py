"""A small Llama tokenizer of the world's language: BPE with byte fallback, digits one by one."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import AddedToken, LlamaTokenizer

from imgdiff.backends.chat_templates import IMAGE_TOKEN, TEMPLATES, Exchange, render_turns
from imgdiff.core.identity import seed_for
from imgdiff.mini.build.prompts import DIFFERENCE_QUESTION, REGION_PROMPT, STAGE_TWO_PROMPT
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.instructions import LETTER_SUFFIX, sample_turn
from imgdiff.mini.language import (
    capitalised,
    describe,
    difference_sentence,
    empty_description,
    region_description,
)
from imgdiff.mini.scene import SIZES, Split, sample_scene
from imgdiff.mini.shapes import CATEGORIES, COLOURS

PAD_TOKEN = "<pad>"
MAX_LENGTH = 2048
PIECES = 960  # at most: control tokens, bytes and learned pieces; <image> and <pad> come on top
FOLDER = "llama-tokenizer"  # below the work folder
_CONTROL = ("<unk>", "<s>", "</s>")
_SPACE = "\u2581"
_PIECE = re.compile(rf"{_SPACE}?[A-Za-z]+|\d|{_SPACE}?[^\w\s{_SPACE}]|{_SPACE}")
_SCENES = 600
_WORD_WEIGHT = 300  # answer words are merged before prompt words
_ASCII = "".join(chr(code) for code in range(33, 127))


def build_tokenizer(pieces: int = PIECES) -> LlamaTokenizer:
    """The same tokenizer every time, with `<image>` and `<pad>` as its last two ids.

    Like the released one it drops a single leading space and reads U+2581 as a space; all other
    text comes back unchanged (characters outside the vocabulary become bytes).
    """
    vocab, merges = _train(_words(), pieces)
    return LlamaTokenizer(
        vocab=vocab,
        merges=merges,
        pad_token=AddedToken(PAD_TOKEN, special=True, normalized=False),
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        model_max_length=MAX_LENGTH,
        legacy=False,
        add_bos_token=True,
        padding_side="right",
    )


def kept_tokenizer(work: Path) -> LlamaTokenizer:
    """The tokenizer of a work folder, built at the first call.

    Training states below `work` count on its ids, which change with the words of the world.
    """
    folder = work / FOLDER
    if not (folder / "tokenizer.json").exists():
        build_tokenizer().save_pretrained(folder)
    return LlamaTokenizer.from_pretrained(folder)


def _texts() -> Iterator[str]:
    """Everything that is asked and answered, from fixed seeds."""
    for template in TEMPLATES.values():
        for _ in range(_SCENES // 4):
            yield render_turns([Exchange("")], template).text
    for number in range(_SCENES):
        rng = np.random.default_rng(seed_for(0, str(number), "tokenizer"))
        scene = sample_scene(rng, Split.train)
        yield describe(scene, rng)
        for item in scene.objects:
            yield REGION_PROMPT.format(box="[0.12, 0.34, 0.56, 0.78]")
            yield region_description(item, rng)
        left, right = region_description(scene.objects[0]), empty_description(scene.ground)
        yield STAGE_TWO_PROMPT.format(left=left, right=right)
        yield difference_sentence(left, right, rng)
        yield DIFFERENCE_QUESTION
        for _ in range(4):
            turn = sample_turn(scene, rng)
            yield f"{turn.question} {turn.answer}"
        yield f"Is it in the picture? (a) Yes (b) No{LETTER_SUFFIX}"


def _words() -> Counter[str]:
    """Counted pieces of text that no merge crosses."""
    counts: Counter[str] = Counter()
    for text in _texts():
        counts.update(_PIECE.findall(_SPACE + text.replace(" ", _SPACE)))
    for word in (*CATEGORIES, *COLOURS, *SIZES, *GROUNDS):
        counts[_SPACE + word] += _WORD_WEIGHT
        counts[_SPACE + capitalised(word)] += 1
    return counts


def _train(words: Counter[str], pieces: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-pair encoding; ties go to the smaller pair, so the result is fixed."""
    letters = sorted({letter for word in words for letter in word} | set(_ASCII))
    vocab = [*_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges: list[tuple[str, str]] = []
    splits = {word: list(word) for word in sorted(words)}
    while len(vocab) < pieces:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in splits.items():
            for pair in itertools.pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        if "".join(best) not in vocab:
            vocab.append("".join(best))
        splits = {word: _merged(parts, best) for word, parts in splits.items()}
    return {piece: index for index, piece in enumerate(vocab)}, merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with every neighbouring `pair` joined, left to right."""
    joined: list[str] = []
    for part in parts:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return joined

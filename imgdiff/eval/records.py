"""What a benchmark asks, and what was answered: one record per item, one line in a file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WITHOUT_REFERENCE = "no reference sentence"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceItem:
    """A question with two or more options about one image; `pair` names the items that it joins.

    `correct` is the letter of the published answer key, `corrected` the one of the corrected key
    (the same letter for nearly all items).
    """

    id: str
    pair: str
    question: str
    options_text: str  # as the benchmark prints them: "(a) Open (b) Closed"
    options: Mapping[str, str]  # lower-case letter to text
    correct: str
    corrected: str
    image: Path
    kind: str = ""  # of difference, where the benchmark says it


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionItem:
    """Two images whose difference is to be told, and what people wrote about it.

    `subject` names the pair of images: items that share it (several annotators, scored apart)
    get one and the same answer.
    """

    id: str
    subject: str
    images: tuple[Path, Path]
    references: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceAnswer:
    """An answered `ChoiceItem`. `chosen` is None where the answer is unparsed.

    `images` are paths, empty where the images are not on this machine. `prompt` is empty where
    another system answered.
    """

    id: str
    pair: str
    kind: str
    question: str
    options: Mapping[str, str]
    images: tuple[str, ...]
    prompt: str
    answer: str
    chosen: str | None
    correct: str
    corrected: str
    judged_by: str = "parser"  # or "llm": who read the answer
    held_wrong: bool = False  # a judge that grades called it wrong without naming a letter

    @property
    def is_right(self) -> bool:
        """By the published key; an unparsed answer is wrong."""
        return self.chosen == self.correct

    @property
    def is_unparsed(self) -> bool:
        """Nobody could read it."""
        return self.chosen is None and not self.held_wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionAnswer:
    """An answered `CaptionItem` with the scores of this item alone.

    `scores` has `bleu_4`, `meteor` (absent without Java), `rouge_l` and `cider_d`, as
    pycocoevalcap gives them per item. Corpus BLEU and METEOR are not the means of these.
    """

    id: str
    kind: str
    images: tuple[str, ...]
    prompt: str
    answer: str
    references: tuple[str, ...]
    scores: Mapping[str, float] = field(default_factory=dict)


Answer = ChoiceAnswer | CaptionAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """Items that are not scored: a short fixed reason and their ids."""

    reason: str
    ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceItems:
    """The questions of a benchmark in MMVP's format, in the order of the file.

    `is_published` tells MMVP itself from a procedural or private set in its format.
    """

    items: tuple[ChoiceItem, ...]
    is_published: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionItems:
    """The items of a captioning benchmark in the order of the file, and what cannot be scored.

    `unscored` are the subjects of the items that are left out.
    """

    items: tuple[CaptionItem, ...]
    left_out: tuple[LeftOut, ...] = ()
    unscored: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A finished evaluation, read back from its folder. `scores` is what scores.json holds."""

    folder: Path
    scores: Mapping[str, Any]
    answers: tuple[Answer, ...]

    @property
    def label(self) -> str:
        """What tables call it: the model, or the name of the predictions file."""
        return str(self.scores["label"])

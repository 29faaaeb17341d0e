"""Object names: in the captions that were edited, in the descriptions of samples, and in lists."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imgdiff.backends import english
from imgdiff.backends.lexicon_table import EVERYDAY, WORLD, Table, load
from imgdiff.core.errors import DataError
from imgdiff.synth.nouns import changed_nouns, noun_lemma

TOP = 30
COVERS = (10, 30, 100)  # of how many of the most frequent names their share is told
MISSED = 12  # names outside a list that are shown
_NOT_WORDS = re.compile(r"[^\w\s]")
_POSSESSIVE = re.compile(r"['\u2019]s\b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """How often texts occur: all in all, how many distinct ones, the most frequent of them."""

    total: int
    distinct: int
    top: tuple[tuple[str, int], ...]
    covered: tuple[tuple[int, int], ...]  # (how many of the most frequent, their occurrences)


def ranking(counts: Counter[str]) -> Ranking:
    """The ranking of counts; equal ones in the order of the alphabet."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return Ranking(
        total=counts.total(),
        distinct=len(order),
        top=tuple(order[:TOP]),
        covered=tuple((n, sum(number for _, number in order[:n])) for n in COVERS),
    )


@dataclass(kw_only=True, slots=True)
class NameCounts:
    """The names of both sides of pairs (or of one side), and which replaced which."""

    key: str
    title: str
    sides: tuple[str, ...] = ("left image", "right image")
    looked_at: int = 0
    several: int = 0  # more than one name on a side: no one knows which replaced which
    unnamed: int = 0  # no name on a side
    by_side: tuple[Counter[str], ...] = field(init=False)
    pairs: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.by_side = tuple(Counter() for _ in self.sides)

    def add(self, *sides: Sequence[str]) -> None:
        """Count the names of one pair, or of one thing where there is one side."""
        self.looked_at += 1
        for counts, names in zip(self.by_side, sides, strict=True):
            counts.update(names)
        if not all(sides):
            self.unnamed += 1
        elif any(len(names) > 1 for names in sides):
            self.several += 1
        elif len(sides) > 1:
            self.pairs[ARROW.join(names[0] for names in sides)] += 1

    def both(self) -> Counter[str]:
        """Names of all sides together."""
        return sum(self.by_side, Counter[str]())


ARROW = " \u2192 "


def names_in(nouns: Sequence[str], caption: str) -> list[str]:
    """Object names from the changed nouns of a caption: nouns that stand together are one name.

    `("stop", "sign")` of `A red stop sign.` is `stop sign`; a name that occurs twice counts once.
    """
    text = f" {' '.join(_NOT_WORDS.sub('', caption.lower()).split())}"
    names: list[str] = []
    for noun in nouns:
        # A plural begins like its singular, mostly; others stay apart.
        if names and f" {names[-1]} {noun}" in text:
            names[-1] = f"{names[-1]} {noun}"
        else:
            names.append(noun)
    return list(dict.fromkeys(names))


def replaced_names(
    captions: tuple[str, str], nouns: tuple[Sequence[str] | None, Sequence[str] | None]
) -> tuple[list[str], list[str]]:
    """The names that only one caption of a pair has; `nouns` as stored, None: found here."""
    left, right = nouns
    if left is None or right is None:
        found = changed_nouns(*captions)
        left, right = found.left, found.right
    return names_in(left, captions[0]), names_in(right, captions[1])


@functools.lru_cache(maxsize=65_536)
def first_name(description: str) -> str | None:
    """The first object of the lexicon that a description names, in the singular, or None.

    Of names that follow each other the last is meant: `an orange hat` is a hat.
    """
    spans = _lexicon().find(english.tokens_of(_POSSESSIVE.sub("", description)))
    for number, span in enumerate(spans, start=1):
        if number == len(spans) or spans[number].start > span.end:
            return span.entry.name
    return None


@functools.cache
def _lexicon() -> Table:
    """Everyday names and the world's. Unlike an editor, a reader need not know the number."""
    entries = load(EVERYDAY)
    known = {entry.name for entry in entries}
    entries = (*entries, *(entry for entry in load(WORLD) if entry.name not in known))
    return Table(
        [
            replace(entry, number="mass") if entry.plural == entry.name else entry
            for entry in entries
        ]
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NameList:
    """Names that occurrences are held against, in the form of `same_name`."""

    title: str
    names: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How much of the occurrences of some names a list covers."""

    source: str  # title of the names
    total: int
    covered: int
    occurring: int  # names of the list that occur
    missed: tuple[tuple[str, int], ...]  # most frequent names outside it


def same_name(name: str) -> str:
    """The form in which names are compared: lower case, every word in the singular."""
    words = _NOT_WORDS.sub(" ", name.lower().replace("_", " ")).split()
    return " ".join(noun_lemma(word) for word in words)


def name_list(title: str, names: Iterable[str]) -> NameList:
    """A list; `Cabinet/shelf` are two names of one thing."""
    forms = {same_name(part) for name in names for part in name.split("/")}
    return NameList(title=title, names=frozenset(forms - {""}))


def read_names(path: Path) -> NameList:
    """The names of a text file, one on each line; DataError where there is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"--names {path}: no such file. Check the path.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"--names {path}: not UTF-8 text at byte {error.start}. Re-save it."
        ) from None
    except OSError as error:
        raise DataError(
            f"--names {path}: cannot be read ({error.strerror or error}). Give a text file."
        ) from None
    found = name_list(path.name, text.splitlines())
    if not found.names:
        raise DataError(f"--names {path}: holds no name. Write one on each line.")
    return found


def coverage(listed: NameList, counts: NameCounts) -> Coverage:
    """How many occurrences have a name of the list."""
    covered, forms = 0, set()
    missed: Counter[str] = Counter()
    both = counts.both()
    for name, number in both.items():
        if (form := same_name(name)) in listed.names:
            covered += number
            forms.add(form)
        else:
            missed[name] = number
    return Coverage(
        source=counts.title,
        total=both.total(),
        covered=covered,
        occurring=len(forms),
        missed=ranking(missed).top[:MISSED],
    )

"""A lexicon of object names: its CSV file, who is a kind of whom, and finding names in captions."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgdiff.backends import english
from imgdiff.backends.english import Token
from imgdiff.core.errors import ConfigError, DataError

EVERYDAY, WORDNET, WORLD = "everyday", "wordnet", "world"
DATA = Path(__file__).parent / "data"
NUMBERS = ("count", "mass", "pair")
COLUMNS = ("name", "category", "group", "number", "plural", "same_as", "is_a")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a lexicon. Names with `same_as` are recognised in captions and never drawn."""

    name: str
    category: str
    plural: str
    group: str = ""  # "animal/bird": nearer replacements first
    number: str = "count"  # mass: no plural ("rice"); pair: plural only ("jeans")
    same_as: str = ""
    is_a: str = ""

    @property
    def thing(self) -> str:
        """The name that stands for all names of this thing."""
        return self.same_as or self.name

    @property
    def head(self) -> str:
        """The last word: a "desk lamp" is no good replacement for a "floor lamp"."""
        return self.thing.split(" ")[-1]


@dataclass(frozen=True, slots=True)
class Span:
    """Words `start`..`end` (exclusive) of a caption that name an object; `plural` as they stand."""

    start: int
    end: int
    entry: Entry
    plural: bool


class Table:
    """A lexicon with its look-ups. Entries that may be drawn are kept in file order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_name = {entry.name: entry for entry in entries}
        self._forms: dict[str, tuple[Entry, bool | None]] = {}
        for entry in entries:
            same = entry.plural == entry.name
            self._forms[entry.name] = (entry, None if same else False)
        for entry in entries:
            self._forms.setdefault(entry.plural, (entry, True))
        self._longest = max(form.count(" ") + 1 for form in self._forms)
        self._lines = {entry.thing: self._line_of(entry.thing) for entry in entries}
        self._drawable: dict[str, list[tuple[Entry, str, frozenset[str]]]] = {}
        for entry in entries:
            mine = self._drawable.setdefault(entry.category, [])
            if not entry.same_as:
                mine.append((entry, entry.head, self.line(entry)))

    def named(self, words: Sequence[str]) -> tuple[Entry, int] | None:
        """The longest name or plural that ends these lower-case words, and its number of words."""
        for size in range(min(self._longest, len(words)), 0, -1):
            found = self._forms.get(" ".join(words[len(words) - size :]))
            if found:
                return found[0], size
        return None

    def entry(self, name: str) -> Entry:
        """The entry of a name that is listed."""
        return self._by_name[name]

    def line(self, entry: Entry) -> frozenset[str]:
        """What an entry is: its own name, its kind, the kind of that, and so on."""
        return self._lines[entry.thing]

    def unrelated(self, category: str, present: Sequence[Entry]) -> list[Entry]:
        """Entries of a category that may be drawn beside `present` and never be taken for them.

        Left out are the same things, their kinds, what they are kinds of, and names with the same
        last word.
        """
        things = {entry.thing for entry in present}
        heads = {entry.head for entry in present}
        wider = frozenset[str]().union(*map(self.line, present))
        return [
            entry
            for entry, head, line in self._drawable[category]
            if entry.name not in wider and head not in heads and line.isdisjoint(things)
        ]

    def _line_of(self, name: str) -> frozenset[str]:
        line = [name]
        while (kind := self._by_name[line[-1]].is_a) and kind not in line:
            line.append(kind)
        return frozenset(line)

    def find(self, tokens: Sequence[Token]) -> list[Span]:
        """Every name in a caption, longest first, left to right; number guessed where unmarked."""
        spans: list[Span] = []
        start = 0
        while start < len(tokens):
            span = self._longest_at(tokens, start)
            if span:
                spans.append(span)
            start = span.end if span else start + 1
        return spans

    def _longest_at(self, tokens: Sequence[Token], start: int) -> Span | None:
        for size in range(min(self._longest, len(tokens) - start), 0, -1):
            words = tokens[start : start + size]
            found = self._forms.get(" ".join(token.lower for token in words))
            if found and all(token.open_end for token in words[:-1]):
                entry, plural = found
                if plural is None:
                    plural = english.number_around(tokens, start, start + size)
                if plural is None and entry.number == "count":
                    return None  # "sheep" without a sign of how many
                return Span(start, start + size, entry, bool(plural))
        return None


def load(lexicon: str) -> tuple[Entry, ...]:
    """Entries of `everyday`, `wordnet`, `world` or a CSV file, checked."""
    if lexicon == WORLD:
        from imgdiff.backends.world import world_lexicon

        return tuple(
            Entry(name=name, category=category, plural=english.plural_of(name))
            for name, category in world_lexicon().items()
        )
    if lexicon in (EVERYDAY, WORDNET):
        return _shipped(lexicon)
    path = Path(lexicon).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"editor.lexicon={lexicon}: no such lexicon or file; "
            "use everyday, wordnet, world, or the path of a CSV file with the columns name,category"
        )
    return _read(path)


@functools.cache
def _shipped(name: str) -> tuple[Entry, ...]:
    return _read(DATA / f"{name}.csv")


def _read(path: Path) -> tuple[Entry, ...]:
    entries: dict[str, Entry] = {}
    for number, row in _rows(path):
        entry = _entry(path, number, row)
        if entry.name in entries:
            raise DataError(f"{path}:{number}: {entry.name!r} is listed twice; delete one line")
        entries[entry.name] = entry
    if not entries:
        raise DataError(f"{path}: no names in it. Add lines of name,category.")
    for entry in entries.values():
        for reference in (entry.same_as, entry.is_a):
            if reference and (reference not in entries or entries[reference].same_as):
                raise DataError(
                    f"{path}: {entry.name!r} refers to {reference!r}, which is not a name of its "
                    "own there; list it, or correct same_as or is_a"
                )
    return tuple(entries.values())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns = reader.fieldnames or []
            if not {"name", "category"} <= set(columns) <= set(COLUMNS):
                raise DataError(
                    f"{path}: columns {','.join(columns)}; needs name,category and may have "
                    f"{','.join(COLUMNS[2:])}. Correct the first line."
                )
            for row in reader:
                yield reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error}). Re-save it.") from None


def _entry(path: Path, number: int, row: dict[str, str]) -> Entry:
    name = " ".join(row["name"].lower().split())
    kind = row.get("number") or "count"
    if not name or not row["category"] or kind not in NUMBERS:
        raise DataError(
            f"{path}:{number}: name={name!r}, category={row['category']!r}, number={kind!r}; "
            f"name and category must be set and number one of {', '.join(NUMBERS)}"
        )
    plural = row.get("plural") or (english.plural_of(name) if kind == "count" else name)
    return Entry(
        name=name,
        category=row["category"],
        plural=plural.lower(),
        group=row.get("group", ""),
        number=kind,
        same_as=row.get("same_as", "").lower(),
        is_a=row.get("is_a", "").lower(),
    )

"""Make imgdiff/backends/data/wordnet.csv, the lexicon of nouns from WordNet 3.0, anew.

    python scripts/wordnet_lexicon.py                 # reads /usr/share/wordnet, writes the table
    python scripts/wordnet_lexicon.py --check         # exit status 1 if it would write other bytes
    python scripts/wordnet_lexicon.py --candidates    # what the rules find, with figures, to review

The dictionary files are those of the Debian package wordnet-base (data.*, index.noun,
cntlist.rev). What is chosen is decided by rules and by four tables in scripts/wordnet:

roots.csv     synsets with the category and group of all their hyponyms (the nearest root counts;
              no category: left out) and how often a name must be in use to be taken.
kept.txt      names to take although the rules do not, by category, with mass and plural-only nouns
              (`*`, `+`) and the number of a sense where it is not the first in its category.
left_out.txt  names that the rules take and a review refused.
forms.csv     plurals, numbers and kinds that neither WordNet nor the rules tell.

The published list (arXiv 2408.04594, section 11) has 5,526 names in the same eleven categories; how
they were chosen is not told. This one has 3,105: what is rare, abstract, Latin or a proper name is
left out, and plants, which WordNet calls living things, count as natural objects.

The rules take a name that is spelled in small letters, has at most three words, is used in its
first sense or in one with a third of its tagged uses (SemCor, cntlist.rev), and is in use: its
tagged uses and the definitions of other words that mention it number at least the root's `use`.
"""

from __future__ import annotations

import argparse
import collections
import csv
import functools
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgdiff.backends.english import plural_of
from imgdiff.backends.lexicon_table import COLUMNS, Entry
from imgdiff.core.errors import DataError
from imgdiff.core.files import write_text

TABLES = Path(__file__).parent / "wordnet"
TARGET = Path(__file__).parents[1] / "imgdiff" / "backends" / "data" / "wordnet.csv"
MAX_WORDS = 3
COMMON_SHARE = 1 / 3  # of a name's tagged uses: a second sense that often is a usual one
PLAIN = re.compile(r"[a-z]+(?:[ -][a-z]+)*")
KEPT = re.compile(r"([^.*+]+)(?:\.(\d+))?([*+]?)")  # name, sense if not the first, mark
MARKS = {"": "count", "*": "mass", "+": "pair"}


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning: its names as spelled, and the meanings it is a kind of."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    tags: Mapping[str, int]  # uses of each name in this sense in the tagged texts

    def spells(self, name: str) -> bool:
        """Whether the name is written in small letters here."""
        return name in self.names


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """A row of roots.csv. `use` None: only names of kept.txt; category "": nothing."""

    category: str
    group: str
    use: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A name of kept.txt; no groups: any of the category; sense 0: the first that fits."""

    category: str
    groups: frozenset[str]
    number: str
    sense: int


@dataclass(kw_only=True, slots=True)
class WordNet:
    """The nouns of a dictionary; synsets are known by their offsets."""

    synsets: dict[str, Synset]
    senses: dict[str, list[str]]
    mentions: collections.Counter[str] = field(default_factory=collections.Counter)

    def synset(self, sense: str) -> str:
        """The offset of a sense such as "vehicle.1"; DataError if there is none."""
        name, _, number = sense.rpartition(".")
        senses = self.senses.get(name.replace("_", " "), [])
        if not number.isdigit() or not 0 < int(number) <= len(senses):
            raise DataError(f"roots.csv: {sense!r} is no noun sense of WordNet; correct it")
        return senses[int(number) - 1]

    def use(self, name: str, offset: str) -> int:
        """Tagged uses in this sense and definitions that mention the name."""
        return self.synsets[offset].tags.get(name, 0) + self.mentions[name]

    def is_usual(self, name: str, offset: str) -> bool:
        """Whether the name, in small letters, usually means this."""
        senses = [other for other in self.senses[name] if self.synsets[other].spells(name)]
        tags = [self.synsets[other].tags.get(name, 0) for other in senses]
        rank = senses.index(offset)
        return rank == 0 or tags[rank] >= COMMON_SHARE * max(sum(tags), 1)


def main() -> None:
    """Write the table, compare it with the one that is there, or list the candidates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--dictionary", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--candidates", action="store_true")
    asked = parser.parse_args()
    wordnet = read_dictionary(asked.dictionary)
    if asked.candidates:
        list_candidates(wordnet)
        return
    text = as_csv(entries_of(wordnet))
    if asked.check:
        sys.exit(asked.output.read_text("utf-8") != text)
    write_text(asked.output, text)
    print(f"wrote {asked.output.name}: {text.count(chr(10)) - 1} names")


def read_dictionary(folder: Path) -> WordNet:
    """The nouns of the dictionary files in a folder; DataError where a file is missing."""
    for name in ("data.noun", "index.noun", "cntlist.rev", "data.verb", "data.adj", "data.adv"):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name}: no such file. Install the Debian package wordnet-base, or name "
                "the folder of WordNet's dictionary files with --dictionary."
            )
    tags = {}
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        tags[key] = int(count)
    synsets = dict(_synset(line, tags) for line in _lines(folder / "data.noun"))
    senses = {}
    for line in _lines(folder / "index.noun"):
        words = line.split()
        senses[words[0].replace("_", " ")] = words[-int(words[2]) :]
    wordnet = WordNet(synsets=synsets, senses=senses)
    wordnet.mentions = _mentions(folder, wordnet)
    return wordnet


def _lines(path: Path) -> Iterator[str]:
    """Lines of a dictionary file without its licence, whose lines begin with blanks."""
    with path.open(encoding="ascii") as handle:
        yield from (line for line in handle if not line.startswith(" "))


def _synset(line: str, tags: Mapping[str, int]) -> tuple[str, Synset]:
    """wndb(5WN): offset file type count (name id)... count (symbol offset pos place)... | gloss."""
    words = line.partition(" | ")[0].split()
    end = 4 + 2 * int(words[3], 16)
    names, ids = words[4:end:2], words[5:end:2]
    keys = [f"{n.lower()}%1:{words[1]}:{int(i, 16):02d}::" for n, i in zip(names, ids, strict=True)]
    pointers = words[end + 1 : end + 1 + 4 * int(words[end])]
    spelled = [name.replace("_", " ") for name in names]
    return words[0], Synset(
        names=tuple(spelled),
        kinds=tuple(t for s, t in zip(pointers[::4], pointers[1::4], strict=True) if s == "@"),
        tags={n: tags[key] for n, key in zip(spelled, keys, strict=True) if key in tags},
    )


def _mentions(folder: Path, wordnet: WordNet) -> collections.Counter[str]:
    """In how many definitions of other words each noun occurs, as it stands or with an s."""
    found: collections.Counter[str] = collections.Counter()
    for part in ("noun", "verb", "adj", "adv"):
        for line in _lines(folder / f"data.{part}"):
            offset, gloss = line[:8], line.partition(" | ")[2].lower()
            words = re.findall(r"[a-z]+(?:[-'][a-z]+)*", gloss)
            own = wordnet.synsets[offset].names if part == "noun" else ()
            found.update(_nouns(words, wordnet.senses) - {name.lower() for name in own})
    return found


def _nouns(words: Sequence[str], known: Mapping[str, object]) -> set[str]:
    nouns = set()
    for size in range(1, MAX_WORDS + 1):
        for start in range(len(words) - size + 1):
            run = " ".join(words[start : start + size])
            nouns |= {form for form in (run, run.removesuffix("s")) if form in known}
    return nouns


def claims_of(wordnet: WordNet) -> dict[str, Root]:
    """The nearest root above each synset; the first in the table where two are equally near."""
    kinds: dict[str, list[str]] = collections.defaultdict(list)
    for offset, synset in wordnet.synsets.items():
        for kind in synset.kinds:
            kinds[kind].append(offset)
    claims: dict[str, Root] = {}
    for row in _rows("roots.csv"):
        use = int(row["use"]) if row["use"].isdigit() else None
        root = Root(category=row["category"], group=row["group"], use=use)
        if claims.setdefault(wordnet.synset(row["sense"]), root) is not root:
            raise DataError(f"roots.csv: {row['sense']!r} is listed twice; delete one line")
    level = list(claims)
    while level:
        below = [(kind, claims[offset]) for offset in level for kind in kinds[offset]]
        level = [kind for kind, root in below if claims.setdefault(kind, root) is root]
        level = list(dict.fromkeys(level))
    return claims


def _rows(name: str) -> list[dict[str, str]]:
    with (TABLES / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def _plain_lines(name: str) -> list[str]:
    lines = (TABLES / name).read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@functools.cache
def kept_names() -> dict[str, Kept]:
    """kept.txt by name; DataError for a name in two places."""
    kept: dict[str, Kept] = {}
    category, groups = "", frozenset[str]()
    for line in _plain_lines("kept.txt"):
        if line.startswith("["):
            category, _, rest = line.strip("[]").partition(" ")
            groups = frozenset(rest.split())
            continue
        for item in filter(None, map(str.strip, line.split(","))):
            parts = KEPT.fullmatch(item)
            if not parts or parts[1] in kept:
                raise DataError(f"kept.txt: {item!r} is no name, or listed twice; delete one")
            name, sense, mark = parts.groups("")
            kept[name] = Kept(
                category=category,
                groups=groups,
                number=MARKS[mark],
                sense=int(sense or 0),
            )
    return kept


def chosen_names(wordnet: WordNet, claims: Mapping[str, Root]) -> dict[str, str]:
    """The synset of every name of the lexicon: those of kept.txt, then those the rules find."""
    chosen = {name: _kept_sense(wordnet, claims, name) for name in kept_names()}
    left_out = set(_left_out())
    for offset, name in candidates(wordnet, claims):
        if name not in left_out:
            chosen.setdefault(name, offset)
    return chosen


def _kept_sense(wordnet: WordNet, claims: Mapping[str, Root], name: str) -> str:
    kept = kept_names()[name]
    senses = list(wordnet.senses.get(name, ()))
    if kept.number == "pair":  # "jeans" is in WordNet as "jean"
        senses += wordnet.senses.get(name.removesuffix("s"), [])
    for offset in senses[kept.sense - 1 : kept.sense] if kept.sense else senses:
        root = claims.get(offset)
        if root and root.category == kept.category and root.group in (kept.groups or {root.group}):
            return offset
    raise DataError(f"kept.txt: {name!r} has no such sense under the roots of {kept.category}")


def _left_out() -> list[str]:
    return [name.strip() for line in _plain_lines("left_out.txt") for name in line.split(",")]


def candidates(wordnet: WordNet, claims: Mapping[str, Root]) -> Iterator[tuple[str, str]]:
    """Synsets and names that the rules find, in the order of the dictionary."""
    for offset, root in sorted(claims.items()):
        if not root.category or root.use is None:
            continue
        for name in wordnet.synsets[offset].names:
            if (
                PLAIN.fullmatch(name)
                and len(name.split(" ")) <= MAX_WORDS
                and wordnet.is_usual(name, offset)
                and wordnet.use(name, offset) >= root.use
            ):
                yield offset, name


def entries_of(wordnet: WordNet) -> list[Entry]:
    """The lexicon: the name of a synset that is used most is drawn, the others are its synonyms."""
    claims = claims_of(wordnet)
    chosen = chosen_names(wordnet, claims)
    forms, kept = {row["name"]: row for row in _rows("forms.csv")}, kept_names()
    by_synset: dict[str, list[str]] = collections.defaultdict(list)
    for name, offset in chosen.items():
        by_synset[offset].append(name)
    main_names = {
        offset: max(names, key=lambda name: (name in kept, wordnet.use(name, offset)))
        for offset, names in by_synset.items()
    }
    entries = []
    for name, offset in chosen.items():
        form = forms.get(name, {})
        number = form.get("number") or (kept[name].number if name in kept else "count")
        entries.append(
            Entry(
                name=name,
                category=claims[offset].category,
                group=claims[offset].group,
                number=number,
                plural=_plural(name, forms) if number == "count" else name,
                same_as="" if main_names[offset] == name else main_names[offset],
                is_a=(form.get("is_a") or _kind(wordnet, offset, main_names)).strip("-"),
            )
        )
    return sorted(entries, key=lambda entry: (entry.category, entry.group, entry.name))


def _plural(name: str, forms: Mapping[str, Mapping[str, str]]) -> str:
    """The plural in forms.csv, of the name or of its last word (`* word`), or by rule."""
    before, blank, last = name.rpartition(" ")
    whole, head = (forms.get(key, {}).get("plural") for key in (name, f"* {last}"))
    return whole or (f"{before}{blank}{head}" if head else plural_of(name))


def _kind(wordnet: WordNet, offset: str, main_names: Mapping[str, str]) -> str:
    """The name of the nearest listed meaning above a synset, if any."""
    level = [offset]
    while level:
        level = [kind for each in level for kind in wordnet.synsets[each].kinds]
        for kind in level:
            if kind in main_names:
                return main_names[kind]
    return ""


def as_csv(entries: Sequence[Entry]) -> str:
    """The table as it is shipped; a mass or plural-only noun leaves its plural open."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in entries:
        row = {column: getattr(entry, column) for column in COLUMNS}
        row["plural"] = entry.plural if entry.number == "count" else ""
        writer.writerow([row[column] for column in COLUMNS])
    return text.getvalue()


def list_candidates(wordnet: WordNet) -> None:
    """Print, by category and group, what the rules find that no table names yet."""
    claims = claims_of(wordnet)
    left_out = set(_left_out())
    found: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for offset, name in candidates(wordnet, claims):
        if name not in left_out and name not in kept_names():
            root = claims[offset]
            found[root.category, root.group].append(f"{name} {wordnet.use(name, offset)}")
    for (category, group), names in sorted(found.items()):
        print(f"[{category} {group}] {len(names)}: {', '.join(sorted(names))}")


if __name__ == "__main__":
    main()

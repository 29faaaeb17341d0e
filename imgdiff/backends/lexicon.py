"""Editing captions with a lexicon: one object noun is replaced by another of its category.

The published method gives only the idea (arXiv 2408.04594, section 11: nouns in eleven categories,
a random noun of the same category). How the noun is found and how the sentence stays grammatical
is decided here, by rules, so that equal seeds give equal edits on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgdiff.backends import english
from imgdiff.backends.english import Token
from imgdiff.backends.handles import Weightless
from imgdiff.backends.lexicon_table import (
    COLUMNS,
    EVERYDAY,
    WORDNET,
    WORLD,
    Entry,
    Span,
    Table,
    load,
)
from imgdiff.backends.protocols import Edited
from imgdiff.core.errors import ConfigError
from imgdiff.core.identity import fingerprint

VERSION = 2
LIVING = "living_thing"  # the category whose members do things: what follows may be a verb
# Uses of a listed noun that show no such object: the noun with the word before or after it.
OTHER_USES = frozenset(
    pair.strip()
    for pair in """
    home plate, license plate, licence plate, name plate, number plate, hot plate, conveyer belt,
    seat belt, at home, a swing, his swing, her swing, full swing, mid swing,
    and pepper, kitchen island,
    at desk, in bed, of bed, to bed, in tie, on watch,
    bed of, shower of, blanket of, pitcher of, counter of, star of, sea of, ocean of, mountain of,
    stream of, king of, fan of, cloud of, batter for, belt of, chest of, train of, wall of,
    forest of, key to, watch as, watch the, watch a, cover of, stack of, island of, jungle of,
    crane to, crane its, desk job, bear to, bear with, mirror image, plant of, clock face,
    truck bed, with glasses, in glasses, his glasses, her glasses
    """.split(",")
)
# Names that are colours too, where one may stand: "in orange", "an orange and white cat".
COLOURS = frozenset(
    "orange peach plum lavender violet rose olive lime lemon cherry chestnut chocolate".split()
)
BEFORE_COLOURS = frozenset("in bright dark light pale".split())
# Words that tell that a name is meant otherwise: a computer's mouse, the batter's plate.
OTHER_TOPICS = {
    "glass": frozenset("wearing wears wear".split()),
    "mouse": frozenset("computer keyboard laptop monitor desk cursor".split()),
    "plate": frozenset("baseball batter catcher umpire pitcher pitch".split()),
    "shower": frozenset("take taking takes took baby rain".split()),
}
HE = frozenset("he him his himself".split())
SHE = frozenset("she her hers herself".split())


@dataclass(kw_only=True, slots=True)
class LexiconConfig:
    """`lexicon`: "everyday" (1,200 picturable nouns), "wordnet" (3,100 from WordNet 3.0), "world"
    (the procedural world), or a CSV file with the columns name,category and, if wanted,
    group,number,plural,same_as,is_a.

    `within_group` draws from the nearest group of the category ("a bus" becomes "a truck"); off, it
    draws from the whole category, as the paper says ("a bus" may become "a submarine").
    """

    lexicon: str = EVERYDAY
    within_group: bool = True

    def __post_init__(self) -> None:
        if not self.lexicon.strip():
            raise ConfigError(
                "editor.lexicon='': is empty; "
                "use everyday, wordnet, world, or the path of a CSV file"
            )

    def build(self) -> LexiconEditor:
        """The editor; a wrong path or table raises ConfigError or DataError here."""
        return LexiconEditor(self)


class LexiconEditor(Weightless):
    """A `CaptionEditor` that needs no weights."""

    def __init__(self, config: LexiconConfig) -> None:
        import lemminflect

        self._within_group = config.within_group
        self._table = Table(load(config.lexicon))
        known = (EVERYDAY, WORDNET, WORLD)
        name = config.lexicon if config.lexicon in known else Path(config.lexicon).name
        rows = [[getattr(entry, column) for column in COLUMNS] for entry in self._table.entries]
        digest = fingerprint(rows, config.within_group, VERSION, lemminflect.__version__)
        self.identity = f"lexicon:{name}@{digest[:12]}"

    def edit(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Edited]:
        """One noun of each caption replaced; article, number and capitals follow the new noun.

        Refusals: "caption has no letters", "no known object" (none that is safely an object),
        "no other noun in its category".
        """
        return [self._edit(text, seed) for text, seed in zip(captions, seeds, strict=True)]

    def _edit(self, caption: str, seed: int) -> Edited:
        if not any(map(str.isalpha, caption)):
            return Edited(text="", refusal="caption has no letters")
        tokens = english.tokens_of(caption)
        present = self._table.find(tokens)
        spans = [span for span in (object_at(tokens, present, s) for s in present) if span]
        if not spans:
            return Edited(text="", refusal="no known object")
        rng = np.random.default_rng(seed)
        for index in rng.permutation(len(spans)):
            span = spans[int(index)]
            options = self._options(span, present, tokens)
            if options:
                chosen = options[int(rng.integers(len(options)))]
                return Edited(text=_replaced(caption, tokens, span, chosen))
        return Edited(text="", refusal="no other noun in its category")

    def _options(self, span: Span, present: Sequence[Span], tokens: Sequence[Token]) -> list[Entry]:
        """What may stand in for a span, nearest group first; never what the caption has already."""
        words = {token.lower for token in tokens}
        unfit = {"woman"} if HE & words else set()
        unfit |= {"man"} if SHE & words else set()
        allowed = [
            entry
            for entry in self._table.unrelated(span.entry.category, [s.entry for s in present])
            if entry.number == span.entry.number and self._table.line(entry).isdisjoint(unfit)
        ]
        if not self._within_group:
            return allowed
        group = span.entry.group
        near = [entry for entry in allowed if entry.group == group]
        kin = [entry for entry in allowed if entry.group.split("/")[0] == group.split("/")[0]]
        return near or kin or allowed


def object_at(tokens: Sequence[Token], present: Sequence[Span], span: Span) -> Span | None:
    """The span with the modifiers that belong to it, or None if it is not safely an object."""
    start, end, entry = span.start, span.end, span.entry
    if (
        _runs_into_a_name(tokens, present, span)
        or english.continues(tokens, end, plural=span.plural)
        or _other_use(tokens, present, span)
        or sum(other.entry.thing == entry.thing for other in present) > 1
    ):
        return None
    while start and english.is_modifier(tokens, start - 1):
        start -= 1
        start = next((s.start for s in present if s.start < start < s.end), start)  # "hot dog cake"
    if entry.number == "count" and not _counted(tokens, start, plural=span.plural):
        return None
    if any(_is_proper(tokens, index) for index in range(start, end)):
        return None
    return Span(start, end, entry, span.plural)


def _counted(tokens: Sequence[Token], start: int, *, plural: bool) -> bool:
    """Whether a phrase counts as its noun does; not so "by train", "with pizza", "a women"."""
    first = english.phrase_start(tokens, start)
    if plural:
        return tokens[first].lower not in ("a", "an")
    return first == 0 or english.has_determiner(tokens, start)


def _runs_into_a_name(tokens: Sequence[Token], present: Sequence[Span], span: Span) -> bool:
    """Whether the next word is a name, of which this one is a part ("car window")."""
    follower = next((other for other in present if other.start == span.end), None)
    if follower is None or span.plural or not tokens[span.end - 1].open_end:
        return False
    return not (follower.plural and span.entry.category == LIVING)  # "a girl swings a bat"


def _other_use(tokens: Sequence[Token], present: Sequence[Span], span: Span) -> bool:
    """Whether the words around say that no such object is meant."""
    words = [token.lower for token in tokens]
    noun = " ".join(words[span.start : span.end])
    before = words[span.start - 1] if span.start else ""
    after = words[span.end] if span.end < len(words) else ""
    if {f"{before} {noun}", f"{noun} {after}"} & OTHER_USES:
        return True
    if noun in COLOURS and (
        before in BEFORE_COLOURS
        or after in ("and", "or")
        or (after and english.is_adjective(after))
    ):
        return True
    if OTHER_TOPICS.get(span.entry.name, frozenset()) & set(words):
        return True
    return span.plural and any(
        subject.end == span.start and subject.entry.category == LIVING and not subject.plural
        for subject in present
    )  # a verb: "a woman watches"


def _is_proper(tokens: Sequence[Token], index: int) -> bool:
    """Whether a word is capitalised inside a sentence that is not capitalised throughout."""
    if index == 0 or not tokens[index].text[:1].isupper():
        return False
    return not all(token.text[:1].isupper() for token in tokens if len(token.text) > 3)  # noqa: PLR2004


def _replaced(caption: str, tokens: Sequence[Token], span: Span, entry: Entry) -> str:
    """The caption with the new name in the place of a span, spelled to fit."""
    name = entry.plural if span.plural and entry.number == "count" else entry.name
    old = caption[tokens[span.start].start : tokens[span.end - 1].end]
    name = _capitals_like(old, name)
    left = caption[: tokens[span.start].start]
    before = tokens[span.start - 1] if span.start else None
    if before is not None and before.open_end and before.lower in ("a", "an"):
        article = _capitals_like(before.text, english.article_for(name))
        article = article.upper() if name.isupper() and before.text.isupper() else article
        left = caption[: before.start] + article + caption[before.end : tokens[span.start].start]
    return left + name + caption[tokens[span.end - 1].end :]


def _capitals_like(old: str, new: str) -> str:
    """`new` with the capitals of `old`: all letters, every word, the first, or as it is spelled."""
    if old.isupper() and len(old) > 1:
        return new.upper()
    words = old.split()
    if len(words) > 1 and all(word[:1].isupper() for word in words):
        return " ".join(word[:1].upper() + word[1:] for word in new.split(" "))
    return new[:1].upper() + new[1:] if old[:1].isupper() else new

"""Sentences about photos, said again in the few words of the procedural world."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from imgdiff.backends import english
from imgdiff.backends.english import Token
from imgdiff.backends.lexicon import object_at
from imgdiff.backends.lexicon_table import EVERYDAY, WORLD, Span, Table, load
from imgdiff.backends.world import Vocabulary, most_objects, things_of
from imgdiff.mini.language import NounPhrase, capitalised, listed
from imgdiff.mini.shapes import COLOURS

VERSION = 1  # of what `restated` says
_SPELLINGS = {"grey": "gray"}
# What stands between two objects, and the relation that it comes closest to.
_BETWEEN = {
    "on top of": "above", "above": "above", "over": "above",
    "below": "below", "under": "below", "underneath": "below", "beneath": "below",
    "left of": "to the left of", "right of": "to the right of",
}  # fmt: skip


def restated(caption: str, vocabulary: Vocabulary) -> str | None:
    """What the caption says of single objects that `vocabulary` has, or None if it names none.

    `A black dog lies on top of a white couch near some people.` becomes `A dog above a white
    sofa.`: kinds stand for their like, a colour of the world stays, all else goes. The first
    objects count, each kind once, as many as the vocabulary's scenes hold.
    """
    if not any(map(str.isalpha, caption)):
        return None
    tokens = english.tokens_of(caption)
    table = _everyday()
    present = table.find(tokens)
    said: dict[str, tuple[NounPhrase, Span]] = {}
    for span in present:
        category = _category(table, span, things_of(vocabulary))
        whole = object_at(tokens, present, span)
        if category is None or whole is None or span.plural or category in said:
            continue
        colour = _colour(tokens, span.start)
        said[category] = (NounPhrase(category=category, colour=colour), span)
        if len(said) == most_objects(vocabulary):
            break
    if not said:
        return None
    phrases = [phrase.text() for phrase, _ in said.values()]
    relation = _relation(tokens, [span for _, span in said.values()])
    body = f"{phrases[0]} {relation} {phrases[1]}" if relation else listed(phrases)
    return f"{capitalised(body)}."


@functools.cache
def _everyday() -> Table:
    """Everyday names and kinds, and the world's own names where they are missing."""
    entries = load(EVERYDAY)
    known = {entry.name for entry in entries}
    return Table([*entries, *(entry for entry in load(WORLD) if entry.name not in known)])


def _category(table: Table, span: Span, things: Sequence[str]) -> str | None:
    """The thing of the vocabulary that the named one is, or is most nearly a kind of."""
    line = table.line(span.entry)
    fitting = [thing for thing in things if table.entry(thing).thing in line]
    return max(fitting, key=lambda thing: len(table.line(table.entry(thing))), default=None)


def _colour(tokens: Sequence[Token], start: int) -> str | None:
    """The one colour right before a noun; None for `black and white`, or a colour of its own."""
    before = [token.lower for token in tokens[max(0, start - 2) : start]]
    if not before or (len(before) > 1 and before[0] in ("and", "or", "with")):
        return None
    word = _SPELLINGS.get(before[-1], before[-1])
    return word if word in COLOURS else None


def _relation(tokens: Sequence[Token], spans: Sequence[Span]) -> str | None:
    """How the first of two objects lies to the second, where words between them say so."""
    if len(spans) != 2:  # noqa: PLR2004
        return None
    between = " ".join(token.lower for token in tokens[spans[0].end : spans[1].start])
    found = [relation for words, relation in _BETWEEN.items() if f" {words} " in f" {between} "]
    return found[0] if len(set(found)) == 1 else None

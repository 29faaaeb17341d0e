"""Whether two sentences differ in one object's name: how answers of a language model are judged.

Rules over the lexicons and lemminflect's word classes, no tagger: what is plainly no noun is told
(colours, participles, numbers), what neither knows is taken for a name.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imgdiff.backends import english
from imgdiff.backends.lexicon import COLOURS
from imgdiff.backends.lexicon_table import EVERYDAY, WORDNET, Entry, Table, load

# Words that may change along with the noun.
AGREEMENT = frozenset(
    """a an the is are was were has have do does its his her their it he she they him them himself
    herself itself themselves this that these those some""".split()
)
_DETERMINERS = frozenset("a an the his her its their my your our this these those".split())
# In a replacing name they tell of two things, or of a new relation ("a cat or a bird").
_JOINERS = frozenset(
    """and or but not with without on in at near next beside under over behind by for from to into
    while that who which like as instead""".split()
)
_STAND_INS = frozenset(
    """object objects entity entities thing things item items something someone somebody anything
    noun word one ones other another animal vehicle""".split()
)
_PEOPLE = ("being/person", "being/child")
_MARKS = '"\u201c\u201d*_`'


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Words of two sentences that were exchanged, without articles and the like, in lower case.

    `before` and `after` are the words around them that stay, empty at an end.
    """

    gone: tuple[str, ...]
    come: tuple[str, ...]
    before: str
    after: str


def compare(caption: str, text: str) -> tuple[str, list[Change]]:
    """`text` with the caption's own spelling where it agrees, and what was exchanged."""
    old, new = _words(caption), _words(text)
    words: list[str] = []
    changes: list[Change] = []
    for equal, left, right in _parts(old, new):
        if equal:
            words += old[left]
            continue
        words += [_unmarked(word, old[left]) for word in new[right]]
        change = Change(
            gone=_content(old[left]),
            come=_content(new[right]),
            before=core(old[left.start - 1]) if left.start else "",
            after=core(old[left.stop]) if left.stop < len(old) else "",
        )
        if change.gone or change.come:
            changes.append(change)
    return " ".join(words), changes


def _parts(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[bool, slice, slice]]:
    """Runs of words: whether they are equal, and where they stand in both.

    A name that keeps a word in another place ("laptop computer", "computer monitor") is one run.
    """
    matcher = difflib.SequenceMatcher(a=[*map(core, old)], b=[*map(core, new)], autojunk=False)
    codes = matcher.get_opcodes()
    while codes:
        kind, old_from, old_to, new_from, new_to = codes.pop(0)
        if len(codes) > 1 and {kind, codes[1][0]} == {"delete", "insert"}:
            moved_over = codes[0][2] - codes[0][1]
            if moved_over == 1:
                _, _, old_to, _, new_to = codes[1]
                del codes[:2]
        yield kind == "equal", slice(old_from, old_to), slice(new_from, new_to)


def _words(text: str) -> list[str]:
    return re.sub(r"\s+([.,!?;:]+)(?=\s|$)", r"\1", text).split()


def _unmarked(word: str, replaced: Sequence[str]) -> str:
    """A new word without emphasis or quotes around it that the words it replaces have not."""
    if any(mark in old for mark in _MARKS for old in replaced):
        return word
    bare = re.sub(rf"^[{_MARKS}]+|[{_MARKS}]+(?=[.,!?;:]*$)", "", word)
    return re.sub(r"^'(.+)'(?=[.,!?;:]*$)", r"\1", bare)


def core(word: str) -> str:
    """A word without case and surrounding punctuation, as two spellings are compared."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", word.lower().replace("\u2019", "'")) or word


def _content(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(core(word) for word in words if core(word) not in AGREEMENT)


def fault(caption: str, text: str, changes: Sequence[Change]) -> str:
    """Why the exchange is not of one object for another: the refusal, or "".

    "rewritten": other than one name exchanged for one name, or broken words; "not an object": a
    colour, a verb, a number, a stand-in such as "object"; "same thing": its plural, a synonym, or
    a kind of it.
    """
    ((gone, come), *others) = {(change.gone, change.come): None for change in changes}
    if others or not gone or not come or _joins(gone, come) or _broken(caption, text):
        return "rewritten"
    if not all(_is_name(change) for change in changes):
        return "not an object"
    return "same thing" if same_thing(gone, come) else ""


def _joins(gone: Sequence[str], come: Sequence[str]) -> bool:
    """Whether the new name is of two things, or a possessive where the old one is none."""
    added = set(come) - set(gone)
    slashed = "/" in "".join(come) and "/" not in "".join(gone)
    owning = come[-1].endswith("'s") != gone[-1].endswith("'s")
    return bool(_JOINERS & added) or slashed or owning


def _broken(caption: str, text: str) -> bool:
    """Whether a word stands twice in a row, or two articles do, as they do not in the caption."""
    return bool(set(_stumbles(text)) - set(_stumbles(caption)))


def _stumbles(text: str) -> Iterator[tuple[str, str]]:
    words = [core(word) for word in text.split()]
    for left, right in itertools.pairwise(words):
        if left == right or (left in _DETERMINERS and right in _DETERMINERS):
            yield left, right


def _is_name(change: Change) -> bool:
    if len(change.come) == 1 and change.come[0] in _STAND_INS - set(change.gone):
        return False
    return all(_is_noun(words, change.before, change.after) for words in (change.gone, change.come))


def _is_noun(words: Sequence[str], before: str, after: str) -> bool:
    word = words[-1].removesuffix("'s")
    if _listed((*words, after)) > 1 or _listed(words) > 1:
        return True  # "a brown bear" beside "a panda bear"; "a soda can"
    if word in english.FUNCTION_WORDS or not _latin(word):
        return False
    if word in COLOURS | english.MATERIALS and _known_noun(after):
        return False  # "a glass table", "an orange cat"
    if _listed((before, *words)):
        return True  # "a traffic cone" beside "a traffic light"
    verb = "VERB" in english.readings(word)
    if english.is_participle(word) or english.is_gradable(word):
        return False
    if verb and len(words) == 1 and _known_noun(before):
        return False  # "a man walks a dog"
    known = english.readings(word)
    return not known or "NOUN" in known


def _listed(words: Sequence[str]) -> int:
    """How many words the longest listed name at the end of `words` has; 0 for none."""
    found = (table.named(words) for table in _tables())
    return max((each[1] for each in found if each), default=0)


def _known_noun(word: str) -> bool:
    known = "NOUN" in english.readings(word) and not english.is_participle(word)
    return known and word not in english.FUNCTION_WORDS


def _latin(word: str) -> bool:
    letters = [char for char in word if char.isalpha()]
    marks = [char for char in word if unicodedata.combining(char)]
    names = (unicodedata.name(char, "") for char in letters)
    return bool(letters) and not marks and all(name.startswith("LATIN") for name in names)


def same_thing(gone: Sequence[str], come: Sequence[str]) -> bool:
    """Whether two names are one noun in another number, synonyms, or one is a kind of the other.

    Men and women of WordNet's list count as different people, not as kinds of each other.
    """
    if _lemma(gone[-1]) == _lemma(come[-1]):
        return True
    for table in _tables():
        old, new = table.named(gone), table.named(come)
        if old and new and _related(table, old[0], new[0]):
            return True
    return False


def _related(table: Table, old: Entry, new: Entry) -> bool:
    if old.thing == new.thing:
        return True
    if old.group in _PEOPLE and new.group in _PEOPLE:
        return False
    return old.thing in table.line(new) or new.thing in table.line(old)


def _lemma(word: str) -> str:
    return english.readings(word).get("NOUN", (word,))[0]


@functools.cache
def _tables() -> tuple[Table, ...]:
    return tuple(Table(load(name)) for name in (EVERYDAY, WORDNET))

"""The English grammar that a noun replacement needs: articles, plurals, where a noun phrase ends.

No tagger: word classes come from lemminflect's lexicon and short lists, so every judgement is a
rule that can be read here. Unknown cases are answered so that the caller leaves the word alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

WORD = re.compile(r"\w+(?:[-'\u2019]\w+)*")

MEASURES = frozenset("group herd flock school bunch pair couple lot lots pack number line".split())
SINGULAR_MARKS = frozenset("a an one this each every another is was has".split())
PLURAL_MARKS = frozenset(
    """two three four five six seven eight nine ten eleven twelve several many few these those both
    various multiple numerous different are were have""".split()
)
DETERMINERS = (
    SINGULAR_MARKS
    | PLURAL_MARKS
    | frozenset("the that his her its their my your our some any no other zero lone single".split())
) - frozenset("is was has are were have".split())
FUNCTION_WORDS = DETERMINERS | frozenset(
    """i me he him she it they them we us you who whom which what that where when while as than and
    or but nor so if because of in on at by for with without to from into onto upon over under above
    below beneath underneath beside besides behind before after between among amongst along
    alongside across around about against through throughout during toward towards near next off out
    outside inside within up down atop via per like unlike past am is are was were be been being has
    have had having do does did can could will would shall should may might must not there here very
    too also just only even still together away back all half such most more lots lot himself
    herself itself themselves onto amid apart ready full""".split()
)
# Said of what a thing is made of: kept before the new noun ("a wooden table", "a glass jug").
MATERIALS = frozenset(
    """glass metal wood wooden brick stone plastic leather gold silver steel iron paper cardboard
    concrete marble wicker brass bronze ceramic clay copper cotton denim fur granite rubber silk
    straw tile tin velvet wool chrome aluminum porcelain stainless crystal toy baby chocolate
    christmas birthday""".split()
)
# Second halves of compounds that also read as verbs or adjectives.
COMPOUND_HEADS = frozenset(
    """track tracks stop stops light lights sign signs top tops seat seats stand stands counter
    counters side sides front back end ends park parks line lines ride rides run show shows race
    races game games match trick tricks print prints holder holders rack racks display displays
    pattern patterns head heads face tail collar mask outfit food ring tag tags lot wash ramp ramps
    drawing painting building crossing parking clothing topping icing railing ceiling wing cutout
    juice sauce filling slices slice skin peel peels leaves horn horns head stem bowl cover covers
    frame frames fountain fountains store stores shop shops station stations base bases""".split()
)
ROOM_KINDS = frozenset("dining living sitting waiting".split())
_PLAIN_VERBS = frozenset("stand ride run race display show print face tag lay".split())
ING_NOUNS = frozenset("building painting ceiling clothing railing awning crossing drawing".split())
UNCHANGED_PASTS = frozenset("hit cut put set let spread split lay".split())

_SILENT_H = ("hour", "honest", "honor", "honour", "heir")
_SOUNDS_YOU = re.compile(
    r"uni(?!nt|m)|eu|ewe|u[bfkst][aeiou](?!tt)|ur[aei](?!g)|uran|ufo\b|one(?:s|sies?)?\b|once\b|ouija|usb?\b|uk\b"
)
_SPELT_WITH_VOWEL_SOUND = re.compile(r"(?:[fhlmnrsx]|[fhlmnrsx][a-z]|8\d*|11|18|mp3|lcd|led|suv)\b")
_NOT_SPELT = frozenset("he ha ho hi me my mi no so si re la lo fa ma".split())


@dataclass(frozen=True, slots=True)
class Token:
    """One word: as written, lower case, where it stands, and whether only blanks follow it."""

    text: str
    lower: str
    start: int
    end: int
    open_end: bool  # the next token follows after blanks only


def tokens_of(caption: str) -> list[Token]:
    """Words of a caption; "t-shirt" and "man's" are one word each."""
    found = list(WORD.finditer(caption))
    starts = [match.start() for match in found[1:]] + [len(caption)] if found else []
    return [
        Token(
            text=match.group(),
            lower=match.group().lower(),
            start=match.start(),
            end=match.end(),
            open_end=following < len(caption) and caption[match.end() : following].isspace(),
        )
        for match, following in zip(found, starts, strict=True)
    ]


def article_for(phrase: str) -> str:
    """`a` or `an`, by the sound of the first word ("an hour", "a unicorn", "an SUV")."""
    first = re.split(r"[\s-]", phrase.strip().lower(), maxsplit=1)[0]
    if first.startswith(_SILENT_H):
        return "an"
    if _SOUNDS_YOU.match(first):
        return "a"
    if first not in _NOT_SPELT and _SPELT_WITH_VOWEL_SOUND.fullmatch(first):
        return "an"
    return "an" if first[:1] in tuple("aeiou") else "a"


def plural_of(name: str) -> str:
    """Plural of a name: that of its last word ("wine glass": "wine glasses")."""
    import lemminflect

    *before, last = name.split(" ")
    forms = lemminflect.getInflection(last, tag="NNS")
    return " ".join([*before, forms[0] if forms else f"{last}s"])


@functools.lru_cache(maxsize=65536)
def is_gradable(word: str) -> bool:
    """Whether the word is an adjective with a comparative ("red", "clean"; not "house")."""
    import lemminflect

    return "JJR" in lemminflect.getAllInflections(word, upos="ADJ")


@functools.lru_cache(maxsize=65536)
def readings(word: str) -> dict[str, tuple[str, ...]]:
    """Word classes of a lower-case word with its lemmas; empty for unknown words."""
    import lemminflect

    return dict(lemminflect.getAllLemmas(word))


def is_participle(word: str) -> bool:
    """Whether the word is an -ing or -ed form of a verb that names no thing."""
    if word in ING_NOUNS or not word.endswith(("ing", "ed")):
        return False
    return word not in readings(word).get("VERB", (word,))


@functools.lru_cache(maxsize=65536)
def is_adjective(word: str) -> bool:
    """Whether the word may stand between an article and its noun without being a noun's part."""
    if word in MATERIALS or "-" in word:
        return True
    if word in FUNCTION_WORDS:
        return False  # "by" and "on" have rare readings as adjectives
    known = readings(word)
    return "ADJ" in known or is_participle(word) or ("ADV" in known and "NOUN" not in known)


def is_modifier(tokens: Sequence[Token], index: int) -> bool:
    """Whether word `index` is a noun that belongs to the noun after it ("park" in "a park bench").

    A word that could be a verb counts only right after a determiner or an adjective: in "people
    ride bikes" nothing belongs to "bikes".
    """
    token = tokens[index]
    word = token.lower
    if token.open_end and word in ROOM_KINDS and tokens[index + 1].lower == "room":
        return True  # "a dining room table"
    if not token.open_end or not word.isalpha() or is_adjective(word):
        return False
    if word in FUNCTION_WORDS or word in MEASURES:  # "a couple skiers"
        return False
    known = readings(word)
    if "NOUN" not in known or word not in known["NOUN"]:
        return False  # unknown words and plurals are left alone
    if "VERB" not in known:
        return True
    before = tokens[index - 1] if index else None
    return (
        before is not None
        and before.open_end
        and before.lower not in PLURAL_MARKS  # "the ten speed bike"
        and (before.lower in DETERMINERS or is_adjective(before.lower))
    )


def continues(tokens: Sequence[Token], end: int, *, plural: bool) -> bool:
    """Whether the word at `end` makes the noun before it a mere part of a compound.

    "train tracks", "dog house": yes. "dog sits", "dogs play", "dog lying", "dog in": no.
    """
    if end >= len(tokens) or not tokens[end - 1].open_end:
        return False
    word = tokens[end].lower
    if word in FUNCTION_WORDS:
        return False
    if word in COMPOUND_HEADS:
        return not (plural and word in _PLAIN_VERBS)
    if is_participle(word) or word in UNCHANGED_PASTS:
        return word.endswith("ed") and _names_something(tokens, end + 1)
    return _is_noun_here(word, plural=plural)


def _names_something(tokens: Sequence[Token], index: int) -> bool:
    """Whether a noun follows at once: "a tree lined street", and not "a tree lined with stones"."""
    if index >= len(tokens) or not tokens[index - 1].open_end:
        return False
    word = tokens[index].lower
    return word not in FUNCTION_WORDS and not is_adjective(word) and "NOUN" in readings(word)


def _is_noun_here(word: str, *, plural: bool) -> bool:
    """Whether a word after a noun is a noun too, by agreement where it could be a verb."""
    known = readings(word)
    if not known:
        return True
    if "NOUN" not in known or "ADV" in known or is_gradable(word):
        return False
    if "VERB" not in known:
        return True
    inflected = word not in known["VERB"]  # "dog sits", "dogs sit" are sentences
    return inflected if plural else not inflected


def phrase_start(tokens: Sequence[Token], start: int) -> int:
    """Index of the first word of the noun phrase whose noun begins at `start`.

    That is its determiner (article, number, possessive) if it has one, else its first adjective.
    """
    index = start
    while index > 0:
        before = tokens[index - 1]
        if _determines(before):
            return index - 1
        joined = before.lower == "and" and index < start  # "a black and white dog"
        if not (joined or is_adjective(before.lower) or is_modifier(tokens, index - 1)):
            return index
        index -= 1
    return index


def has_determiner(tokens: Sequence[Token], start: int) -> bool:
    """Whether the noun phrase whose noun begins at `start` opens with a determiner."""
    return _determines(tokens[phrase_start(tokens, start)])


def _determines(token: Token) -> bool:
    word = token.lower
    return word in DETERMINERS or word.isdigit() or word.endswith(("'s", "s'", "\u2019s"))


def number_around(tokens: Sequence[Token], start: int, end: int) -> bool | None:
    """Number of a noun with one form for both ("sheep"): True plural, False singular, else None."""
    following = tokens[end].lower if end < len(tokens) else ""
    for mark in (tokens[phrase_start(tokens, start)].lower, following):
        if mark in PLURAL_MARKS or (mark.isdigit() and mark != "1"):
            return True
        if mark in SINGULAR_MARKS or mark == "1":
            return False
    before = [token.lower for token in tokens[max(start - 2, 0) : start]]
    return True if before[1:] == ["of"] and before[0] in MEASURES else None

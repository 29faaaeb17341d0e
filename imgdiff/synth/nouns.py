"""Changed object nouns of a caption pair, and which of them each crop of a pair is tested with.

Follows `compare_text_index` and the box matching of the released `generate_bbox.py`, with
lemminflect in the place of NLTK's WordNet lemmatiser and tagger, whose data is a download of its
own. Differences that follow from it: see `is_noun`.
"""

from __future__ import annotations

import difflib
import enum
import functools
import importlib.metadata
import re
from dataclasses import dataclass

from imgdiff.core.records import Side

VERSION = 1  # of everything below that changes the nouns of a caption pair

# Words lemminflect does not list (it knows open classes only) or lists with a rare noun reading.
FUNCTION_WORDS = frozenset(
    """a an the this that these those some any no each every either neither both all another other
    others such same i me my mine we us our ours you your yours he him his she her hers it its they
    them their theirs himself herself itself themselves who whom whose which what when where why how
    and or but nor so yet if while as than then because although though until since unless whereas
    of in on at by for with without to from into onto upon over under above below beneath underneath
    beside besides behind before after between among amongst along alongside across around about
    against through throughout during toward towards near next off out outside inside within up down
    atop via per like unlike past am is are was were be been being has have had having do does did
    done can could will would shall should may might must not there here very too also just only
    even still almost together away back one two three four five six seven eight nine ten eleven
    twelve several many few more most much less least lots front top left right""".split()
)
# Adjectives and participles of captions that lemminflect also lists as nouns.
ADJECTIVES = frozenset(
    """male female plastic wooden multicolored antique modern vintage empty silver violet turquoise
    beige maroon public electric various different lone alone open close nearby adult standing
    upright american asian chinese european japanese indian african young elderly teenage""".split()
)
# -ing words that name an object; every other -ing form of a verb counts as a verb, as NLTK tags it.
ING_OBJECTS = frozenset(
    """building painting ceiling clothing railing awning crossing drawing icing topping stocking
    earring seedling""".split()
)


class NounSide(str, enum.Enum):
    """Which nouns the crops of a box are matched with.

    The released code lays the crops of a box as (own image, other image), and matches the first
    with one noun list and the second with the other, whatever image the box came from.
    """

    correct = "correct"  # the crop of an image is tested with the nouns of that image's caption
    head = "head"  # since commit 16842917c: right for boxes of the left image, swapped for others
    pre_2025_03 = "pre_2025_03"  # before it: swapped for boxes of the left image, right for others


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedNouns:
    """Noun lemmas of the words that only one caption of a pair has, in order, repeats kept."""

    left: tuple[str, ...]
    right: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.left or self.right)


def changed_nouns(left: str, right: str) -> ChangedNouns:
    """The object names in which two captions differ; either side may be empty.

    Lower-cased words without punctuation ("dog-walker" is "dogwalker") are compared by
    `difflib.Differ`, lemmatised as nouns, dropped where the other side has the lemma too, and kept
    where the lemma alone is a noun. A name of several words gives several nouns.
    """
    removed: list[str] = []
    added: list[str] = []
    for line in difflib.Differ().compare(_words(left), _words(right)):
        if line.startswith("- "):
            removed.append(noun_lemma(line[2:]))
        elif line.startswith("+ "):
            added.append(noun_lemma(line[2:]))
    return ChangedNouns(
        left=tuple(word for word in removed if word not in added and is_noun(word)),
        right=tuple(word for word in added if word not in removed and is_noun(word)),
    )


@functools.cache
def nouns_identity() -> str:
    """What must be equal for two answers of `changed_nouns` to be: these rules and the word list.

    Nouns are stored like scores: lemminflect takes a third of a second to read its word list.
    """
    return f"nouns:v{VERSION}:lemminflect-{importlib.metadata.version('lemminflect')}"


def words_to_match(
    nouns: ChangedNouns, noun_side: NounSide, box_side: Side
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(texts for the left image's crop, texts for the right image's crop) of a box of `box_side`.

    `head` swaps the two for boxes of the right image, `pre_2025_03` for boxes of the left image,
    `correct` never. A box matches where any text matches its crop; an empty tuple cannot match.
    """
    swapped_side = {
        NounSide.correct: None,
        NounSide.head: Side.RIGHT,
        NounSide.pre_2025_03: Side.LEFT,
    }[noun_side]
    if box_side is swapped_side:
        return nouns.right, nouns.left
    return nouns.left, nouns.right


def _words(caption: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", caption.lower()).split()


@functools.lru_cache(maxsize=65536)
def noun_lemma(word: str) -> str:
    """The word as a singular noun ("children": "child"); unchanged where it has no noun reading."""
    import lemminflect

    if word in FUNCTION_WORDS or not word.isalpha():
        return word
    readings = lemminflect.getAllLemmas(word)
    if readings and "NOUN" not in readings:
        return word
    lemmas = lemminflect.getLemma(word, upos="NOUN")
    # "leaves" is offered as "leave" and "leaf": rather the one that is not the verb's lemma.
    return str(min(lemmas, key=lambda lemma: lemma in readings.get("VERB", ()), default=word))


@functools.lru_cache(maxsize=65536)
def is_noun(word: str) -> bool:
    """Whether a word on its own would be tagged a noun.

    Noun: unknown words with a letter (as NLTK's tagger decides), words with a noun reading. Not:
    function words, numbers, words without a noun reading, adjectives that have a comparative
    ("red", "small"), and -ing forms of verbs other than things like "building".
    """
    import lemminflect

    if word in FUNCTION_WORDS or word in ADJECTIVES or not any(map(str.isalpha, word)):
        return False
    readings = lemminflect.getAllLemmas(word)
    if not readings:
        return not any(map(str.isdigit, word))
    if "NOUN" not in readings:
        return False
    if word.endswith("ing") and readings.get("VERB", (word,)) != (word,):
        return word in ING_OBJECTS
    comparable = "JJR" in lemminflect.getAllInflections(word, upos="ADJ")
    return not comparable or word in {"light", "square", "flat"}

"""What an answer says about each option: letters and option texts, affirmed, denied or neither."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from imgdiff.eval.answer_words import Word, Words, words_of

_ARTICLES = ("a", "an", "the")
_LETTERS = "abcdefgh"  # "(c)" of two options is a letter that is not there, "(s)" a plural
_ALSO_WORDS = ("a", "i")  # letters that English uses as words
_JOINERS = frozenset(["or", "and"])
_NEGATIONS = frozenset(
    "not no never without nor none nothing hardly barely wrong incorrect false unlikely non except"
    " excluding exclude excludes eliminate eliminates eliminating reject rejects rather instead"
    " unlike opposite fails lack lacks lacking absence doubt unsure unclear uncertain unable"
    " impossible isnt arent wasnt werent dont doesnt didnt cant couldnt shouldnt wouldnt wont"
    " neither implausible least skip avoid distractor mistake"
    " nicht kein keine keinen pas nao n\u00e3o \u043d\u0435 \u043d\u0435\u0442 ne ni"
    " \u4e0d \u6ca1 \u975e \u65e0".split()
)
_REACHING = frozenset("not opposite mistake distractor".split())  # across a comma or colon
_CONDITIONS = frozenset("if whether unless assuming suppose supposing".split())
_DENIED_AFTER = re.compile(
    r"(?:(?:is|was|are|were|be|would|can|could|does|do|did|should|will|has|had|seems?|looks?"
    r"|appears?|to|been|clearly|definitely|certainly|also|option|answer|choice|therefore|thus)\s)*"
    r"(?:not|never|wrong|incorrect|false|unlikely|impossible|implausible|invalid|ruled|excluded|eliminated"
    r"|absent|missing|no|isnt|cant|doesnt)\b"
)
_DENIED_LATER = re.compile(
    r"(?:(?:this|that|it|which|no)\s)?(?:(?:is|was|would be|seems)\s)?(?:clearly\s|definitely\s)?"
    r"(?:wrong|incorrect|false|not correct|not right|not the)\b"
)
_CONDITION_AFTER = re.compile(  # "(a) if it is open", "(a) would be right if ..."
    r"(?:(?:is|would|could|be|correct|right|the|answer|only|true)\s)*(?:if|unless|when|provided)\b"
)
_AFTER_WORDS = 6  # how far a verdict may stand behind what it denies
_LETTER_NEXT = frozenset(
    "because since as is was seems and or but would must should for so given due it not".split()
)
_LETTER_BEFORE = frozenset(
    "option choice letter answer ans its choose pick select say think believe or and so therefore"
    " thus hence go with"
    " \u9009 \u62e9".split()
)
_COPULAS = frozenset("is be es est ist \u662f \u4e3a".split())
_SUBJECTS = frozenset("it answer choice option that this would should must \u6848".split())
# Words before and behind an option's one word that give it another sense.
_OTHER_SENSE = {
    "right": (
        frozenset("all that thats is are am was its youre be quite".split()),
        frozenset("there here now away behind next after before above".split()),
    ),
    "left": (
        frozenset("he she they it who has have had nothing was were".split()),
        frozenset("the a an his her over behind out".split()),
    ),
}
# "Figure 1", "at least 2": no count of things.
_NUMBERED = frozenset(
    "figure fig image picture photo option answer number step line panel least most than about"
    " approximately around".split()
)
_REPLY_BEFORE = frozenset("say is be answer think with or and".split())
_REPLY_NEXT = frozenset("there it the this that they he she its i or and".split())


class Kind(enum.Enum):
    """`letter` names an option, `text` says its words; `maybe_...` may mean other things."""

    letter = "letter"
    maybe_letter = "maybe_letter"
    text = "text"
    maybe_text = "maybe_text"


class Stance(enum.Enum):
    """Whether a claim is made, denied, or only considered ("if (a) ...")."""

    affirmed = "affirmed"
    denied = "denied"
    considered = "considered"


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """Words `first` to `last` name option `key`; `whole` says letter and text together."""

    key: str
    kind: Kind
    first: int
    last: int
    stance: Stance = Stance.affirmed
    whole: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """An answer's words and its claims in order; questions and echoed options make none."""

    plain: str
    words: tuple[Word, ...]
    claims: tuple[Claim, ...]

    def opens_clause(self, claim: Claim) -> bool:
        """Whether nothing of its clause stands before the claim."""
        words, first = self.words, claim.first
        return first == 0 or words[first - 1].clause != words[first].clause

    def closes_clause(self, claim: Claim) -> bool:
        """Whether nothing of its clause stands behind the claim."""
        return _closes(self.words, claim.last)

    def sentence_of(self, claim: Claim) -> int:
        """The number of the sentence that holds the claim's first word."""
        return self.words[claim.first].sentence


def read_claims(answer: str, options: Mapping[str, str]) -> Reading:
    """All claims of `answer` about `options`, and the letters in it that are none of them."""
    read = words_of(answer)
    texts = _option_texts(options)
    found = list(_named(read.words, options, texts))
    found = _without_echo(read.words, found, tuple(options))
    found = [item for item in found if read.words[item.last].sentence not in read.questions]
    taken = {place for item in found for place in range(item.first, item.last + 1)}
    stances = _Stances(read, taken)
    claims = tuple(
        Claim(
            key=item.key,
            kind=item.kind,
            first=item.first,
            last=item.last,
            stance=stances.of(item),
            whole=item.whole,
        )
        for item in found
    )
    return Reading(plain=read.plain, words=read.words, claims=claims)


def _option_texts(options: Mapping[str, str]) -> dict[str, tuple[Word, ...]]:
    """Each option's words without a leading article; options that would read alike have none."""
    texts = {}
    for key, text in options.items():
        words = words_of(text).words
        leads = len(words) > 1 and words[0].text in _ARTICLES
        texts[key] = words[1:] if leads else words
    spelled = [" ".join(word.text for word in words) for words in texts.values()]
    return {
        key: words
        for (key, words), name in zip(texts.items(), spelled, strict=True)
        if words and spelled.count(name) == 1
    }


def _named(
    words: Sequence[Word], options: Mapping[str, str], texts: Mapping[str, tuple[Word, ...]]
) -> Iterator[Claim]:
    """Every letter and every option text; of two texts that overlap, the longer one."""
    longest_first = sorted(texts, key=lambda key: -len(texts[key]))
    place, free = 0, 0
    while place < len(words):
        word = words[place]
        if len(word.text) == 1 and (word.text in options or word.text in _LETTERS):
            claim = _letter(words, place, texts)
            if claim is not None and word.text not in options:
                claim = claim if word.bracketed or _stands_alone(words, place) else None
            if claim is not None:
                yield claim
            if claim is not None and claim.whole:
                place = free = claim.last + 1
                continue
        key = next((key for key in longest_first if _stands(words, place, texts[key])), None)
        if key is None or (place - free > 1 and _is_shared(words, place, key, texts)):
            place += 1
            continue
        last = place + len(texts[key]) - 1
        kind = Kind.text if last > place or _means(words, place) else Kind.maybe_text
        yield Claim(key=key, kind=kind, first=place, last=last)
        place = free = last + 1


def _is_shared(
    words: Sequence[Word], place: int, key: str, texts: Mapping[str, tuple[Word, ...]]
) -> bool:
    """Whether a word of another option is joined to the text: "black and white dog" is neither."""
    if len(texts[key]) == 1 or words[place - 1].text not in ("and", "or"):
        return False
    own = {word.text for word in texts[key]}
    others = {word.text for name, text in texts.items() if name != key for word in text}
    return words[place - 2].text in others - own


def _stands(words: Sequence[Word], place: int, text: tuple[Word, ...]) -> bool:
    """Whether the option's words stand at `place`; "yes" and "no" only where they reply."""
    if not _spelled(words, place, text):
        return False
    if len(text) > 1:
        return True
    if text[0].text == "right" and not _closes(words, place):
        return words[place + 1].text not in ("answer", "option", "choice", "letter")
    return text[0].text not in ("yes", "no") or _is_reply(words, place)


def _spelled(words: Sequence[Word], place: int, text: tuple[Word, ...]) -> bool:
    """Whether the option's words stand at `place`, in one clause as in the option."""
    if place + len(text) > len(words) or words[place].text != text[0].text:
        return False
    return all(
        found.text == wanted.text
        and found.clause - words[place].clause <= wanted.clause - text[0].clause
        for found, wanted in zip(words[place : place + len(text)], text, strict=True)
    )


def _means(words: Sequence[Word], place: int) -> bool:
    """Whether a number counts, and "left" and "right" are sides."""
    word = words[place]
    before = "" if _opens(words, place) else words[place - 1].text
    after = "" if _closes(words, place) else words[place + 1].text
    if not word.text.isdecimal():
        senses = _OTHER_SENSE.get(word.text, (frozenset(), frozenset()))
        return before not in senses[0] and after not in senses[1]
    beyond = words[place + 2].text if after in ("or", "to") and place + 2 < len(words) else ""
    ahead = words[place - 2].text if before in ("or", "to") and place > 1 else ""
    return before not in _NUMBERED and not word.signed and not (beyond + ahead).isdecimal()


def _is_reply(words: Sequence[Word], place: int) -> bool:
    """Whether "yes" or "no" answers here, and is not the "no" of "no dog"."""
    opens = place == 0 or words[place - 1].clause != words[place].clause
    before = "" if opens else words[place - 1].text
    after = "" if _closes(words, place) else words[place + 1].text
    if before in _JOINERS or after in _JOINERS:
        return True
    if after and words[place + 1].bracketed:  # "No (b)"
        return opens
    numbering = words[place + 1 : place + 2]  # "No. 5"
    if numbering and numbering[0].text.isdecimal() and numbering[0].line == words[place].line:
        return False
    started = opens or before in _REPLY_BEFORE
    return started and (not after or after in _REPLY_NEXT)


def _closes(words: Sequence[Word], place: int) -> bool:
    return place + 1 == len(words) or words[place + 1].clause != words[place].clause


def _letter(
    words: Sequence[Word], place: int, texts: Mapping[str, tuple[Word, ...]]
) -> Claim | None:
    """The letter at `place`; None where it is an article, a pronoun or a part of "a.m."."""
    word = words[place]
    after = place + 1
    if after < len(words) and words[after].text in _ARTICLES and not _closes(words, place):
        after += 1  # "b a dog"
    for start in (place + 1, after):
        own = texts.get(word.text)
        near = start < len(words) and words[start].sentence - word.sentence <= 1
        if own and near and words[start].line == word.line and _spelled(words, start, own):
            last = start + len(own) - 1
            article = word.text in _ALSO_WORDS and not (word.bracketed or _closes(words, place))
            if not article:
                return Claim(key=word.text, kind=Kind.letter, first=place, last=last, whole=True)
    if word.bracketed:
        return Claim(key=word.text, kind=Kind.letter, first=place, last=place)
    joined = place > 0 and words[place - 1].glued and words[place - 1].end + 1 == word.start
    if place == 0 and word.glued:
        return Claim(key=word.text, kind=Kind.maybe_letter, first=place, last=place)
    if word.glued or joined:
        return None
    return _bare_letter(words, place)


def _opens(words: Sequence[Word], place: int) -> bool:
    return place == 0 or words[place - 1].clause != words[place].clause


def _stands_alone(words: Sequence[Word], place: int) -> bool:
    return words[place].capital and _opens(words, place) and _closes(words, place)


def _bare_letter(words: Sequence[Word], place: int) -> Claim | None:
    word = words[place]
    after = "" if _closes(words, place) else words[place + 1].text
    before = "" if _opens(words, place) else words[place - 1].text
    ends = not after or after in _LETTER_NEXT
    if word.text in _ALSO_WORDS and not ends:
        return None
    if word.text in _ALSO_WORDS and not word.capital and before in ("is", "be", "with"):
        nouns = {item.text for item in words[max(0, place - 3) : place]}
        if not nouns & {"answer", "choice", "option"}:
            return None  # "It is a", cut off
    if before in _COPULAS and place > 1 and words[place - 2].text not in _SUBJECTS:
        before = words[place - 2].text  # "the letter on the sign is B"
    sure = ends and (not before or before in _LETTER_BEFORE or before in _COPULAS)
    kind = Kind.letter if sure else Kind.maybe_letter
    return Claim(key=word.text, kind=kind, first=place, last=place)


def _without_echo(
    words: Sequence[Word], found: Sequence[Claim], keys: tuple[str, ...]
) -> list[Claim]:
    """Without lists of all options in their order, unless the answer goes on in their sentence."""
    kept: list[Claim] = []
    place = 0
    while place < len(found):
        part = found[place : place + len(keys)]
        if _is_list(part, keys) and _ends_sentence(words, part[-1].last):
            place += len(keys)
        else:
            kept.append(found[place])
            place += 1
    return kept


def _is_list(part: Sequence[Claim], keys: tuple[str, ...]) -> bool:
    side_by_side = all(after.first == before.last + 1 for before, after in pairwise(part))
    return side_by_side and tuple(item.key for item in part) == keys and all(p.whole for p in part)


def _ends_sentence(words: Sequence[Word], place: int) -> bool:
    return place + 1 == len(words) or words[place + 1].sentence != words[place].sentence


class _Stances:
    """Where, in each clause and sentence, the first denial and the first condition stand."""

    def __init__(self, read: Words, taken: set[int]) -> None:
        self._words = read.words
        self._denials: dict[int, list[int]] = {}
        self._conditions: dict[int, int] = {}
        self._carried: dict[int, int] = {}  # a "not" before a comma reaches the sentence's end
        for place, word in enumerate(read.words):
            if place in taken:
                continue
            if word.text in _NEGATIONS:
                self._denials.setdefault(word.clause, []).append(place)
                if word.text in _REACHING and _closes(read.words, place):
                    self._carried.setdefault(word.sentence, place)
            if word.text in _CONDITIONS:
                self._conditions.setdefault(word.sentence, place)

    def of(self, claim: Claim) -> Stance:
        """A letter is denied by a "not" before it in its clause, a text by one on either side."""
        word = self._words[claim.first]
        if self._conditions.get(word.sentence, claim.first) < claim.first:
            return Stance.considered
        behind = self._words[claim.last + 1 : claim.last + 1 + _AFTER_WORDS]
        later = " ".join(item.text for item in behind if item.sentence == word.sentence)
        if _CONDITION_AFTER.match(later):
            return Stance.considered
        denials = self._denials.get(word.clause, [])
        says = claim.kind in (Kind.text, Kind.maybe_text)
        reach = len(self._words) if says else claim.first
        carried = self._carried.get(word.sentence, claim.first)
        if (denials and denials[0] < reach) or carried < claim.first:
            return Stance.denied
        clause = self._words[claim.last].clause
        said = " ".join(item.text for item in behind if item.clause == clause)
        denied = _DENIED_AFTER.match(said) or _DENIED_LATER.match(later)
        return Stance.denied if denied else Stance.affirmed

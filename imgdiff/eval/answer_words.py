"""An answer as words: one form per character, without mark-up, in clauses and sentences.

Every step is linear in the length of the answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

_WHITE_ON_BLACK = (0x1F150, 0x1F170)  # A in a disc, A in a square: NFKC leaves them
FINAL = "\ue000"  # a private character: what follows is marked as the final answer

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_THOUGHT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_FINALS = re.compile(
    r"<answer>|\\f?boxed\b|####"
    r"|\"(?:final_)?(?:answer|choice|option|letter|prediction)\"\s?:",
    re.IGNORECASE,
)
_LATEX = re.compile(r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|mathsf|bf|rm|quad)\b|\\")
_TAGS = re.compile(r"</?[a-zA-Z][^<>]{0,80}>|<\|[^<>|]{0,40}\|>")
_QUOTES = re.compile(r"[*_`\"'\u00b4\u2018-\u201f\u00ab\u00bb\u300c-\u300f]")
_RULES = re.compile(r"[$#|>~]")
_NOT = re.compile(
    r"\b(is|are|was|were|do|does|did|has|have|had|can|could|should|would|wo|ca)n['\u2019]?t\b"
    r"|\b(can)not\b",
    re.IGNORECASE,
)
_WHOLE_VERB = {"ca": "can", "wo": "will"}
_CERTAIN = re.compile(r"\b(?:without (?:a |any )?doubt|no doubt|not only)\b", re.IGNORECASE)
_ANYTHING_BUT = re.compile(
    r"\b(?:far from|least likely|(?:rul(?:e|es|ed|ing)|cross(?:ed|ing)?) out)\b:?"
    r"|\b(?:anything|everything|all) (?:but|except)\b",
    re.IGNORECASE,
)
_CROSSED = re.compile("[\u2717\u2718\u274c\u2612]")
_NO_ANSWER = re.compile(r"\bn/a\b", re.IGNORECASE)
_IDEOGRAPH = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")
_OPENING, _CLOSING = str.maketrans("[{", "(("), str.maketrans("]}", "))")
_LEXEME = re.compile(
    r"\(\s?(?P<bracketed>[a-z])\s?[.)]?\s?\)"
    r"|(?P<word>\d+(?:[.,:/]\d+)+|\w+|\ue000)"
    r"|(?P<sentence>\n|[.!?;\u3002\u2026]+(?=[\s()]|$)|[.\u2026]{2,})"
    r"|(?P<clause>[,:()\u2013\u2014\u3001=]|(?<=\s)-|-(?=\s))"
    r"|(?P<joiner>[/&+])",
    re.IGNORECASE,
)
_GLUED = re.compile(r"[.-]\w|\+")
_TURNS = frozenset("but so therefore thus hence while whereas although though".split())
_TURNS_OF_TWO = frozenset([("rather", "than"), ("instead", "of"), ("and", "not")])

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_NUMBERS = {name: value for value, name in enumerate(_UNITS)} | {
    name: 10 * value for value, name in enumerate(_TENS, start=2)
}
# "the one on the left" counts nothing.
_COUNTING = frozenset("is are only just exactly see has have shows there with answer".split())
_PRONOUN_NEXT = frozenset(
    "of can could should must may might is was side on in at with that who which where".split()
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A lower-case word, or a letter in brackets; numbers below a hundred are digits.

    `start` and `end` are its place in the plain text. `glued` means that a full stop, a hyphen or
    a plus joins it to what follows ("a.m.", "T-shirt", "A+"), `signed` that a minus precedes it.
    """

    text: str
    start: int
    end: int
    clause: int
    sentence: int
    line: int
    bracketed: bool = False
    capital: bool = False
    glued: bool = False
    signed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """The words of `plain`, and the numbers of the sentences that ask."""

    plain: str
    words: tuple[Word, ...]
    questions: frozenset[int]


def words_of(text: str) -> Words:
    """The words of an answer or an option."""
    plain = plain_text(text)
    found, questions = _lexed(plain)
    return Words(plain=plain, words=tuple(_counted(_turned(found))), questions=questions)


def plain_text(text: str) -> str:
    """NFKC without mark-up, invisible characters and what a model only thought; lines kept."""
    flat = unicodedata.normalize("NFKC", text)
    flat = flat.translate(_VISIBLE)
    flat = _THOUGHT.sub(" ", flat)
    flat = _THOUGHT_END.split(flat)[-1]
    flat = _FINALS.sub(f" {FINAL} ", flat)
    flat = _LATEX.sub(" ", _TAGS.sub(" ", flat))
    flat = _NOT.sub(_negated, flat)
    flat = _CROSSED.sub(" wrong ", flat).replace("\u00ac", " not ")
    flat = _NO_ANSWER.sub("unknown", _ANYTHING_BUT.sub("not", flat))
    flat = _RULES.sub(" ", _QUOTES.sub("", flat)).translate(_OPENING).translate(_CLOSING)
    flat = _IDEOGRAPH.sub(r" \1 ", _CERTAIN.sub(" ", flat))
    return "\n".join(" ".join(line.split()) for line in flat.strip().splitlines()).strip()


def _negated(match: re.Match[str]) -> str:
    verb = (match.group(1) or match.group(2)).lower()
    return _WHOLE_VERB.get(verb, verb) + " not"


class _Visible(dict[int, str]):
    """For str.translate: each character as it is read; fills itself."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _shown(chr(code))
        return shown


def _shown(character: str) -> str:
    for first in _WHITE_ON_BLACK:
        if 0 <= ord(character) - first < len(ascii_uppercase):
            return ascii_uppercase[ord(character) - first]
    kind = unicodedata.category(character)
    if kind in ("Cf", "Mn", "Me"):
        return ""  # direction marks, joiners, keycaps; NFKC has composed the accents
    if kind in ("Cc", "Co", "Cs") and character not in "\n\r\x0b\x0c\x85":
        return " "
    return character


_VISIBLE = _Visible()


def _lexed(plain: str) -> tuple[list[Word], frozenset[int]]:
    words: list[Word] = []
    questions = set()
    clause = sentence = line = 0
    for match in _LEXEME.finditer(plain):
        if match.lastgroup in ("sentence", "clause"):
            clause += 1
            if match.lastgroup == "sentence":
                if "?" in match.group():
                    questions.add(sentence)
                sentence += 1
                line += match.group() == "\n"
            continue
        raw = match.group(match.lastgroup or 0)
        words.append(
            Word(
                text={"/": "or", "&": "and", "+": "and"}.get(raw, raw.lower()),
                start=match.start(),
                end=match.end(),
                clause=clause,
                sentence=sentence,
                line=line,
                bracketed=match.lastgroup == "bracketed",
                capital=raw[:1].isupper(),
                signed=plain[match.start() - 1 : match.start()] == "-",
                glued=bool(_GLUED.match(plain, match.end())),
            )
        )
    return words, frozenset(questions)


def _turned(words: Sequence[Word]) -> list[Word]:
    """A new clause from every "but", "so", "rather than" on."""
    turned, shift = [], 0
    for number, word in enumerate(words):
        following = words[number + 1].text if number + 1 < len(words) else ""
        if word.text in _TURNS or (word.text, following) in _TURNS_OF_TWO:
            shift += 1
        turned.append(replace(word, clause=word.clause + shift) if shift else word)
    return turned


def _counted(words: Sequence[Word]) -> list[Word]:
    """Number words as digits; numbers side by side ("twenty-one", "1 2") are one word."""
    counted: list[Word] = []
    for place, word in enumerate(words):
        text = _digits(words, place)
        last = counted[-1] if counted else None
        if text.isdecimal() and last and last.text[-1:].isdecimal() and last.clause == word.clause:
            tens = (
                last.text.isdecimal() and words[place - 1].text in _TENS and int(text) in range(10)
            )
            text = str(int(last.text) + int(text)) if tens else f"{last.text} {text}"
            counted[-1] = replace(last, text=text, end=word.end)
        else:
            counted.append(replace(word, text=text) if text != word.text else word)
    return counted


def _digits(words: Sequence[Word], place: int) -> str:
    word = words[place].text
    if word not in _NUMBERS or (word == "one" and not _counts(words, place)):
        return word
    return str(_NUMBERS[word])


def _counts(words: Sequence[Word], place: int) -> bool:
    """Whether this "one" is a number: "there is one dog", "One dog", "One."."""
    clause = words[place].clause
    opens = place == 0 or words[place - 1].clause != clause
    closes = place + 1 == len(words) or words[place + 1].clause != clause
    if opens:
        first = place == 0 or words[place - 1].sentence != words[place].sentence
        return closes or (first and words[place + 1].text not in _PRONOUN_NEXT)
    before = words[place - 1].text
    return before in _COUNTING or before in _TENS

"""The letter that an answer chooses, or None. Nothing is guessed: what is not clear is unparsed."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from imgdiff.eval.answer_claims import Claim, Kind, Reading, Stance, read_claims
from imgdiff.eval.answer_words import FINAL

MAX_CHARS = 200_000  # of an answer that is read; one that runs on for longer is unparsed
_ANSWER = (
    r"(?:answer|ans|choice|selection|response|respuesta|r\u00e9ponse|resposta|risposta|antwort"
    r"|\u043e\u0442\u0432\u0435\u0442|\u7b54 \u6848)"
)
_IS = (
    r"(?:(?:is|would be|should be|must be|will be|has to be|es|est|ist|\u00e9|\u00e8|\u662f|\u4e3a)"
    r"(?![^\W\d_])\s?[:=]?|[:=])"
)
_ADVERBS = (
    r"(?:\s?\b(?:therefore|thus|then|clearly|definitely|most likely|likely|probably|indeed"
    r"|actually|simply|option|choice|letter)\b)*"
)
_TO = r"(?: (?:here|to (?:the|this|your) question|for (?:the|this) question))?"
_STATEMENT = re.compile(
    rf"(?P<final>{FINAL}(?:\s?{_ANSWER}\s?{_IS}?)?|\bfinal {_ANSWER}{_TO}\s?{_IS}?)"
    rf"|(?P<label>(?:^|(?<=\n))(?:[^\w\n]{{0,4}}(?:the|my|so|correct|best|therefore|thus|hence)\b"
    rf"){{0,4}}[^\w\n]{{0,4}}(?:{_ANSWER}{_TO}\s?{_IS}|answer(?= \(?[a-z]\)?(?:$|[.,\n])))"
    rf"{_ADVERBS})"
    rf"|\b{_ANSWER}{_TO}\s?{_IS}{_ADVERBS}"
    r"|\bi(?:d|ll)? (?:(?:would|will|have to|must) )?(?:choose|chose|pick|select|say|go with|go for"
    r"|opt for)\b"
    r"|\u9009(?: \u62e9)?",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"(?:is|seems|must be|would be|should be)\s(?:(?:the|my|clearly|therefore|thus|definitely|most"
    r"|likely|indeed)\s)*(?:correct|right|best|answer|true|accurate)\b"
)
_UNFINISHED = re.compile(rf"{_ANSWER}{_TO}\s?{_IS}\W*\Z", re.IGNORECASE)
_VERDICT_WORDS = 6  # how far "is the most likely correct answer" is looked for
_REFUSAL = re.compile(
    r"\b(?:not sure|unsure|unclear|uncertain|can not(?! be)|cant|could not|unable|dont know"
    r"|not know|sorry|impossible|hard to|difficult to|no idea|not enough|insufficient|maybe"
    r"|perhaps|might|may be|may|could be|possibly|not determine|none of the|neither of)\b"
)
_REVISED = re.compile(
    r"(?:(?:^|(?<=[.!?,;:\n\u2026\u2014] )|(?<=\n))wait|\bcorrection|\bscratch that"
    r"|\bsecond thoughts?"
    r"|\bi mean|\bjust kidding|\boops|\bmy mistake|\bi was wrong"
    r"|\b(?:that|this|it)(?:s| is| was) (?:wrong|incorrect))\b",
    re.IGNORECASE,
)
_JOINING = frozenset("or and maybe perhaps possibly also even then".split())
_ALL_DENIED = re.compile(
    r"\b(?:none|neither|both|all|either) of (?:the|these|those)"
    r" (?:above|options?|choices|answers)\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:either|neither|both|almost|nearly|half|semi|partially|partly|depends|unknown"
    r"|all of the|somewhat|sometimes|(?:could|would|should) have been|used to be)\b"
)


def choice_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The key of `options` (single lower-case letters to their texts) that `answer` chooses.

    In this order: what is marked as final ("Final answer: b", a box, an "answer" in JSON, a last
    line "Answer: b"); an explicit statement ("the answer is (b)", "(b) is correct"); a letter
    ("B", "b) dog", "so (b)"); the text of an option ("a dog"). The first of these that says
    anything decides, and it must name one option only. None also where the words affirm only
    another option than the letter, deny the chosen one, doubt, or take something back ("wait");
    for an article ("A black dog"), for options that a question or a list repeats, and beyond
    `MAX_CHARS` characters.
    """
    if len(answer) > MAX_CHARS:
        return None
    reading = read_claims(answer, options)
    if _UNFINISHED.search(reading.plain) or _revised(reading):
        return None
    refusing = _sentences_with(reading, _REFUSAL)
    hedging = _sentences_with(reading, _HEDGE)
    finals, statements = _statements(reading, refusing | hedging)
    if finals:
        chosen = _one(finals)
    else:
        named = _named(reading, refusing, hedging)
        chosen = _stated(reading, statements) if statements else named
        chosen = None if chosen and _contradicted(reading, chosen) else chosen
    return chosen if chosen in options else None


def _revised(reading: Reading) -> bool:
    """Whether the answer takes something back ("wait", "that is wrong") and then ends unmarked."""
    back = max((match.end() for match in _REVISED.finditer(reading.plain)), default=0)
    claimed = any(reading.words[claim.first].start < back for claim in reading.claims)
    if not claimed:
        return False
    marked = (match for match in _STATEMENT.finditer(reading.plain) if match.start() >= back)
    return not any(match["final"] or match["label"] for match in marked)


def _one(keys: set[str]) -> str | None:
    return next(iter(keys)) if len(keys) == 1 else None


def _affirmed(reading: Reading, *kinds: Kind) -> list[Claim]:
    return [c for c in reading.claims if c.kind in kinds and c.stance is Stance.affirmed]


def _keys(claims: Iterable[Claim]) -> set[str]:
    return {claim.key for claim in claims}


def _stated(reading: Reading, statements: set[str]) -> str | None:
    """The option of all statements, unless a letter or text that stands alone names another."""
    alone = _keys(
        claim
        for claim in _affirmed(reading, Kind.letter, Kind.text)
        if reading.opens_clause(claim) and reading.closes_clause(claim)
    )
    if len(alone) == 1:  # more are a list of the options
        statements = statements | alone
    return _one(statements)


def _named(reading: Reading, refusing: set[int], hedging: set[int]) -> str | None:
    """The one option that letters name, else the one whose text occurs."""
    if _ALL_DENIED.search(reading.plain):
        return None
    sure = _affirmed(reading, Kind.letter)
    perhaps = _keys(_affirmed(reading, Kind.maybe_letter))
    if sure:
        sentences = [reading.sentence_of(claim) for claim in sure]
        doubted = min(refusing, default=sentences[0] + 1) <= sentences[0]
        doubted = doubted or not refusing.isdisjoint(sentences)
        return None if doubted else _one(_keys(sure) | perhaps)
    verdicts = {  # "(a) is false" says nothing about the option "False"
        reading.words[claim.last].clause
        for claim in reading.claims
        if claim.kind is Kind.letter and claim.stance is Stance.denied
    }
    texts = _keys(
        claim
        for claim in _affirmed(reading, Kind.text)
        if reading.words[claim.first].clause not in verdicts
    )
    perhaps |= _keys(_affirmed(reading, Kind.maybe_text))
    return None if perhaps - texts or refusing or hedging else _one(texts)


def _contradicted(reading: Reading, chosen: str) -> bool:
    """Whether the words affirm other options only, or deny the chosen one."""
    denied = _keys(claim for claim in reading.claims if claim.stance is Stance.denied)
    said = _keys(
        claim
        for claim in _affirmed(reading, *Kind)
        if claim.whole or claim.kind in (Kind.text, Kind.maybe_text)
    )
    return chosen in denied or (bool(said) and chosen not in said)


def _sentences_with(reading: Reading, pattern: re.Pattern[str]) -> set[int]:
    """The numbers of the sentences that hold the pattern outside the options' own words."""
    taken = {
        place
        for claim in reading.claims
        if claim.kind is Kind.text or claim.whole
        for place in range(claim.first, claim.last + 1)
    }
    said: dict[int, list[str]] = {}
    for place, word in enumerate(reading.words):
        said.setdefault(word.sentence, []).append("," if place in taken else word.text)
    return {number for number, words in said.items() if pattern.search(" ".join(words))}


def _statements(reading: Reading, doubted: set[int]) -> tuple[set[str], set[str]]:
    """Options that are stated as final, and all that are stated. A final "(b) cat" states two."""
    finals: set[str] = set()
    labelled: set[str] = set()
    stated: set[str] = set(_verdicts(reading))
    last_line = reading.words[-1].line if reading.words else 0
    closing = False
    for match, start, part in _marked(reading):
        opening = reading.words[start]
        closing = match["label"] is not None and 0 < last_line == opening.line
        final = match["final"] is not None
        claims = _qualified(reading, start, part, is_final=final or closing)
        by_text = bool(claims) and claims[0].first != start
        if by_text and opening.sentence in doubted:
            continue
        keys = _keys(claim for claim in claims if claim.stance is Stance.affirmed)
        stated |= keys
        finals |= keys if final else set()
        labelled |= keys if match["label"] is not None else set()
    return finals | (labelled if closing else set()), stated


def _marked(reading: Reading) -> Iterator[tuple[re.Match[str], int, Sequence[Claim]]]:
    """Each statement's opening, its first word, and its claims up to the next statement."""
    starts = [word.start for word in reading.words]
    firsts = [claim.first for claim in reading.claims]
    found = list(_STATEMENT.finditer(reading.plain))
    for match, following in zip_longest(found, found[1:]):
        start = bisect_left(starts, match.end())
        end = bisect_left(starts, following.start()) if following else len(starts)
        if start < end:
            part = reading.claims[bisect_left(firsts, start) : bisect_left(firsts, end)]
            yield match, start, part


def _qualified(
    reading: Reading, start: int, part: Sequence[Claim], *, is_final: bool
) -> list[Claim]:
    """What a statement names: the claim that opens it and what may qualify that, else texts."""
    sentence, line = reading.words[start].sentence, reading.words[start].line
    ahead = [claim for claim in part if reading.words[claim.first].line == line]
    if not ahead or ahead[0].first != start:
        return [c for c in ahead if reading.sentence_of(c) == sentence and c.kind is Kind.text]
    stated = ahead[:1]
    for claim in ahead[1:]:
        between = reading.words[stated[-1].last + 1 : claim.first]
        joined = all(word.text in _JOINING for word in between)
        same = reading.sentence_of(claim) == sentence and claim.kind is Kind.letter
        if joined or (same and not is_final):
            stated.append(claim)
    return stated


def _verdicts(reading: Reading) -> Iterator[str]:
    """Options of which the answer says "is correct"."""
    for claim in reading.claims:
        behind = reading.words[claim.last + 1 : claim.last + 1 + _VERDICT_WORDS]
        said = " ".join(w.text for w in behind if w.sentence == reading.sentence_of(claim))
        if claim.stance is Stance.affirmed and _VERDICT.match(said):
            yield claim.key

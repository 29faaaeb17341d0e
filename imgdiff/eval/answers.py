"""The letter that an answer chooses, or None. Nothing is guessed: what is not clear is unparsed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_MARKUP = re.compile(r"[*_`\"'\u201c\u201d\u2018\u2019$]|\\boxed|\\text")
_REFUSAL = re.compile(
    r"\b(?:not sure|unsure|unclear|can ?not|cant|unable|whether|dont know|do not know|sorry"
    r"|impossible|hard to|difficult to|maybe|perhaps|might|could be|either|neither|none of)\b"
)
_YES_AND_NO = re.compile(r"yes\W+(?:(?:and|or)\W+)?no\b|no\W+(?:(?:and|or)\W+)?yes\b")
_NEGATION_REACH = 60  # characters
_NEGATION = re.compile(
    r"(?:\b(?:not|no|isnt|arent|wasnt|werent|doesnt|dont|never|without|rather than|instead of)"
    r"(?:\s+(?:a|an|the|option|choice|on|in|at|it|of|any|is|really|be))*\s*)$"
)
_DENIAL = re.compile(r"\W*(?:isnt|cannot be|(?:is|was|would be)\s+(?:not|wrong|incorrect|false))\b")


def choice_letter(answer: str, options: Mapping[str, str]) -> str | None:
    """The key of `options` (single lower-case letters to their texts) that `answer` chooses.

    In this order: an explicit statement ("the answer is (b)"), a letter that opens the answer
    ("B", "b) dog"), one bracketed letter anywhere ("so (b)"), the text of one option ("a dog").
    Two letters or two texts, a negated one, a letter beside another option's text, an article
    ("A black dog") and a refusal choose nothing.
    """
    text = _plain(answer)
    if _contradicts_itself(text, options):
        return None
    for rule in (_stated, _leading, _bracketed, _by_text):
        found = rule(text, options)
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _plain(text: str) -> str:
    """Lower case, one form per character, without mark-up; lines and their blanks normalised."""
    flat = unicodedata.normalize("NFKC", text)
    flat = re.sub(r"<[^<>]*>", " ", flat)
    flat = _MARKUP.sub("", flat).lower().replace("[", "(").replace("]", ")")
    flat = flat.replace("{", "(").replace("}", ")")
    return "\n".join(" ".join(line.split()) for line in flat.strip().splitlines()).strip()


def _letters(options: Mapping[str, str]) -> str:
    return "".join(options)


def _stated(text: str, options: Mapping[str, str]) -> set[str]:
    """Letters after "answer is", "answer:", "option" and the like, or before "is correct".

    A bare letter counts only where it ends a clause, so that "the answer is a dog" does not.
    """
    letter = f"[{_letters(options)}]"
    after = re.compile(
        r"\b(?:answer|choice|option|letter|i (?:choose|pick|select))"
        r"(?: (?:is|would be|should be))?\s*[:=]?\s*(?:option |letter |choice )?"
        rf"(?:\(\s*({letter})\s*\)|({letter})(?=\s*(?:$|[\n.,;:!)])))"
    )
    before = re.compile(rf"(?:\(({letter})\)|\b({letter})) is (?:the )?(?:correct|right|answer)\b")
    found = set()
    for pattern in (after, before):
        for match in pattern.finditer(text):
            if _denied(text, match):
                continue
            found.add(match.group(1) or match.group(2))
            found |= _alternatives(text[match.end() :], letter)
    return found


def _alternatives(rest: str, letter: str) -> set[str]:
    """The letter that "or (b)", "and b", "/ b" directly after a letter adds."""
    match = re.match(rf"[\s,.)]*(?:or|and|/|&|,)\s*(?:option )?\(?({letter})\b(?! \w)", rest)
    return {match.group(1)} if match else set()


def _leading(text: str, options: Mapping[str, str]) -> set[str]:
    """The letter that opens the answer: alone, before punctuation, or before its option's text."""
    letter = f"[{_letters(options)}]"
    match = re.match(rf"(?:\(\s*({letter})\s*\)|({letter})(?!\w))", text)
    if match is None:
        return set()
    if _denied(text, match):
        return set()
    chosen, rest = match.group(1) or match.group(2), text[match.end() :]
    clear = match.group(1) or re.match(r"\s*(?:$|[\n.,;:!)-])", rest)
    if not clear and _words(rest) != _words(options[chosen]):
        return set()
    return {chosen} | _alternatives(rest, letter)


def _bracketed(text: str, options: Mapping[str, str]) -> set[str]:
    """Letters in brackets anywhere, without the negated ones."""
    pattern = re.compile(rf"\(\s*([{_letters(options)}])\s*\)")
    return {match.group(1) for match in pattern.finditer(text) if not _denied(text, match)}


def _by_text(text: str, options: Mapping[str, str]) -> set[str]:
    """Options whose text occurs; the longer one first, so that "left side" hides "left"."""
    if _REFUSAL.search(text) or _YES_AND_NO.match(text):
        return set()
    remaining, found = text, set()
    for key in sorted(options, key=lambda name: -len(options[name])):
        words = _words(options[key])
        if not words:
            continue
        pattern = re.compile(r"(?<!\w)" + r"\W+".join(map(re.escape, words)) + r"(?!\w)")
        if words in (["yes"], ["no"]):  # "there is no doubt" is no answer; only the first word is
            pattern = re.compile(r"^" + words[0] + r"(?!\w)")
        for match in pattern.finditer(remaining):
            if words != ["no"] and _denied(remaining, match):
                return set()
            found.add(key)
        remaining = pattern.sub(lambda match: "\0" * len(match.group()), remaining)
    return found


def _denied(text: str, match: re.Match[str]) -> bool:
    """Whether "not", "is never the" stands directly before the match, or "is wrong" after it."""
    before = text[max(0, match.start() - _NEGATION_REACH) : match.start()]
    return bool(_NEGATION.search(before) or _DENIAL.match(text, match.end()))


def _contradicts_itself(text: str, options: Mapping[str, str]) -> bool:
    """A letter followed by exactly the text of another option: "(a) dog" where (b) is dog."""
    match = re.match(rf"\(?\s*([{_letters(options)}])(?!\w)(.*)$", text, re.DOTALL)
    if match is None:
        return False
    chosen, rest = match.group(1), _words(match.group(2))
    bare_article = chosen == "a" and not text.startswith("(") and match.group(2)[:1] == " "
    if bare_article or not rest or rest == _words(options[chosen]):
        return False
    return any(rest == _words(options[key]) for key in options if key != chosen)


def _words(text: str) -> list[str]:
    """The words of a text in the form that answers are compared in."""
    return re.findall(r"\w+", _plain(text))

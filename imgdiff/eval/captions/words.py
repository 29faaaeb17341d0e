"""Tokens without Java: what Stanford's PTB tokenizer does to captions, approximated in Python."""

from __future__ import annotations

import re
from collections.abc import Sequence

from imgdiff.eval.captions.ptb import without_punctuation
from imgdiff.eval.captions.texts import one_line

TOKENIZER = "python"  # its name in results

_SPELLINGS = str.maketrans(
    {
        "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"',  # curly quotes
        "\u2013": "--", "\u2014": "--", "\u2026": "...",  # dashes, ellipsis
        "\u00a3": "#", "\u20ac": "$",  # PTB knows two signs of currency
        "\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4",
    }
)  # fmt: skip
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
_NAMED = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
# Written as one word, tokenised as two.
_JOINED = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na",
    "lemme": "lem me", "gimme": "gim me", "'tis": "'t is", "'twas": "'t was",
}  # fmt: skip
_DROPPED = re.compile(r'"|\.{2,}|-{2,}')
_TOKEN = re.compile(
    r"""
    [\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+                  # e-mail
    | (?:https?://|www\.)[^\s"<>]*[^\s"<>.,;:!?)'\]]     # web address
    | </?[a-z]+/?>                                     # mark-up
    | -[lr][rsc]b-                                     # a bracket's name
    | [@\#][a-z]\w*                                    # names and tags of social media
    | (?:mr|mrs|ms|dr|jr|sr|st|inc|co|ltd|etc|vs|no(?=\.\s*\d))\.(?!\w)
    | [a-z](?:\.[a-z])+\.(?!\w)                         # u.s.  a.m.
    | [b-hj-z]\.(?=\s+[a-z])                           # an initial: j. smith
    | (?:(?<!\w)[+-])?\.?\d+(?:[.,:]\d+)*(?:/\d+)?(?!\w|[-&/]\w)  # 1,000  .5  10:30  1/2  -5
    | '(?:tis|twas|\d0s|ll|re|ve|[smd])\b
    | [^\W_]+(?:['&/._-][^\W_]+)*                      # words, also joined ones
    | [!?]+ | \*+ | [^\s\w] | _+
    """,
    re.VERBOSE,
)
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|ll|re|ve))$")
_WIDE = re.compile("[\U00010000-\U0010ffff\ufe0f\u200b-\u200d\ufeff\ufffd]")  # emoji and the like


def tokenize(texts: Sequence[str]) -> list[str]:
    """Each text as lower-case tokens joined by blanks, without punctuation, as `ptb.tokenize`.

    Close to the PTB tokenizer, not equal. The rules were written while looking at 30,583 real
    captions (all of Spot-the-Diff and Image-Edit-Request, 1,795 of COCO), which all come out equal;
    emoticons, "rock'n'roll" and the like do not. Scores on these tokens are for looking at a model,
    not for a table beside published ones.
    """
    return [_tokens(one_line(text)) for text in texts]


def _tokens(text: str) -> str:
    flat = _WIDE.sub(" ", text.lower().translate(_SPELLINGS))
    for entity, sign in _ENTITIES.items():
        flat = flat.replace(entity, sign)
    found = (_split(token) for token in _TOKEN.findall(_DROPPED.sub(" ", flat)))
    return without_punctuation(" ".join(found))


def _split(token: str) -> str:
    """One token as PTB writes it: brackets by name, clitics and joined words apart."""
    if token in _NAMED:
        return _NAMED[token]
    return _JOINED.get(token) or _CLITIC.sub(r" \1", token)

"""From raw captions to numbers: tokens, statistics, scores, intervals and diagnostics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgdiff.eval.captions import ptb, words
from imgdiff.eval.captions.bootstrap import RESAMPLES, Interval, intervals
from imgdiff.eval.captions.diagnostics import Diagnostics, diagnose
from imgdiff.eval.captions.java import JAVA_REMEDY, find_java
from imgdiff.eval.captions.meteor import Meteor
from imgdiff.eval.captions.statistics import CaptionStatistics, corpus_scores, measure
from imgdiff.eval.captions.texts import CaptionSet

METEOR_UNAVAILABLE = (
    "METEOR unavailable: no Java was found, and no other implementation gives METEOR's numbers. "
    f"{JAVA_REMEDY} Then score again."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTools:
    """The Java parts of a session; both None where there is no Java."""

    java: Path | None
    meteor: Meteor | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionScores:
    """One system on one set. `scores` has every metric, None where `unavailable` says why.

    BLEU, METEOR and ROUGE-L are fractions, CIDEr-D is 0 to 10: pycocoevalcap's scales, unrounded.
    `tokenizer` is `ptb`, or `python` where there is no Java: its scores are close to the published
    protocol's, not equal.
    """

    tokenised: CaptionSet
    statistics: CaptionStatistics
    scores: dict[str, float | None]
    intervals: dict[str, Interval]
    diagnostics: Diagnostics
    tokenizer: str
    unavailable: dict[str, str]


@contextmanager
def open_tools() -> Iterator[CaptionTools]:
    """Find Java and start METEOR, which gets ready while captions are tokenised."""
    java = find_java()
    if java is None:
        yield CaptionTools(java=None, meteor=None)
        return
    with Meteor(java) as meteor:
        yield CaptionTools(java=java, meteor=meteor)


def score_captions(
    captions: CaptionSet,
    *,
    tools: CaptionTools | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CaptionScores:
    """Score raw captions. Pass `tools` to score several sets with one start of Java.

    BackendError where there is a Java and it fails: a broken METEOR is never left out silently.
    """
    if tools is None:
        with open_tools() as opened:
            return score_captions(captions, tools=opened, resamples=resamples, seed=seed)
    tokenised = tokenise(captions, tools.java)
    tokenizer = words.TOKENIZER if tools.java is None else ptb.TOKENIZER
    statistics = measure(tokenised, tokenizer=tokenizer, meteor=tools.meteor)
    return CaptionScores(
        tokenised=tokenised,
        statistics=statistics,
        scores=corpus_scores(statistics),
        intervals=intervals(statistics, resamples=resamples, seed=seed),
        diagnostics=diagnose(tokenised, statistics, meteor=tools.meteor),
        tokenizer=tokenizer,
        unavailable={} if tools.meteor is not None else {"meteor": METEOR_UNAVAILABLE},
    )


def tokenise(captions: CaptionSet, java: Path | None) -> CaptionSet:
    """The set with tokenised texts: by the PTB tokenizer, or in Python where `java` is None."""
    flat = [text for texts in captions.references for text in texts]
    if java is None:
        references, hypotheses = words.tokenize(flat), words.tokenize(captions.hypotheses)
    else:
        references, hypotheses = ptb.tokenize(flat, captions.hypotheses, java=java)
    return CaptionSet(
        ids=captions.ids,
        hypotheses=tuple(hypotheses),
        references=_regrouped(references, [len(texts) for texts in captions.references]),
    )


def _regrouped(texts: Sequence[str], sizes: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    remaining = iter(texts)
    return tuple(tuple(next(remaining) for _ in range(size)) for size in sizes)

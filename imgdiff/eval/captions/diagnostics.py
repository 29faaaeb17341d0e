"""What the four metrics hide: how few captions a model uses, and how far a constant one gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from imgdiff.eval.captions.meteor import Meteor
from imgdiff.eval.captions.statistics import CaptionStatistics, corpus_scores, measure
from imgdiff.eval.captions.texts import CaptionSet

SHOWN_CAPTIONS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class FrequentCaption:
    """A tokenised caption and how many items have it."""

    text: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ConstantBaseline:
    """The scores of one caption (tokenised) given for every item; keys as in `corpus_scores`."""

    caption: str
    scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostics:
    """Properties of the tokenised hypotheses.

    `empty` counts those without a single token: nothing, blanks, punctuation or emoji alone.
    Lengths are means in tokens; the reference length is that of the closest reference of each item.
    """

    distinct: int
    most_frequent: tuple[FrequentCaption, ...]
    empty: int
    mean_length: float
    mean_reference_length: float
    length_ratio: float | None  # None where no closest reference has a token
    constant: ConstantBaseline


def diagnose(
    captions: CaptionSet, statistics: CaptionStatistics, *, meteor: Meteor | None = None
) -> Diagnostics:
    """Diagnostics of tokenised captions and their statistics."""
    lengths = statistics.bleu[:, :2].mean(axis=0).tolist()
    return Diagnostics(
        distinct=len(set(captions.hypotheses)),
        most_frequent=most_frequent(captions.hypotheses, SHOWN_CAPTIONS),
        empty=sum(not text.split() for text in captions.hypotheses),
        mean_length=lengths[0],
        mean_reference_length=lengths[1],
        length_ratio=statistics.length_ratio,
        constant=constant_baseline(captions, tokenizer=statistics.tokenizer, meteor=meteor),
    )


def most_frequent(texts: Iterable[str], count: int) -> tuple[FrequentCaption, ...]:
    """The `count` most frequent texts; equally frequent ones in alphabetical order."""
    ranked = sorted(Counter(texts).items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple(FrequentCaption(text=text, count=number) for text, number in ranked[:count])


def constant_baseline(
    captions: CaptionSet, *, tokenizer: str, meteor: Meteor | None = None
) -> ConstantBaseline:
    """Scores of the most frequent reference that has a token, given as the caption of every item.

    Its tokens are those it has as a reference, so nothing is tokenised again. Of equally frequent
    ones the first in alphabetical order is taken.
    """
    texts = (text for texts in captions.references for text in texts if text.split())
    caption = most_frequent(texts, 1)[0].text
    constant = replace(captions, hypotheses=(caption,) * len(captions))
    scores = corpus_scores(measure(constant, tokenizer=tokenizer, meteor=meteor))
    return ConstantBaseline(caption=caption, scores=scores)

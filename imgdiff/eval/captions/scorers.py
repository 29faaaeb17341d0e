"""What BLEU, ROUGE-L and CIDEr-D count, item by item, on captions that are tokenised.

BLEU and CIDEr-D come from pycocoevalcap's own scorers, driven without their wrappers. ROUGE-L is
pycocoevalcap's formula on a longest common subsequence that is found in time linear in the longer
text: its own takes hours for two texts of tens of thousands of words. The numbers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from imgdiff.core.errors import BackendError, DataError

MAX_ORDER = 4  # n-grams of 1 to 4 tokens
ROUGE_BETA = 1.2  # weight of recall
_BLEU_COLUMNS = 2 + 2 * MAX_ORDER

Texts = Sequence[str]
References = Sequence[Sequence[str]]


def package_folder() -> Path:
    """The folder of the installed pycocoevalcap, which holds its jars. Nothing writes into it."""
    try:
        import pycocoevalcap
    except ImportError as error:
        raise BackendError(
            "pycocoevalcap is not installed, and with it the scorers. `pip install pycocoevalcap`."
        ) from error
    return Path(next(iter(pycocoevalcap.__path__)))  # a namespace package has no __file__


def bleu_counts(hypotheses: Texts, references: References) -> Int[np.ndarray, "N 10"]:
    """By item: hypothesis length, closest reference length, n-grams guessed [4] and correct [4].

    Of two reference lengths that are equally close the shorter counts.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=MAX_ORDER)
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, list(texts))
    return np.array(
        [
            [
                item["testlen"],
                min((abs(length - item["testlen"]), length) for length in item["reflen"])[1],
                *item["guess"],
                *item["correct"],
            ]
            for item in scorer.ctest
        ],
        dtype=np.int64,
    ).reshape(-1, _BLEU_COLUMNS)


def bleu_scores(
    counts_N10: Int[np.ndarray, "N 10"],
) -> tuple[list[float], Float[np.ndarray, "4 N"]]:
    """BLEU-1..4 of the whole set and of each item, computed by pycocoevalcap from its counts."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=MAX_ORDER)
    scorer.ctest = [_cooked(row) for row in counts_N10.tolist()]
    scorer.crefs = [item["reflen"] for item in scorer.ctest]
    corpus, items = scorer.compute_score(option="closest", verbose=0)
    return [float(score) for score in corpus], np.array(items, dtype=np.float64)


def _cooked(row: Sequence[int]) -> Mapping[str, Any]:
    """A row of counts in the form in which BleuScorer keeps an item."""
    return {
        "testlen": row[0],
        "reflen": [row[1]],
        "guess": row[2 : 2 + MAX_ORDER],
        "correct": row[2 + MAX_ORDER :],
    }


def cider_d_items(hypotheses: Texts, references: References) -> Float[np.ndarray, " N"]:
    """CIDEr-D of each item (0 to 10), with the IDF of the references of the whole set.

    One item alone scores 0: its IDF is log(1/1). DataError where no reference holds a token.
    """
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    if not any(text.split() for texts in references for text in texts):
        raise DataError(
            "no reference holds a single token, so there is nothing to score against. "
            "Check the annotations."
        )
    scorer = CiderScorer(n=MAX_ORDER, sigma=6.0)
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        scorer += (hypothesis, list(texts))
    return np.asarray(scorer.compute_score()[1], dtype=np.float64)


def rouge_l_items(hypotheses: Texts, references: References) -> Float[np.ndarray, " N"]:
    """ROUGE-L of each item: F (beta 1.2) of the best precision and the best recall, which may come
    from two references. An empty caption against an empty reference scores 1, as pycocoevalcap has
    it.
    """
    pairs = zip(hypotheses, references, strict=True)
    return np.array([_rouge_l(hypothesis, texts) for hypothesis, texts in pairs], dtype=np.float64)


def _rouge_l(hypothesis: str, references: Texts) -> float:
    tokens = hypothesis.split(" ")  # not split(): an empty caption is one empty token
    precision, recall = 0.0, 0.0
    for reference in references:
        others = reference.split(" ")
        common = lcs_length(tokens, others)
        precision = max(precision, common / float(len(tokens)))
        recall = max(recall, common / float(len(others)))
    if precision == 0 or recall == 0:
        return 0.0
    weight = ROUGE_BETA**2
    return ((1 + weight) * precision * recall) / float(recall + weight * precision)


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, one row of the table per machine operation.

    Bit i of `row` is 0 where the row of the classic table grows at token i (Crochemore et al. 2001,
    "A fast and practical bit-vector algorithm for the longest common subsequence problem").
    """
    places: dict[str, int] = {}
    for index, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << index
    every = (1 << len(left)) - 1
    row = every
    for token in right:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(left) - row.bit_count()

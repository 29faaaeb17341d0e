"""METEOR 1.5 through the jar of pycocoevalcap, in one process that stays alive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float
from typing_extensions import Self

from imgdiff.core.errors import BackendError
from imgdiff.eval.captions.java import JAVA_REMEDY, JVM_OPTIONS, LineProcess
from imgdiff.eval.captions.scorers import package_folder
from imgdiff.eval.captions.texts import one_line

JAR = "meteor-1.5.jar"
COUNTS = 23  # numbers per item
_OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
_TIMEOUT_S = 600.0  # of one answer; the first waits for 60 MB of paraphrases to be read
_SEPARATOR = "|||"
_REMEDY = f"Shorten a caption of thousands of words (Java gets 1 GB of heap). {JAVA_REMEDY}"

# Parameters of METEOR 1.5 for English, in the jar's Constants: F-mean, fragmentation, weights of
# content words against function words, and of the matchers exact, stem, synonym, paraphrase.
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHER_WEIGHTS = (1.0, 0.6, 0.8, 0.6)
# Columns of the 23 numbers. Matches stand as content of hypothesis and reference, then function
# words of both, for one matcher after the other.
_LENGTHS, _FUNCTION_WORDS, _MATCHES = slice(0, 2), slice(2, 4), slice(4, 20)
_CHUNKS, _MATCHED_WORDS = 20, slice(21, 23)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MeteorStatistics:
    """What METEOR counted and scored. `items` and `corpus` are the figures that the jar printed."""

    counts: Float[np.ndarray, "N 23"]
    items: Float[np.ndarray, " N"]
    corpus: float


class Meteor:
    """METEOR as a context manager. Its start takes some seconds, which go on in the background."""

    def __init__(self, java: Path, *, timeout_s: float = _TIMEOUT_S) -> None:
        jar = package_folder() / "meteor" / JAR
        self._process = LineProcess(
            [str(java), *JVM_OPTIONS, "-jar", str(jar), *_OPTIONS],
            what="METEOR",
            remedy=_REMEDY,
            timeout_s=timeout_s,
        )

    def __enter__(self) -> Self:
        self._process.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.__exit__(kind, error, trace)

    @property
    def pid(self) -> int:
        """Process id of the Java."""
        return self._process.pid

    def score(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
    ) -> MeteorStatistics:
        """Counts and scores of tokenised captions, at least one. BackendError where Java fails."""
        if not hypotheses:
            raise ValueError("METEOR of no captions")
        pairs = zip(hypotheses, references, strict=True)
        lines = self._process.ask_each([question(*pair) for pair in pairs])
        counts = np.array([_numbers(line, COUNTS) for line in lines], dtype=np.float64)
        answers = self._process.ask(" ||| ".join(["EVAL", *lines]), answers=len(lines) + 1)
        scores = [_numbers(answer, 1)[0] for answer in answers]
        return MeteorStatistics(
            counts=counts,
            items=np.array(scores[:-1], dtype=np.float64),
            corpus=scores[-1],
        )


def question(hypothesis: str, references: Sequence[str]) -> str:
    """The SCORE line of one item. The separator inside a text is removed, as pycocoevalcap does."""
    texts = [_plain(text) for text in (*references, hypothesis)]
    return " ||| ".join(["SCORE", *texts])


def _plain(text: str) -> str:
    flat = one_line(text)
    return flat.replace(_SEPARATOR, "").replace("  ", " ") if _SEPARATOR in flat else flat


def _numbers(line: str, count: int) -> list[float]:
    """The numbers of an answer, checked."""
    try:
        numbers = [float(word) for word in line.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise BackendError(
            f"METEOR answered {line[:120]!r} where {count} numbers were due. Is {JAR} of "
            "pycocoevalcap damaged, or `java` no Java? Reinstall pycocoevalcap. " + JAVA_REMEDY
        )
    return numbers


def summable(counts_N23: Float[np.ndarray, "N 23"]) -> Float[np.ndarray, "N 23"]:
    """The counts in the form in which METEOR adds them up over items.

    An item whose words all match in one chunk adds no chunk: alone it has no fragmentation
    penalty, and METEOR spares the sum one too (MeteorStats.addStats). Sums of the printed counts
    would therefore give a corpus score that is slightly too low.
    """
    lengths_N2 = counts_N23[:, _LENGTHS]
    matched_N2 = counts_N23[:, _MATCHES].reshape(-1, 8, 2).sum(axis=1)
    perfect_N = (matched_N2 == lengths_N2).all(axis=1) & (counts_N23[:, _CHUNKS] == 1)
    added_N23: Float[np.ndarray, "N 23"] = counts_N23.copy()
    added_N23[perfect_N, _CHUNKS] = 0
    return added_N23


def score_sums(sums_R23: Float[np.ndarray, "R 23"]) -> Float[np.ndarray, " R"]:
    """METEOR of summed counts (`summable`): what the jar computes, here in numpy."""
    matches_R422 = sums_R23[:, _MATCHES].reshape(-1, len(MATCHER_WEIGHTS), 2, 2)
    by_kind_R22 = np.einsum("rmks,m->rks", matches_R422, np.array(MATCHER_WEIGHTS))
    kinds_2 = np.array([DELTA, 1.0 - DELTA])  # content words, function words
    weighted_R2 = np.einsum("rks,k->rs", by_kind_R22, kinds_2)
    function_R2 = sums_R23[:, _FUNCTION_WORDS]
    lengths_R2 = DELTA * (sums_R23[:, _LENGTHS] - function_R2) + (1.0 - DELTA) * function_R2
    with np.errstate(divide="ignore", invalid="ignore"):  # 0/0: nothing matched, score 0
        precision_R, recall_R = (weighted_R2 / lengths_R2).T
        mean_R = 1.0 / ((1.0 - ALPHA) / precision_R + ALPHA / recall_R)
        fragmentation_R = sums_R23[:, _CHUNKS] / (sums_R23[:, _MATCHED_WORDS].sum(axis=1) / 2)
        scores_R = mean_R * (1.0 - GAMMA * fragmentation_R**BETA)
    return np.where(np.isnan(scores_R), 0.0, np.maximum(scores_R, 0.0))

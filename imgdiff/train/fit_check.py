"""Which samples are longer than the model takes, and which of those have nothing left to learn.

A longer sample is cut at `max_tokens` after its images are expanded, as in LLaVA. It is left out,
or ends the run (by policy), where all its supervised tokens fall away, or where a cut would go
through an image.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64

from imgdiff.backends.chat_templates import IGNORED, IMAGE_TOKEN, Exchange
from imgdiff.core.console import meter
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.files import atomic_path
from imgdiff.core.identity import fingerprint
from imgdiff.train.lengths import (
    LENGTHS_VERSION,
    RowEncoder,
    count_tokens,
    most_tokens,
)
from imgdiff.train.samples import Sample
from imgdiff.train.source_config import OnDefect
from imgdiff.train.table import Table

if TYPE_CHECKING:  # it imports torch
    from imgdiff.backends.readers import Reader

CUT, NO_ANSWER, IMAGE_CUT = 0, 1, 2
SEAM_TOKENS = 8  # more than the joint of a question and its answer can add or take away
REASONS = {NO_ANSWER: "no answer is left", IMAGE_CUT: "an image would be cut"}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Rows to leave out (ascending), and how many others are cut short at least."""

    excluded: Int64[np.ndarray, " X"]
    truncated: int
    notices: tuple[str, ...]


def check_fit(
    table: Table,
    reader: Reader,
    max_tokens: int,
    policy: OnDefect,
    threads: int = 2,
) -> Fit:
    """The verdict on all rows, from the table's folder if it was found before.

    Only rows that upper bounds cannot clear are tokenised. Policy `fail` raises DataError for the
    first row with nothing left.
    """
    if max_tokens < 1:
        raise ConfigError(f"max_tokens={max_tokens}: must be at least 1")
    key = fingerprint(LENGTHS_VERSION, table.identity, reader.identity, max_tokens)
    path = table.folder / f"fit-{key}.npz"
    if not path.exists():
        rows, perhaps = _longer(table, reader, max_tokens, threads)
        verdicts = _verdicts(table, reader, max_tokens, rows, threads)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, rows=rows, verdicts=verdicts, perhaps=np.int64(perhaps))
    with np.load(path) as stored:
        rows, verdicts, perhaps = stored["rows"], stored["verdicts"], int(stored["perhaps"])
    bad = verdicts != CUT
    if bad.any() and policy is OnDefect.fail:
        first = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{table.place(int(rows[first]))}: longer than max_tokens={max_tokens}, and "
            f"{REASONS[int(verdicts[first])]} when it is cut there. Raise max_tokens, shorten the "
            "row, or set defects=skip to leave out and count such rows."
        )
    counted = Counter(verdicts.tolist())
    notices = []
    if counted[CUT] or perhaps:
        number = f"{counted[CUT]} to {counted[CUT] + perhaps}" if perhaps else f"{counted[CUT]}"
        notices.append(f"{number} samples are cut at {max_tokens} tokens")
    notices += [
        f"{counted[code]} samples left out: cut at {max_tokens} tokens, {reason}"
        for code, reason in REASONS.items()
        if counted[code]
    ]
    return Fit(excluded=rows[bad], truncated=counted[CUT], notices=tuple(notices))


def _longer(
    table: Table, reader: Reader, max_tokens: int, threads: int
) -> tuple[Int64[np.ndarray, " L"], int]:
    """Rows of more than `max_tokens` tokens, and how many more there may be.

    The latter are not looked at: their first answer surely begins in time.
    """
    most = most_tokens(table, reader)
    # A reader may refuse a row of several pictures (LLaVA: two in one message): try them.
    several = table.column("pictures") > 1
    early = (most.opening_N >= 0) & (most.opening_N + SEAM_TOKENS < max_tokens) & ~several
    perhaps = most.whole_N > max_tokens
    unsure = np.flatnonzero((perhaps & ~early) | several)
    longer = unsure[count_tokens(table, reader, unsure, threads) > max_tokens]
    return longer, int((perhaps & early).sum())


def _verdicts(
    table: Table, reader: Reader, max_tokens: int, rows: Int64[np.ndarray, " L"], threads: int
) -> Int64[np.ndarray, " L"]:
    encoder = RowEncoder(table, reader)
    sure = _begin_early(table, reader, max_tokens, rows, threads)
    image = image_id(reader)
    verdicts = np.full(len(rows), CUT)
    with meter(len(rows), "looking at long samples") as bar:
        for number, row in enumerate(rows.tolist()):
            bar.advance()
            if sure[number]:
                continue
            encoded = encoder(row)
            if image in encoded.input_ids[max_tokens:]:
                verdicts[number] = IMAGE_CUT
            elif all(label == IGNORED for label in encoded.labels[:max_tokens]):
                verdicts[number] = NO_ANSWER
    return verdicts


def _begin_early(
    table: Table, reader: Reader, max_tokens: int, rows: Int64[np.ndarray, " L"], threads: int
) -> Bool[np.ndarray, " L"]:
    """Whether it is sure that all images and the start of the first answer stand before the cut.

    Told by counting the first question alone, which is quick.
    """
    sure = np.array([_shows_all(table.sample(row)) for row in rows.tolist()], dtype=bool)
    tokens = count_tokens(table, reader, rows[sure], threads, opening=True)
    sure[sure] = tokens + SEAM_TOKENS < max_tokens
    return sure


def _shows_all(sample: Sample) -> bool:
    question, answer = sample.turns[0]
    shown = question.count(IMAGE_TOKEN) == len(sample.pictures)
    return shown and answer is not None and bool(answer.strip())


def image_id(reader: Reader) -> int:
    """The id that stands for a piece of image: the one of which a larger image has more."""
    turns = [Exchange(f"{IMAGE_TOKEN}\nq", "a")]
    small, large = (Counter(reader.encode(turns, (count,)).input_ids) for count in (1, 2))
    return next(iter(large - small))

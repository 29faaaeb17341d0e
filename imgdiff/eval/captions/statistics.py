"""What the metrics counted, item by item: enough to score, resample and compare without Java."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from imgdiff.core.errors import DataError
from imgdiff.core.files import atomic_path
from imgdiff.core.identity import fingerprint
from imgdiff.eval.captions.meteor import Meteor, MeteorStatistics
from imgdiff.eval.captions.scorers import bleu_counts, bleu_scores, cider_d_items, rouge_l_items
from imgdiff.eval.captions.texts import CaptionSet

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider_d")
ITEM_METRICS = ("bleu_4", "meteor", "rouge_l", "cider_d")
_FORMAT = 1
_DAMAGED = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CaptionStatistics:
    """Sufficient statistics of N items.

    `bleu` holds per item the hypothesis length, the closest reference length, the n-grams guessed
    (1 to 4) and those correct (1 to 4). `rouge_l` and `cider_d` are scores of items (0-1 and 0-10);
    the IDF of CIDEr-D is that of this set. `meteor` is None without Java. `reference_set` changes
    when any tokenised reference does; `tokenizer` names what made the tokens.
    """

    ids: tuple[str, ...]
    tokenizer: str
    reference_set: str
    bleu: Int[np.ndarray, "N 10"]
    rouge_l: Float[np.ndarray, " N"]
    cider_d: Float[np.ndarray, " N"]
    meteor: MeteorStatistics | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def length_ratio(self) -> float | None:
        """Tokens of the hypotheses by tokens of the closest references; None: those have none."""
        tested, referred = self.bleu[:, :2].sum(axis=0).tolist()
        return tested / referred if referred else None


def measure(
    captions: CaptionSet, *, tokenizer: str, meteor: Meteor | None = None
) -> CaptionStatistics:
    """Statistics of tokenised captions. Without `meteor` there is no METEOR."""
    texts, references = captions.hypotheses, captions.references
    return CaptionStatistics(
        ids=captions.ids,
        tokenizer=tokenizer,
        reference_set=reference_set(captions),
        bleu=bleu_counts(texts, references),
        rouge_l=rouge_l_items(texts, references),
        cider_d=cider_d_items(texts, references),
        meteor=None if meteor is None else meteor.score(texts, references),
    )


def reference_set(captions: CaptionSet) -> str:
    """A fingerprint of ids and references that does not depend on the order of the items."""
    return fingerprint(sorted(zip(captions.ids, captions.references, strict=True)))


def corpus_scores(statistics: CaptionStatistics) -> dict[str, float | None]:
    """All metrics of the set as pycocoevalcap gives them, unrounded; CIDEr-D is on its 0-10 scale.

    METEOR is the figure that the jar printed, None without Java. BLEU and METEOR come from sums
    over the set, ROUGE-L and CIDEr-D are means over items.
    """
    bleu, _ = bleu_scores(statistics.bleu)
    meteor = statistics.meteor
    return {
        **{f"bleu_{order}": score for order, score in enumerate(bleu, 1)},
        "meteor": None if meteor is None else meteor.corpus,
        "rouge_l": float(np.mean(statistics.rouge_l)),
        "cider_d": float(np.mean(statistics.cider_d)),
    }


def item_scores(statistics: CaptionStatistics) -> dict[str, Float[np.ndarray, " N"]]:
    """Scores of each item alone, as pycocoevalcap lists them; no `meteor` without Java.

    BLEU-4 of one item is nearly 0 where no run of four tokens is right.
    """
    _, by_order_4N = bleu_scores(statistics.bleu)
    meteor = {} if statistics.meteor is None else {"meteor": statistics.meteor.items}
    return {
        "bleu_4": by_order_4N[-1],
        **meteor,
        "rouge_l": statistics.rouge_l,
        "cider_d": statistics.cider_d,
    }


def save_statistics(path: Path, statistics: CaptionStatistics) -> None:
    """Write one `.npz` file atomically."""
    meteor = statistics.meteor
    header = {
        "format": _FORMAT,
        "ids": statistics.ids,
        "tokenizer": statistics.tokenizer,
        "reference_set": statistics.reference_set,
        "meteor_corpus": None if meteor is None else meteor.corpus,
    }
    arrays: dict[str, Any] = {
        "header": np.frombuffer(json.dumps(header).encode("ascii"), dtype=np.uint8),
        "bleu": statistics.bleu,
        "rouge_l": statistics.rouge_l,
        "cider_d": statistics.cider_d,
    }
    if meteor is not None:
        arrays |= {"meteor_counts": meteor.counts, "meteor_items": meteor.items}
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)


def load_statistics(path: Path) -> CaptionStatistics:
    """Read what `save_statistics` wrote; DataError where it is missing or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {Path(name).stem: _array(archive.read(name)) for name in archive.namelist()}
        return _statistics(arrays)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Score the captions first.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, *_DAMAGED) as error:
        raise DataError(
            f"{path}: not a file of caption statistics, or a damaged one ({error}). "
            "Score the captions again."
        ) from None


def _array(content: bytes) -> Any:
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _statistics(arrays: Mapping[str, Any]) -> CaptionStatistics:
    header = json.loads(arrays["header"].tobytes())
    if header["format"] != _FORMAT:
        raise ValueError(f"format {header['format']}, this version reads {_FORMAT}")
    meteor = None
    if header["meteor_corpus"] is not None:
        meteor = MeteorStatistics(
            counts=arrays["meteor_counts"],
            items=arrays["meteor_items"],
            corpus=header["meteor_corpus"],
        )
    found = CaptionStatistics(
        ids=tuple(header["ids"]),
        tokenizer=header["tokenizer"],
        reference_set=header["reference_set"],
        bleu=arrays["bleu"],
        rouge_l=arrays["rouge_l"],
        cider_d=arrays["cider_d"],
        meteor=meteor,
    )
    sizes = {len(found.ids), *(len(a) for a in (found.bleu, found.rouge_l, found.cider_d))}
    sizes |= set() if meteor is None else {len(meteor.counts), len(meteor.items)}
    if len(sizes) > 1:
        raise ValueError(f"arrays of {sorted(sizes)} items")
    return found

"""A captioning benchmark: from image pairs to captions to scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import check_images
from imgdiff.eval.asking import Asker, Question
from imgdiff.eval.captions.scoring import CaptionScores, score_captions
from imgdiff.eval.captions.statistics import ITEM_METRICS, item_scores
from imgdiff.eval.captions.texts import CaptionSet
from imgdiff.eval.config import CaptionConfig, EvalConfig
from imgdiff.eval.data import CaptionData
from imgdiff.eval.records import CaptionAnswer, CaptionItem, LeftOut

NO_PREDICTION = "no prediction for the item"


@dataclass(frozen=True, kw_only=True, slots=True)
class Captioned:
    """A scored set: one answer per item with its own scores, and the scores of all."""

    answers: tuple[CaptionAnswer, ...]
    scored: CaptionScores
    left_out: tuple[LeftOut, ...]


def ask_captions(config: EvalConfig, data: CaptionData, asker: Asker) -> dict[str, str]:
    """The model's caption by subject; a pair of images that several items share is asked once."""
    benchmark = config.benchmark
    assert isinstance(benchmark, CaptionConfig)
    subjects = {item.subject: item for item in data.content.items}
    questions = [
        Question(images=item.images, prompt=benchmark.prompt, max_new_tokens=config.max_new_tokens)
        for item in subjects.values()
    ]
    check_images((path for q in questions for path in q.images), data.images_remedy)
    return dict(zip(subjects, asker.answers(questions, "captions"), strict=True))


def score(config: EvalConfig, data: CaptionData, texts: Mapping[str, str]) -> Captioned:
    """Scores of the items that `texts` (by subject) holds."""
    benchmark = config.benchmark
    assert isinstance(benchmark, CaptionConfig)
    items = [item for item in data.content.items if item.subject in texts]
    lacking = tuple(item.id for item in data.content.items if item.subject not in texts)
    if not items:
        raise DataError(f"predictions={config.predictions}: no item of the benchmark is in it")
    captions = CaptionSet(
        ids=tuple(item.id for item in items),
        hypotheses=tuple(texts[item.subject] for item in items),
        references=tuple(item.references for item in items),
    )
    scored = score_captions(captions, resamples=benchmark.resamples, seed=config.seed)
    columns = item_scores(scored.statistics)
    left_out = data.content.left_out
    if lacking:
        left_out = (*left_out, LeftOut(reason=NO_PREDICTION, ids=lacking))
    return Captioned(
        answers=tuple(
            _answer(config, item, texts[item.subject], {m: float(columns[m][n]) for m in columns})
            for n, item in enumerate(items)
        ),
        scored=scored,
        left_out=left_out,
    )


def _answer(
    config: EvalConfig, item: CaptionItem, text: str, scores: Mapping[str, float]
) -> CaptionAnswer:
    there = all(path.is_file() for path in item.images)
    return CaptionAnswer(
        id=item.id,
        kind=item.kind,
        images=tuple(map(str, item.images)) if there else (),
        prompt="" if config.predictions else config.benchmark.prompt,
        answer=text,
        references=item.references,
        scores=scores,
    )


def caption_scores(captioned: Captioned) -> dict[str, Any]:
    """The part of scores.json that only such a benchmark has, on pycocoevalcap's scales."""
    scored, found = captioned.scored, captioned.scored.diagnostics
    return {
        "n": len(captioned.answers),
        "scores": scored.scores,
        "intervals": {name: asdict(interval) for name, interval in scored.intervals.items()},
        "unavailable": scored.unavailable,
        "tokenizer": scored.tokenizer,
        "diagnostics": {
            "distinct_captions": found.distinct,
            "empty_captions": found.empty,
            "most_frequent": [
                {"caption": item.text, "count": item.count} for item in found.most_frequent
            ],
            "mean_length": found.mean_length,
            "mean_reference_length": found.mean_reference_length,
            "length_ratio": found.length_ratio,
            "constant_caption": asdict(found.constant),
        },
        "by_kind": _by_kind(captioned.answers),
    }


def _by_kind(answers: Sequence[CaptionAnswer]) -> dict[str, dict[str, float]]:
    """Means of the items' own scores by kind of difference, where the set names kinds."""
    grouped: dict[str, list[CaptionAnswer]] = {}
    for answer in answers:
        if answer.kind:
            grouped.setdefault(answer.kind, []).append(answer)
    return {
        kind: {
            "n": len(members),
            **{
                f"mean_{name}": float(np.mean([member.scores[name] for member in members]))
                for name in ITEM_METRICS
                if name in members[0].scores
            },
        }
        for kind, members in sorted(grouped.items())
    }

"""The items of one or two runs, joined by id, as the JSON that the page renders.

Texts are untrusted: they reach the page inside JSON without any character that ends a script
element or a line of JavaScript, and the page sets them as text, never as HTML.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from imgdiff.core.console import printable
from imgdiff.eval.records import Answer, CaptionAnswer, ChoiceAnswer, Run
from imgdiff.eval.report.board import is_choice, metric_of
from imgdiff.eval.report.pictures import Album

ITEM_SCORES = ("cider_d", "bleu_4", "meteor", "rouge_l")  # the first is chosen at the start
PUBLISHED = (("pair", "pair right"), ("share", "questions right"))
CORRECTED = (
    ("pair_corrected", "pair right, corrected key"),
    ("share_corrected", "questions right, corrected key"),
)
_UNSAFE = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_Row = TypeVar("_Row", CaptionAnswer, ChoiceAnswer)


@dataclass(kw_only=True)
class Items:
    """What the page's JSON holds but for the pictures, and where the runs do not match."""

    kind: str  # "choice" or "caption"
    metrics: list[dict[str, str]]
    items: list[dict[str, Any]]
    album: Album
    notes: tuple[str, ...] = ()
    prompts: _Prompts = field(default_factory=lambda: _Prompts())


class _Prompts:
    """Prompts of the page, each once: a run has few, or one per item."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int | None:
        return self.numbers.setdefault(text, len(self.numbers)) if text else None


def items_of(runs: Sequence[Run]) -> Items:
    """All items that any run answered, in the order of the first run, then of the second."""
    album, prompts = Album(), _Prompts()
    if any(map(is_choice, runs)):
        joined = _joined(runs, ChoiceAnswer)
        kind, metrics = "choice", _choice_metrics(joined)
        items = _pairs(joined, metrics, album, prompts)
    else:
        captions = _joined(runs, CaptionAnswer)
        kind, metrics = "caption", _caption_metrics(captions)
        items = [_caption_item(row, metrics, album, prompts) for row in captions]
    return Items(
        kind=kind, metrics=metrics, items=items, album=album, prompts=prompts, notes=_notes(runs)
    )


def _joined(runs: Sequence[Run], kind: type[_Row]) -> list[list[_Row | None]]:
    """For every id the answers of the runs; None where a run has none."""
    tables = [
        {answer.id: answer for answer in run.answers if isinstance(answer, kind)} for run in runs
    ]
    ids = dict.fromkeys(name for table in tables for name in table)
    return [[table.get(name) for table in tables] for name in ids]


def _first(row: Sequence[_Row | None]) -> _Row:
    """The answer that says what was asked."""
    return next(answer for answer in row if answer is not None)


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    """Items that only one of two runs answered, and references or questions that differ."""
    if len(runs) == 1:
        return ()
    one, two = ({answer.id: answer for answer in run.answers} for run in runs)
    notes = []
    for letter, only in (("A", one.keys() - two.keys()), ("B", two.keys() - one.keys())):
        if only:
            notes.append(f"{len(only):,} items are answered by {letter} alone.")
    differ = sum(_asked(one[name]) != _asked(two[name]) for name in one.keys() & two.keys())
    if differ:
        notes.append(
            f"{differ:,} items have other references or questions in B than in A; those of A are "
            "shown. Their scores cannot be compared."
        )
    return tuple(notes)


def _asked(answer: Answer) -> object:
    if isinstance(answer, ChoiceAnswer):
        return (answer.question, dict(answer.options), answer.correct)
    return answer.references


def _caption_metrics(rows: Sequence[Sequence[CaptionAnswer | None]]) -> list[dict[str, str]]:
    held = {name for row in rows for answer in row if answer for name in answer.scores}
    order = [name for name in ITEM_SCORES if name in held]
    order += sorted(held - set(order))
    return [{"name": name, "title": metric_of(name).title} for name in order]


def _caption_item(
    row: Sequence[CaptionAnswer | None],
    metrics: Sequence[Mapping[str, str]],
    album: Album,
    prompts: _Prompts,
) -> dict[str, Any]:
    first = _first(row)
    images = next((answer.images for answer in row if answer and answer.images), ())
    return {
        "id": printable(first.id),
        "kind": printable(first.kind),
        "images": [album.number(path) for path in images],
        "references": [printable(text) for text in first.references],
        "answers": [
            answer
            and {
                "text": printable(answer.answer),
                "prompt": prompts.number(answer.prompt),
                "unparsed": not answer.answer.strip(),
            }
            for answer in row
        ],
        "scores": [
            [
                _finite(answer.scores.get(metric["name"]), metric_of(metric["name"]).factor)
                if answer
                else None
                for metric in metrics
            ]
            for answer in row
        ],
    }


def _finite(value: float | None, factor: float) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value * factor, 4)


def _choice_metrics(rows: Sequence[Sequence[ChoiceAnswer | None]]) -> list[dict[str, str]]:
    """The corrected key has metrics of its own where it differs anywhere."""
    differs = any(answer.correct != answer.corrected for row in rows for answer in row if answer)
    return [
        {"name": name, "title": title}
        for name, title in (*PUBLISHED, *(CORRECTED if differs else ()))
    ]


def _pairs(
    rows: Sequence[Sequence[ChoiceAnswer | None]],
    metrics: Sequence[Mapping[str, str]],
    album: Album,
    prompts: _Prompts,
) -> list[dict[str, Any]]:
    """One item per pair, its questions in the order of the answers."""
    grouped: dict[str, list[Sequence[ChoiceAnswer | None]]] = {}
    for row in rows:
        grouped.setdefault(_first(row).pair, []).append(row)
    names = [metric["name"] for metric in metrics]
    return [
        {
            "id": printable(pair),
            "kind": printable(_first(held[0]).kind),
            "parts": [_question(row, album, prompts) for row in held],
            "scores": [
                _pair_scores([row[number] for row in held], names) for number in range(len(held[0]))
            ],
        }
        for pair, held in grouped.items()
    ]


def _pair_scores(
    answers: Sequence[ChoiceAnswer | None], names: Sequence[str]
) -> list[float | None]:
    """0 to 1 by metric; None where the run left a question of the pair unanswered."""
    held = [answer for answer in answers if answer is not None]
    if len(held) < len(answers):
        return [None] * len(names)
    published = [answer.is_right for answer in held]
    corrected = [answer.chosen == answer.corrected for answer in held]
    values = {
        "pair": float(all(published)),
        "share": sum(published) / len(held),
        "pair_corrected": float(all(corrected)),
        "share_corrected": sum(corrected) / len(held),
    }
    return [values[name] for name in names]


def _question(
    row: Sequence[ChoiceAnswer | None], album: Album, prompts: _Prompts
) -> dict[str, Any]:
    first = _first(row)
    images = next((answer.images for answer in row if answer and answer.images), ())
    return {
        "id": printable(first.id),
        "question": printable(first.question),
        "options": [[printable(key), printable(text)] for key, text in first.options.items()],
        "correct": first.correct,
        "corrected": first.corrected,
        "images": [album.number(path) for path in images],
        "answers": [
            answer
            and {
                "text": printable(answer.answer),
                "letter": answer.chosen,
                "judge": answer.judged_by,
                "prompt": prompts.number(answer.prompt),
                "unparsed": answer.is_unparsed,
            }
            for answer in row
        ],
    }


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: none of its characters can end it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_UNSAFE)

"""A benchmark in MMVP's format: from questions to answers to scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgdiff.core.errors import DataError
from imgdiff.eval.annotations import check_images
from imgdiff.eval.answers import choice_letter
from imgdiff.eval.asking import AnswerStore, Asker, Question, StoredChat
from imgdiff.eval.config import FREE_TOKENS, EvalConfig, MmvpConfig
from imgdiff.eval.data import ChoiceData
from imgdiff.eval.judge import Judge
from imgdiff.eval.mmvp import REMEDY, prompt_of
from imgdiff.eval.records import ChoiceAnswer, ChoiceItem, LeftOut
from imgdiff.eval.scores import Answered, Share, pair_scores, scores_by_kind

COCOT_PROMPT = "Please identify the similarities and differences between these two images"
COCOT_CONTEXT = "Context: {text}\n{question}"
NO_PREDICTION = "no prediction for a question of the pair"


def ask_choices(
    config: EvalConfig, data: ChoiceData, asker: Asker
) -> tuple[dict[str, str], dict[str, str]]:
    """By item id: the model's answer, and the words that it was asked with."""
    benchmark = config.benchmark
    assert isinstance(benchmark, MmvpConfig)
    items = data.content.items
    questions = [_question(config, item, prompt_of(item, benchmark.prompt)) for item in items]
    check_images([item.image for item in items], REMEDY)
    if benchmark.cocot:
        context = _similarities_and_differences(items, asker)
        questions = [
            _question(
                config, item, COCOT_CONTEXT.format(text=context[item.pair], question=q.prompt)
            )
            for item, q in zip(items, questions, strict=True)
        ]
    answers = asker.answers(questions)
    ids = [item.id for item in items]
    prompts = [question.prompt for question in questions]
    return dict(zip(ids, answers, strict=True)), dict(zip(ids, prompts, strict=True))


def _question(config: EvalConfig, item: ChoiceItem, prompt: str) -> Question:
    return Question(images=(item.image,), prompt=prompt, max_new_tokens=config.max_new_tokens)


def _similarities_and_differences(items: Sequence[ChoiceItem], asker: Asker) -> dict[str, str]:
    """CoCoT's first step by pair: the pair side by side, in the order of the file."""
    pairs: dict[str, tuple[Path, ...]] = {}
    for item in items:
        pairs[item.pair] = (*pairs.get(item.pair, ()), item.image)
    questions = [
        Question(images=images, prompt=COCOT_PROMPT, max_new_tokens=FREE_TOKENS)
        for images in pairs.values()
    ]
    return dict(zip(pairs, asker.answers(questions, "pairs"), strict=True))


def choice_answers(
    config: EvalConfig, data: ChoiceData, texts: Mapping[str, str], prompts: Mapping[str, str]
) -> tuple[list[ChoiceAnswer], list[LeftOut]]:
    """The answers read by the parser; pairs that lack an answer are left out as a whole.

    `prompts` is empty where another system answered.
    """
    lacking = {item.pair for item in data.content.items if item.id not in texts}
    answers = [
        ChoiceAnswer(
            id=item.id,
            pair=item.pair,
            kind=item.kind,
            question=item.question,
            options=item.options,
            images=(str(item.image),) if item.image.is_file() else (),
            prompt=prompts.get(item.id, ""),
            answer=texts[item.id],
            chosen=choice_letter(texts[item.id], item.options),
            correct=item.correct,
            corrected=item.corrected,
        )
        for item in data.content.items
        if item.pair not in lacking
    ]
    ids = tuple(item.id for item in data.content.items if item.pair in lacking)
    if not answers:
        raise DataError(
            f"predictions={config.predictions}: no pair has both of its answers; a pair counts "
            "when both are right. Add the missing ones."
        )
    return answers, [LeftOut(reason=NO_PREDICTION, ids=ids)] if ids else []


def judge_answers(
    config: EvalConfig, answers: Sequence[ChoiceAnswer], store_folder: Path
) -> tuple[list[ChoiceAnswer], dict[str, int]]:
    """The answers as the judge reads them, and how many met which outcome; nothing without one."""
    asked = config.judge.asked()
    if asked is None:
        return list(answers), {}
    store = AnswerStore(store_folder, asked.identity())
    asker = Asker(config=asked, store=store, processes=config.asking_processes)
    judge = Judge(StoredChat(asker=asker), config.judge.style, config.judge.which)
    judged = judge.read(answers)
    return list(judged.answers), judged.counts


def choice_scores(data: ChoiceData, answers: Sequence[ChoiceAnswer]) -> dict[str, Any]:
    """The part of scores.json that only such a benchmark has; scores are fractions in [0, 1]."""
    published = [_answered(answer, answer.correct) for answer in answers]
    kinds = {answer.pair: answer.kind for answer in answers if answer.kind}
    overall = pair_scores(published)
    return {
        "n": len(answers),
        "pairs": overall["pair_accuracy"].total,
        "scores": _values(overall),
        "intervals": _intervals(overall),
        **({"corrected": _corrected(answers)} if data.content.is_published else {}),
        "by_kind": {
            kind: {"pairs": shares["pair_accuracy"].total, **_values(shares)}
            for kind, shares in scores_by_kind(published, kinds).items()
        },
        "chosen": dict(sorted(Counter(map(_read_as, answers)).items())),
    }


def _read_as(answer: ChoiceAnswer) -> str:
    return answer.chosen or ("unparsed" if answer.is_unparsed else "held wrong")


def _corrected(answers: Sequence[ChoiceAnswer]) -> dict[str, Any]:
    """The scores under the corrected key, beside the headline."""
    shares = pair_scores([_answered(answer, answer.corrected) for answer in answers])
    return {
        "scores": _values(shares),
        "intervals": _intervals(shares),
        "changed_questions": [a.id for a in answers if a.corrected != a.correct],
    }


def _answered(answer: ChoiceAnswer, correct: str) -> Answered:
    return Answered(
        pair=answer.pair, chosen=answer.chosen, correct=correct, held_wrong=answer.held_wrong
    )


def _values(shares: Mapping[str, Share]) -> dict[str, float]:
    return {name: share.value for name, share in shares.items()}


def _intervals(shares: Mapping[str, Share]) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(("low", "high"), share.interval(), strict=True))
        for name, share in shares.items()
    }

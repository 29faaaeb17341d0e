"""A language model that reads the answers which the parser could not, or all of them.

The model sees words only. Its reply is read strictly: one letter, "none", "yes" or "no". Whatever
else it says leaves the answer unparsed.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from imgdiff.backends.checkpoints import find, refuse_random
from imgdiff.backends.configs import ChatTemplate, Dtype, VlmConfig
from imgdiff.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from imgdiff.backends.protocols import Chats
    from imgdiff.eval.records import ChoiceAnswer

VERSION = 1  # of the prompts and of how replies are read
MAX_ANSWER_CHARS = 4000  # about a thousand tokens; prompt and answer fit every supported model


class JudgeStyle(str, enum.Enum):
    """`letter`: which option the answer chooses. `mmvp_grader`: whether it is right, as published.

    `none`: no judge; the parser alone reads.
    """

    none = "none"
    letter = "letter"
    mmvp_grader = "mmvp_grader"


class JudgeScope(str, enum.Enum):
    """`unparsed`: only answers that the parser could not read. `all`: every answer."""

    unparsed = "unparsed"
    all = "all"


class Outcome(str, enum.Enum):
    """What became of an answer.

    `letter`, `none`: the judge names an option, or says that the answer chooses none. `yes`, `no`:
    the grader holds it right or wrong. `unreadable`: the reply is none of these. `empty`,
    `too_long`: not shown to the judge. `parser`: not the judge's to read.
    """

    letter = "letter"
    none = "none"
    yes = "yes"
    no = "no"
    unreadable = "unreadable"
    empty = "empty"
    too_long = "too_long"
    parser = "parser"


# Verbatim as far as a chat without a system turn allows: the two sentences are one question.
_GRADER = (
    "You are a helpful and precise assistant for checking the quality of the answer. "
    "Please answer in only yes or no.\n\n"
    "Given the following question {question}, the correct answer is {correct}. "
    "Does the following answer correctly answers the question, answer:{answer}?"
)
_LETTER = (
    "Somebody answered a multiple-choice question in their own words. Your task is to say which "
    "option the answer chooses, not which option is right.\n\n"
    "Question: {question}\nOptions:\n{options}\nAnswer: \u00ab{answer}\u00bb\n\n"
    "Reply with one letter ({letters}). If the answer chooses no option, or more than one, or if "
    "this is unclear, reply with the word none."
)
_SPECIAL = re.compile(r"<(\|?/?[A-Za-z_]{1,20}\|?)>")  # "<image>", "</s>": words, not tokens
_ONE_LETTER = re.compile(r"[\s\"'*`(\[]*([a-z]|none)[\s\"'*`)\].]*", re.IGNORECASE)
_YES_OR_NO = re.compile(r"(yes|no)", re.IGNORECASE)  # the whole reply; "Yes." is neither


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the judge said about answer `id`; `reply` is empty where it was not asked."""

    id: str
    outcome: Outcome
    reply: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The answers as they now read, and one verdict for each, in their order."""

    answers: tuple[ChoiceAnswer, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many answers met each outcome; outcomes that did not occur are left out."""
        found = Counter(verdict.outcome for verdict in self.verdicts)
        return {outcome.value: found[outcome] for outcome in Outcome if found[outcome]}


class Judge:
    """Reads answers with a chat that is already open. Greedy if the chat is.

    `letter` names an option. `mmvp_grader` compares with the published key: "yes" makes the chosen
    letter the correct one, and "no" chooses none and marks the answer as held wrong.
    """

    def __init__(
        self, chat: Chats, style: JudgeStyle, scope: JudgeScope = JudgeScope.unparsed
    ) -> None:
        if style is JudgeStyle.none:
            raise ConfigError("judge.style=none: there is no judge to ask; choose another style")
        self._chat, self._style, self._scope = chat, style, scope

    def read(self, answers: Sequence[ChoiceAnswer]) -> Judged:
        """All answers, those that the chat was asked about with `judged_by` "llm".

        One batch call. An empty answer and one beyond `MAX_ANSWER_CHARS` stay as they are.
        """
        outcomes = [_before_asking(answer, self._scope) for answer in answers]
        asked = [place for place, outcome in enumerate(outcomes) if outcome is None]
        prompts = [judge_prompt(answers[place], self._style) for place in asked]
        replies = self._chat.chat([None] * len(prompts), prompts) if prompts else []
        if len(replies) != len(prompts):
            raise DataError(
                f"the judge gave {len(replies)} replies to {len(prompts)} questions; "
                "a chat must give one for each"
            )
        said = dict(zip(asked, replies, strict=True))
        read, verdicts = [], []
        for place, answer in enumerate(answers):
            outcome, chosen = outcomes[place], answer.chosen
            if outcome is None:
                outcome, chosen = read_reply(said[place], answer, self._style)
                answer = replace(answer, chosen=chosen, judged_by="llm")
            read.append(replace(answer, held_wrong=outcome is Outcome.no))
            verdicts.append(Verdict(id=answer.id, outcome=outcome, reply=said.get(place, "")))
        return Judged(answers=tuple(read), verdicts=tuple(verdicts))


def _before_asking(answer: ChoiceAnswer, scope: JudgeScope) -> Outcome | None:
    """Why the judge is not asked, or None."""
    if scope is JudgeScope.unparsed and answer.chosen is not None:
        return Outcome.parser
    if not answer.answer.strip():
        return Outcome.empty
    return Outcome.too_long if len(answer.answer) > MAX_ANSWER_CHARS else None


def judge_prompt(answer: ChoiceAnswer, style: JudgeStyle) -> str:
    """What the judge is asked about an answer.

    `mmvp_grader` is scripts/gpt_grader.py of github.com/tsb0601/MMVP, whose question holds the
    options and whose correct answer is "(a)".
    """
    said = _SPECIAL.sub(r"\1", answer.answer.strip())
    if style is JudgeStyle.mmvp_grader:
        options = " ".join(f"({letter}) {text}" for letter, text in answer.options.items())
        return _GRADER.format(
            question=f"{answer.question} {options}", correct=f"({answer.correct})", answer=said
        )
    return _LETTER.format(
        question=answer.question,
        options="\n".join(f"({letter}) {text}" for letter, text in answer.options.items()),
        letters=", ".join(answer.options),
        answer=said,
    )


def read_reply(reply: str, answer: ChoiceAnswer, style: JudgeStyle) -> tuple[Outcome, str | None]:
    """The outcome of a reply and the letter it gives the answer."""
    if style is JudgeStyle.mmvp_grader:
        verdict = _YES_OR_NO.fullmatch(reply.strip())
        if verdict is None:
            return Outcome.unreadable, None
        right = verdict.group(1).lower() == "yes"
        return (Outcome.yes, answer.correct) if right else (Outcome.no, None)
    found = _ONE_LETTER.fullmatch(reply)
    word = found.group(1).lower() if found else ""
    if word == "none":
        return Outcome.none, None
    return (Outcome.letter, word) if word in answer.options else (Outcome.unreadable, None)


@dataclass(kw_only=True, slots=True)
class JudgeConfig:
    """The judge: a text model, or any supported chat, which sees no image. Decoding is greedy.

    The published grader is `mmvp_grader` over `all` answers, with a model that no longer exists.
    """

    style: JudgeStyle = JudgeStyle.none
    which: JudgeScope = JudgeScope.unparsed
    model: str = ""  # a folder, or a name in the hub's local cache; e.g. lmsys/vicuna-13b-v1.5
    template: ChatTemplate = ChatTemplate.vicuna_v1
    max_new_tokens: int = 8
    batch_size: int = 32  # no reply depends on it
    dtype: Dtype = Dtype.float32  # on a GPU; a CPU computes in float32

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "batch_size"):
            if getattr(self, key) < 1:
                raise ConfigError(f"judge.{key}={getattr(self, key)}: must be at least 1")
        if self.style is not JudgeStyle.none and not self.model.strip():
            raise ConfigError(
                f"judge.model={self.model!r}: judge.style={self.style.value} needs a model. Give a "
                "folder or a name in the hub's local cache, or set judge.style=none."
            )

    def asked(self) -> VlmConfig | None:
        """The backend's settings; None without a judge.

        ConfigError where there is no such checkpoint.
        """
        if self.style is JudgeStyle.none:
            return None
        refuse_random("judge.model", self.model)
        if find(self.model) is None:
            raise ConfigError(
                f"judge.model={self.model}: no checkpoint there. Give a folder or a name that is "
                "in the hub's local cache, or set judge.style=none."
            )
        return JudgeModelConfig(
            model=self.model,
            template=self.template,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            dtype=self.dtype,
        )

    def protocol(self) -> Mapping[str, str]:
        """What a record of scores says about the judge."""
        if self.style is JudgeStyle.none:
            return {"style": "none"}
        return {
            "style": self.style.value,
            "which": self.which.value,
            "model": self.model,
            "version": str(VERSION),
        }


@dataclass(kw_only=True, slots=True)
class JudgeModelConfig(VlmConfig):
    """The model behind `JudgeConfig`, as the backends know it."""

    MODEL_KEY: ClassVar[str] = "judge.model"

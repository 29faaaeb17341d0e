"""The judge asks about the right answers, in the right words, and believes only plain replies."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from small_vicuna import write_vicuna

from imgdiff.backends.configs import ChatTemplate
from imgdiff.core.errors import BackendError, ConfigError, DataError
from imgdiff.eval.answers import choice_letter
from imgdiff.eval.asking import AnswerStore, Asker, StoredChat
from imgdiff.eval.judge import (
    MAX_ANSWER_CHARS,
    Judge,
    JudgeConfig,
    Judged,
    JudgeScope,
    JudgeStyle,
    Outcome,
    judge_prompt,
    read_reply,
)
from imgdiff.eval.records import ChoiceAnswer

ANIMALS = {"a": "cat", "b": "dog"}
KINDS = {"feline": "a", "kitten": "a", "puppy": "b", "hound": "b"}


def answered(id: str, answer: str, correct: str = "a", **changes: object) -> ChoiceAnswer:
    options = changes.get("options", ANIMALS)
    assert isinstance(options, dict)
    return ChoiceAnswer(
        id=id,
        pair="1",
        kind="",
        question="Which animal is on the sofa?",
        options=options,
        images=(),
        prompt="",
        answer=answer,
        chosen=choice_letter(answer, options),
        correct=correct,
        corrected=correct,
    )


class Zoologist:
    """Reads answers by a list of kinds: a chat with rules for weights."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        assert list(images) == [None] * len(questions)
        self.asked += questions
        return [self._reply(question) for question in questions]

    def _reply(self, question: str) -> str:
        grading = re.search(r"the correct answer is \((\w)\)\..*answer:(.*)\?$", question, re.S)
        said = grading[2] if grading else re.search(r"\u00ab(.*)\u00bb", question, re.S)[1]  # type: ignore[index]
        letters = {letter for kind, letter in KINDS.items() if kind in said}
        if "alien" in said:
            return "I have never seen such an animal."
        if grading:
            return "Yes" if letters == {grading[1]} else "no"
        return f"({letters.pop()})" if len(letters) == 1 else "None."


ANSWERS = (
    answered("1", "(a)"),
    answered("2", "A puppy.", correct="b"),
    answered("3", "A kitten and a hound"),
    answered("4", "An alien"),
    answered("5", "  \n"),
    answered("6", "puppy " * 1000),
    answered("7", "I see a feline"),
)


def test_only_unparsed_answers_are_read() -> None:
    zoologist = Zoologist()
    judged = Judge(zoologist, JudgeStyle.letter).read(ANSWERS)
    assert len("puppy " * 1000) > MAX_ANSWER_CHARS
    assert [answer.chosen for answer in judged.answers] == ["a", "b", None, None, None, None, "a"]
    assert [answer.judged_by for answer in judged.answers] == [
        "parser", "llm", "llm", "llm", "parser", "parser", "llm",
    ]  # fmt: skip
    assert [verdict.id for verdict in judged.verdicts] == list("1234567")
    assert judged.counts == {
        "letter": 2, "none": 1, "unreadable": 1, "empty": 1, "too_long": 1, "parser": 1,
    }  # fmt: skip
    assert judged.verdicts[1].reply == "(b)"
    assert not any(answer.held_wrong for answer in judged.answers)
    assert len(zoologist.asked) == 4
    assert ANSWERS[1].chosen is None  # what was given is unchanged


def test_all_answers_may_be_read_anew() -> None:
    misread = answered("1", "(a), as the puppy shows")
    assert misread.chosen == "a"
    judged = Judge(Zoologist(), JudgeStyle.letter, JudgeScope.all).read([misread])
    assert (judged.answers[0].chosen, judged.answers[0].judged_by) == ("b", "llm")
    unreadable = Judge(Zoologist(), JudgeStyle.letter, JudgeScope.all).read(
        [answered("1", "(a), an alien")]
    )
    assert unreadable.answers[0].chosen is None
    assert unreadable.counts == {"unreadable": 1}


def test_the_published_grader_says_right_or_wrong() -> None:
    graded = Judge(Zoologist(), JudgeStyle.mmvp_grader, JudgeScope.all).read(
        [
            answered("1", "A puppy", correct="b"),
            answered("2", "A puppy", correct="a"),
            answered("3", "(a) alien", correct="a"),
        ]
    )
    assert [answer.is_right for answer in graded.answers] == [True, False, False]
    assert [answer.chosen for answer in graded.answers] == ["b", None, None]
    assert graded.counts == {"yes": 1, "no": 1, "unreadable": 1}
    assert {answer.id for answer in graded.answers if answer.held_wrong} == {"2"}


def test_prompts() -> None:
    answer = answered("1", "A puppy", correct="b")
    assert judge_prompt(answer, JudgeStyle.mmvp_grader) == (
        "You are a helpful and precise assistant for checking the quality of the answer. "
        "Please answer in only yes or no.\n\nGiven the following question Which animal is on the "
        "sofa? (a) cat (b) dog, the correct answer is (b). Does the following answer correctly "
        "answers the question, answer:A puppy?"
    )
    asked = judge_prompt(answer, JudgeStyle.letter)
    for part in (
        "Which animal is on the sofa?",
        "(a) cat\n(b) dog",
        "\u00abA puppy\u00bb",
        "(a, b)",
    ):
        assert part in asked
    assert "correct" not in asked  # the key is not given away
    odd = answered("1", "{x} <image>\n</s> %s {0} <|im_end|> 1 < 2")
    assert "\u00ab{x} image\n/s %s {0} |im_end| 1 < 2\u00bb" in judge_prompt(odd, JudgeStyle.letter)


@pytest.mark.parametrize(
    ("reply", "outcome", "letter"),
    [
        ("a", "letter", "a"),
        ("B", "letter", "b"),
        ("(b)", "letter", "b"),
        ("b.", "letter", "b"),
        ("**b**", "letter", "b"),
        ("[b]", "letter", "b"),
        ('"b"', "letter", "b"),
        (" b\n", "letter", "b"),
        ("none", "none", None),
        ("None.", "none", None),
        ("c", "unreadable", None),
        ("", "unreadable", None),
        ("ab", "unreadable", None),
        ("a b", "unreadable", None),
        ("a or b", "unreadable", None),
        ("b because", "unreadable", None),
        ("The answer is b", "unreadable", None),
        ("yes", "unreadable", None),
        ("\u0431", "unreadable", None),
        ("n", "unreadable", None),
        ("dog", "unreadable", None),
        ("(" * 10_000, "unreadable", None),
    ],
)
def test_letter_replies(reply: str, outcome: str, letter: str | None) -> None:
    found = read_reply(reply, answered("1", "x"), JudgeStyle.letter)
    assert found == (Outcome(outcome), letter)


@pytest.mark.parametrize(
    ("reply", "outcome", "letter"),
    [
        ("yes", "yes", "a"),
        ("Yes", "yes", "a"),
        ("NO", "no", None),
        (" no\n", "no", None),
        ("Yes.", "unreadable", None),
        ("yes no", "unreadable", None),
        ("", "unreadable", None),
        ("a", "unreadable", None),
        ("nope", "unreadable", None),
    ],
)
def test_grades(reply: str, outcome: str, letter: str | None) -> None:
    found = read_reply(reply, answered("1", "x"), JudgeStyle.mmvp_grader)
    assert found == (Outcome(outcome), letter)


class Mute(Zoologist):
    """A broken chat: it swallows a question."""

    def chat(
        self,
        images: Sequence[Image.Image | None],
        questions: Sequence[str],
        seeds: Sequence[int] | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        return super().chat(images, questions)[1:]


def test_a_chat_that_loses_a_reply_is_refused() -> None:
    with pytest.raises(DataError, match="3 replies to 4 questions"):
        Judge(Mute(), JudgeStyle.letter).read(ANSWERS)
    with pytest.raises(ConfigError, match=r"judge\.style=none"):
        Judge(Mute(), JudgeStyle.none)


@pytest.fixture(scope="module")
def vicuna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vicuna(tmp_path_factory.mktemp("vicuna"))


def _judged(config: JudgeConfig, answers: Sequence[ChoiceAnswer], folder: Path) -> Judged:
    asked = config.asked()
    assert asked is not None
    asker = Asker(config=asked, store=AnswerStore(folder, asked.identity()))
    return Judge(StoredChat(asker=asker), config.style, config.which).read(answers)


@pytest.mark.parametrize("style", [JudgeStyle.letter, JudgeStyle.mmvp_grader])
def test_a_real_text_model_that_talks_nonsense_changes_no_letter(
    vicuna: Path, style: JudgeStyle, tmp_path: Path
) -> None:
    config = JudgeConfig(style=style, model=str(vicuna), batch_size=2, max_new_tokens=6)
    judged = _judged(config, ANSWERS, tmp_path)
    assert [answer.chosen for answer in judged.answers] == ["a", *[None] * 6]
    assert judged.counts == {"unreadable": 4, "empty": 1, "too_long": 1, "parser": 1}
    assert sum(answer.judged_by == "llm" for answer in judged.answers) == 4
    assert any(verdict.reply for verdict in judged.verdicts)
    assert _judged(config, ANSWERS, tmp_path) == judged
    apart = [_judged(config, [a], tmp_path / "apart").verdicts[0] for a in ANSWERS]
    assert apart == list(judged.verdicts)


def test_no_model_is_loaded_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    hollow = JudgeConfig(style=JudgeStyle.letter, model=str(tmp_path / "hollow"))
    with pytest.raises(BackendError, match=r"judge\.model"):
        _judged(hollow, ANSWERS, tmp_path)
    assert _judged(hollow, ANSWERS[:1], tmp_path).counts == {"parser": 1}
    assert _judged(hollow, (), tmp_path).answers == ()


def test_settings_are_refused_with_a_reason() -> None:
    assert JudgeConfig().asked() is None
    assert JudgeConfig().protocol() == {"style": "none"}
    with pytest.raises(ConfigError, match=r"judge\.batch_size=0"):
        JudgeConfig(batch_size=0)
    with pytest.raises(ConfigError, match=r"judge\.max_new_tokens=0"):
        JudgeConfig(max_new_tokens=0)
    with pytest.raises(ConfigError, match=r"judge\.model=' '.*judge\.style=letter needs a model"):
        JudgeConfig(style=JudgeStyle.letter, model=" ")
    with pytest.raises(ConfigError, match=r"judge\.model=gone: no checkpoint there"):
        JudgeConfig(style=JudgeStyle.letter, model="gone").asked()
    with pytest.raises(
        ConfigError, match=r"judge\.model=random:lmsys/.*random weights are for dry"
    ):
        JudgeConfig(style=JudgeStyle.letter, model="random:lmsys/vicuna-13b-v1.5").asked()


def test_the_identity_names_the_template(vicuna: Path) -> None:
    named = {
        template: JudgeConfig(style=JudgeStyle.letter, model=str(vicuna), template=template).asked()
        for template in ChatTemplate
    }
    assert len({asked.identity() for asked in named.values() if asked}) == len(ChatTemplate)


def test_the_settings_need_no_deep_learning() -> None:
    code = (
        "import sys, imgdiff.eval.judge;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lightning')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Editing captions with a language model: the published prompts, and answers that are checked."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from imgdiff.backends.checkpoints import Needed
from imgdiff.backends.configs import EditingModelConfig
from imgdiff.backends.edit_check import compare, fault
from imgdiff.backends.handles import Around
from imgdiff.backends.protocols import Chat, Edited
from imgdiff.core.errors import ConfigError

VERSION = 2


class PromptProfile(str, enum.Enum):
    """Whose words ask for the edit (arXiv 2408.04594 section 3.2; gen.py; Data-Juicer's recipe)."""

    paper = "paper"
    released_code = "released_code"
    dj_recipe = "dj_recipe"


# Verbatim, as they are part of the method.
PROMPTS = {
    PromptProfile.paper: (
        "Here is a sentence: '{caption}'. "
        "Please only replace one of the objects in this sentence with another object."
    ),
    PromptProfile.released_code: (
        'Here is a sentence: "{caption}". Please replace one entity in this sentence with another '
        "entity, such as an animal, a vehicle, or a piece of furniture. "
        "Please only answer with the replaced sentence."
    ),
    PromptProfile.dj_recipe: (
        'Here is a sentence: "{caption}". Please replace one entity in this sentence with another '
        "entity, such as an animal, a vehicle, a piece of furniture or other physically consistent "
        "object. Ensure the replaced sentence adheres to physical plausibility. "
        "Please only answer with the replaced sentence."
    ),
}

_LEFTOVERS = re.compile(r"\nEND\b|</?s>|<\|[a-z_]+\|>|<end_of_turn>")
_END_MARKS = re.compile(r"\nEND|</?s>")
_QUOTES = "\"'`\u201c\u201d\u2018\u2019\u00ab\u00bb"
_QUOTED = re.compile(rf"^[{_QUOTES}*]+(.*?)[{_QUOTES}*]+\.?$", re.DOTALL)
_RELEASED_CHATTER = ("replac", "modified", "become")  # substrings: "fireplace" falls too
# The same words as words, and what models say around an answer.
_CHATTER = re.compile(
    r"\b(replac\w*|modif\w+|becomes?|became|rewrit\w+|rephras\w+|original|sure|certainly|of course"
    r"|here (is|are)|here's|here you go|sorry|i (can't|cannot|can not|am|have|would|will)"
    r"|i'(m|ve|ll)"
    r"|as an ai|language model|new sentence|the sentence|this sentence|note|output|answer|edited"
    r"|instead of|explanation|let me|hope this)\b"
)


@dataclass(kw_only=True, slots=True)
class LlmEditorConfig:
    """How the language model is asked and when its answer counts.

    The published pipeline: lmsys/vicuna-13b-v1.5 in float16, temperature 0.8, top_p 0.6 (from the
    checkpoint's generation_config), 128 tokens. `checked=False` keeps what the released code
    keeps: everything but answers that hold one of three substrings. `max_changed_words` bounds
    the replaced and the replacing name.
    """

    model: EditingModelConfig = field(default_factory=EditingModelConfig)
    profile: PromptProfile = PromptProfile.paper
    checked: bool = True
    max_changed_words: int = 4
    max_words: int = 60

    def __post_init__(self) -> None:
        for key in ("max_changed_words", "max_words"):
            if getattr(self, key) < 1:
                raise ConfigError(
                    f"editor.{key}={getattr(self, key)}: must be at least 1, or every edit falls"
                )

    def needed(self) -> Needed:
        """The checkpoint that a run with these settings loads."""
        return self.model.needed()

    def build(self) -> LlmEditor:
        """The editor; loads nothing before it is entered."""
        return LlmEditor(self, self.model.build())


class LlmEditor(Around):
    """A `CaptionEditor` over a chat model; temperature and length are the model's settings."""

    def __init__(self, config: LlmEditorConfig, chat: Chat) -> None:
        super().__init__(chat)
        self._config = config
        self._chat = chat

    @property
    def identity(self) -> str:
        """Prompt, checks and model; BackendError where the model is not on this machine."""
        config = self._config
        settings = (
            f"{config.profile.value},checked={config.checked},"
            f"max_changed_words={config.max_changed_words},max_words={config.max_words}"
        )
        return f"llm-editor:v{VERSION}({settings})+{self._chat.identity}"

    def edit(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Edited]:
        """One result per caption; refusals are those of `judge`, and "caption has no letters"."""
        asked = [index for index, text in enumerate(captions) if any(map(str.isalpha, text))]
        questions = [question(captions[index], self._config.profile) for index in asked]
        results = [Edited(text="", refusal="caption has no letters") for _ in captions]
        chosen = [seeds[index] for index in asked]
        answers = self._chat.chat([None] * len(asked), questions, chosen) if asked else []
        for index, answer in zip(asked, answers, strict=True):
            results[index] = judge(captions[index], answer, self._config)
        return results


def question(caption: str, profile: PromptProfile) -> str:
    """The prompt for a caption. Double quotes in it become single ones: they would end the quote
    that the prompt puts around it; `judge` restores them.
    """
    return PROMPTS[profile].format(caption=caption.replace('"', "'"))


def judge(caption: str, answer: str, config: LlmEditorConfig) -> Edited:
    """The edited caption in an answer, or why there is none.

    Refusals: "empty answer"; "chatter" (talk about the task, or more than one sentence or line);
    "too long"; "unchanged"; "rewritten" (more than one name changed, or nothing was exchanged);
    "not an object" (a colour, a verb, a number); "same thing" (its plural, a synonym, a kind).
    Words that stay keep the caption's own spelling, so that only the names differ.
    """
    if not config.checked:
        return _as_released(answer)
    text = clean(answer)
    if not any(map(str.isalpha, text)):
        return _refused("empty answer")
    if _is_chatter(caption, text):
        return _refused("chatter")
    if len(text.split()) > config.max_words:
        return _refused("too long")
    return _compare(caption, text, config.max_changed_words)


def _as_released(answer: str) -> Edited:
    """As gen.py: end marks off, three substrings anywhere drop it, text after the last `---`."""
    text = _END_MARKS.sub("", answer).strip()
    if any(part in text.lower() for part in _RELEASED_CHATTER):
        return _refused("chatter")
    text = text.rsplit("---", maxsplit=1)[-1].strip()
    return Edited(text=text) if text else _refused("empty answer")


def clean(answer: str) -> str:
    """An answer without end marks, text before the last `---`, bullets and quotes around it."""
    text = _LEFTOVERS.sub(" ", answer)
    text = text.rsplit("---", maxsplit=1)[-1].strip()
    text = re.sub(r"^(?:[-*•>#]+|\(?[\da-z][.)])\s+", "", text)
    quoted = _QUOTED.match(text)
    if quoted and not re.search(r"[\"\u201c\u201d]", quoted.group(1)):
        text = quoted.group(1)
    return text.strip()


def _refused(reason: str) -> Edited:
    return Edited(text="", refusal=reason)


def _is_chatter(caption: str, text: str) -> bool:
    """Talk around the sentence: marker words that the caption has not, a colon, more sentences."""
    own = {match.group() for match in _CHATTER.finditer(caption.lower())}
    if any(match.group() not in own for match in _CHATTER.finditer(text.lower())):
        return True
    if ("\n" in text and "\n" not in caption.strip()) or "->" in text or "→" in text:
        return True
    more_marks = any(text.count(mark) > caption.count(mark) for mark in (":", "(", "[", "{", "?"))
    return more_marks or _sentences(text) > max(1, _sentences(caption))


def _sentences(text: str) -> int:
    return len([part for part in re.split(r"[.!?]+(?:\s+|$)", text) if part.strip()])


def _compare(caption: str, text: str, max_changed_words: int) -> Edited:
    spelled, changes = compare(caption, text)
    if not changes:
        return _refused("unchanged")
    if max(len(words) for each in changes for words in (each.gone, each.come)) > max_changed_words:
        return _refused("rewritten")
    refusal = fault(caption, spelled, changes)
    return _refused(refusal) if refusal else Edited(text=_ended_like(caption, spelled))


def _ended_like(caption: str, text: str) -> str:
    """`text` with the caption's full stop (or none) and its first letter's case."""
    stop = re.search(r"[.!?]*$", caption.rstrip())
    bare = text.rstrip().rstrip(".!?")
    bare = (bare[:1].upper() if caption[:1].isupper() else bare[:1].lower()) + bare[1:]
    return bare + (stop.group() if stop else "")

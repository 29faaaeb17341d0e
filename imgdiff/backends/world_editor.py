"""Edits captions of the procedural world with its own words, so that they can be drawn."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np

from imgdiff.backends.handles import Weightless
from imgdiff.backends.protocols import Edited
from imgdiff.backends.world import WORLD_VERSION, Split, Vocabulary, drawable, things_of
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.identity import fingerprint
from imgdiff.mini.language import article, parse_caption
from imgdiff.mini.shapes import CATEGORIES

VERSION = 3  # of the choice; stored edits of another version are not used


@dataclasses.dataclass(kw_only=True, slots=True)
class WorldEditorConfig:
    """Edits captions of the procedural world so that the renderer of `split` can draw them.

    `same_group_share` of the edits swap within a lexical group (a car for a bus), as the paper's
    lexicon variant does; the others take any object, as its LLM may. New objects are of
    `vocabulary`.
    """

    split: Split = Split.train
    vocabulary: Vocabulary = Vocabulary.any
    same_group_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.same_group_share <= 1.0:
            raise ConfigError(
                f"editor.same_group_share={self.same_group_share}: a share lies in [0, 1]"
            )

    def build(self) -> WorldEditor:
        """The editor; it holds no weights."""
        return WorldEditor(self)


class WorldEditor(Weightless):
    """A `CaptionEditor` over the world's own vocabulary."""

    def __init__(self, config: WorldEditorConfig) -> None:
        self.config = config
        self.identity = f"world-editor:v{VERSION}.{WORLD_VERSION}:{fingerprint(config)}"

    def edit(self, captions: Sequence[str], seeds: Sequence[int]) -> list[Edited]:
        """One object of each caption replaced; refuses captions of another language."""
        return [self._edit(text, seed) for text, seed in zip(captions, seeds, strict=True)]

    def _edit(self, caption: str, seed: int) -> Edited:
        try:
            present = [phrase.category for phrase in parse_caption(caption).objects]
        except DataError:
            return Edited(text="", refusal="caption outside the world's language")
        if not drawable(caption, self.config.split.value):
            return Edited(text="", refusal="combination held out of this world")
        rng = np.random.default_rng(seed)
        near = bool(rng.random() < self.config.same_group_share)
        for index in rng.permutation(len(present)):
            for text in self._swaps(caption, present, present[int(index)], rng, near=near):
                if drawable(text, self.config.split.value):
                    return Edited(text=text)
        return Edited(text="", refusal="no drawable replacement")

    def _swaps(
        self,
        caption: str,
        present: Sequence[str],
        old: str,
        rng: np.random.Generator,
        *,
        near: bool,
    ) -> Iterator[str]:
        """The caption with `old` replaced, in random order; its own group first if `near`."""
        others = [name for name in things_of(self.config.vocabulary) if name not in present]
        shuffled = [others[int(k)] for k in rng.permutation(len(others))]
        if near:
            shuffled.sort(key=lambda name: CATEGORIES[name] != CATEGORIES[old])
        for name in shuffled:
            yield _swapped(caption, old, name)


def _swapped(caption: str, old: str, new: str) -> str:
    """The caption with one category word replaced and the article right before it corrected."""

    def with_article(found: re.Match[str]) -> str:
        fitting = article(new)
        return f"{fitting.capitalize() if found[1][0].isupper() else fitting} {new}"

    text, count = re.subn(rf"\b([Aa]n?) {old}\b", with_article, caption, count=1)
    return text if count else re.sub(rf"\b{old}\b", new, caption, count=1)

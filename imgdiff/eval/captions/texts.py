"""Captions as one line of text each, and the set of them that is scored."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from imgdiff.core.errors import DataError

# What Java or Python takes for the end of a line (or of a text), and the control characters that
# divide words in both. Each becomes a blank, as pycocoevalcap does with "\n" alone.
_BREAKS = dict.fromkeys(map(ord, "\0\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u2028\u2029"), " ")
# Halves of a character outside the basic plane, from a damaged JSON escape: no UTF-8 has them.
_BREAKS.update(dict.fromkeys(range(0xD800, 0xE000), " "))


def one_line(text: str) -> str:
    """`text` with every kind of line break, NUL and lone surrogate turned into a blank.

    All other characters stay, so that a harmless text is what pycocoevalcap would tokenise.
    """
    return text.translate(_BREAKS)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSet:
    """One hypothesis and at least one reference per item; the ids are unique.

    Texts may be empty: an empty hypothesis is scored (as wrong) and an empty reference counts as
    one, as in pycocoevalcap. DataError names the first item that breaks a rule.
    """

    ids: tuple[str, ...]
    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if not self.ids:
            raise DataError("no captions to score: the set is empty. Give at least one item.")
        sizes = (len(self.ids), len(self.hypotheses), len(self.references))
        if len(set(sizes)) > 1:
            raise DataError(
                f"{sizes[0]} ids, {sizes[1]} hypotheses and {sizes[2]} lists of references: "
                "the counts must be equal."
            )
        (most_common, count), *_ = Counter(self.ids).most_common(1)
        if count > 1:
            raise DataError(
                f"item {most_common}: its id occurs {count} times. Give each item one caption."
            )
        for id_, texts in zip(self.ids, self.references, strict=True):
            if not texts:
                raise DataError(f"item {id_}: no references. Give at least one, or leave it out.")

    def __len__(self) -> int:
        return len(self.ids)

"""The words for one changed object: noun phrases that mean it alone, places, ways and colours.

A wording is a text with slots in braces; `fill` draws the words of its slots. What is said of an
object before the change is true of it alone in the first scene, what is said of a new one is true
of nothing in the first scene.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.mini.changes import Change, ChangedScene, ChangeKind
from imgdiff.mini.language import PLACES, NounPhrase, article
from imgdiff.mini.scene import SceneObject

# What a noun phrase adds to the category, and how often.
_PLACE = ("row", "column")
_SAID: dict[tuple[str, ...], float] = {
    (): 8,
    ("colour",): 8,
    ("size",): 1,
    ("size", "colour"): 1,
    _PLACE: 3,
    ("colour", *_PLACE): 3,
    ("column",): 2,
    ("row",): 1,
    ("colour", "column"): 1,
}
# What would contradict or repeat the rest of the sentence.
_SILENT: dict[ChangeKind, tuple[str, ...]] = {
    ChangeKind.moved: _PLACE,
    ChangeKind.resized: ("size",),
}
_ROWS = ("at the top", "at the bottom")
_COLUMNS = ("on the left", "on the right")
_HEIGHTS = ("upper", "lower")
_SIDES = ("left", "right")
_IRREGULAR = {"fish": "fish"}
_FIRST = ("first picture", "first image", "before image", "left image")
_SECOND = ("second picture", "second image", "after image", "right image")
_PICTURE = ("picture", "image", "photo")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A noun phrase and perhaps where its object is; None where it is silent."""

    phrase: NounPhrase
    row: int | None = None
    column: int | None = None

    def fits(self, item: SceneObject) -> bool:
        """Whether all that is said is true of the object."""
        said = (
            (self.phrase.category, item.category),
            (self.phrase.colour, item.colour),
            (self.phrase.size, item.size),
            (self.row, item.row),
            (self.column, item.column),
        )
        return all(word is None or word == truth for word, truth in said)

    def text(self, rng: np.random.Generator) -> str:
        """`red car at the top left`: no article."""
        words = self.phrase.definite().removeprefix("the ")
        return " ".join([words, *place_words(self.row, self.column, rng)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Telling:
    """One change of a pair, about to be told."""

    pair: ChangedScene
    change: Change
    rng: np.random.Generator

    @property
    def before(self) -> SceneObject:
        """The object before; not for added ones."""
        assert self.change.before is not None
        return self.change.before

    @property
    def after(self) -> SceneObject:
        """The object after; not for removed ones."""
        assert self.change.after is not None
        return self.change.after

    @property
    def category(self) -> str:
        """What the object was, or what was added."""
        return (self.change.before or self.after).category


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def plural(noun: str) -> str:
    """`cherries`, `buses`, `fish`: regular but for the words of this world that are not."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def place_words(row: int | None, column: int | None, rng: np.random.Generator) -> tuple[str, ...]:
    """Where in the picture, with its preposition; nothing where neither is given."""
    if row is None and column is None:
        return ()
    if row is None or column is None:
        return (_ROWS[row] if row is not None else _COLUMNS[column or 0],)
    name = PLACES[row * len(_SIDES) + column]
    corner = f"{_HEIGHTS[row]} {_SIDES[column]}"
    forms = (f"at the {name}", f"in the {name} corner", f"on the {name}", f"in the {corner}")
    return (forms[int(rng.choice(len(forms), p=(0.5, 0.2, 0.15, 0.15)))],)


def fill(wording: str, telling: Telling) -> str:
    """The wording with each slot in braces replaced by words about the change."""
    return re.sub(r"\{(\w+)\}", lambda slot: SLOTS[slot[1]](telling), wording)


def slots_of(wording: str) -> list[str]:
    """The names in braces, in order."""
    return re.findall(r"\{(\w+)\}", wording)


def _naming(
    item: SceneObject, shown: Sequence[SceneObject], silent: Sequence[str], rng: np.random.Generator
) -> str:
    """`red car`: words, without an article, that fit this object alone of those shown."""
    options = {
        reference: weight
        for said, weight in _SAID.items()
        if not set(said) & set(silent)
        and sum(map((reference := _saying(item, said)).fits, shown)) == 1
    }
    weights = np.array(list(options.values()))
    chosen = int(rng.choice(len(options), p=weights / weights.sum()))
    return list(options)[chosen].text(rng)


def _saying(item: SceneObject, said: Sequence[str]) -> Reference:
    phrase = NounPhrase(
        category=item.category,
        colour=item.colour if "colour" in said else None,
        size=item.size if "size" in said else None,
    )
    return Reference(
        phrase=phrase,
        row=item.row if "row" in said else None,
        column=item.column if "column" in said else None,
    )


def _known(told: Telling, *silent: str) -> str:
    """`the red car`: the one object of the first scene that is meant."""
    unsaid = (*_SILENT.get(told.change.kind, ()), *silent)
    return f"the {_naming(told.before, told.pair.before.objects, unsaid, told.rng)}"


def _gone(told: Telling) -> str:
    """`red car`: one object of the first scene, none of the second (a twin stays in both)."""
    return _naming(told.before, told.pair.before.objects, (), told.rng)


def _come(told: Telling) -> str:
    """`blue cup`: one object of the second scene, none of the first (a twin stays in both).

    Where it is is said by a slot of its own.
    """
    return _naming(told.after, told.pair.after.objects, _PLACE, told.rng)


def _with_article(words: str) -> str:
    return f"{article(words)} {words}"


def _way(telling: Telling) -> str:
    """`down`, `to the left`, `down and to the left`."""
    rows = telling.after.row - telling.before.row
    columns = telling.after.column - telling.before.column
    upright = {-1: "up", 0: "", 1: "down"}[rows]
    sideways = {-1: "to the left", 0: "", 1: "to the right"}[columns]
    return " and ".join(part for part in (upright, sideways) if part)


def _where(item: SceneObject, telling: Telling) -> str:
    return place_words(item.row, item.column, telling.rng)[0]


def _twin_colour(telling: Telling) -> str:
    """The colour of the other object of the same category."""
    meant = (telling.change.before, telling.change.after)
    objects = (*telling.pair.before.objects, *telling.pair.after.objects)
    twins = (x for x in objects if x.category == telling.category and x not in meant)
    return next(twins).colour


SLOTS: dict[str, Callable[[Telling], str]] = {
    "the": _known,
    "the_uncoloured": lambda told: _known(told, "colour"),
    "gone": _gone,
    "a_gone": lambda told: _with_article(_gone(told)),
    "come": _come,
    "a_come": lambda told: _with_article(_come(told)),
    "where": lambda told: _where(told.after, told),
    "where_before": lambda told: _where(told.before, told),
    "place": lambda told: PLACES[told.after.cell],
    "place_before": lambda told: PLACES[told.before.cell],
    "way": _way,
    "colour": lambda told: told.after.colour,
    "a_colour": lambda told: _with_article(told.after.colour),
    "colour_before": lambda told: told.before.colour,
    "category": lambda told: told.category,
    "plural": lambda told: plural(told.category),
    "twin_colour": _twin_colour,
    "first": lambda told: pick(told.rng, _FIRST),
    "second": lambda told: pick(told.rng, _SECOND),
    "picture": lambda told: pick(told.rng, _PICTURE),
}

"""Changes of scenes: a scene, and the same scene with one to three things different.

Each change has cells of its own, so that no two can be taken for one another, and what comes new
is of a category that the pair shows nowhere else, except for twins: two objects of one category in
two colours, of which at most one changes.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from imgdiff.core.errors import DataError
from imgdiff.mini.scene import (
    CELL_PX,
    GRID,
    OBJECT_COUNT_WEIGHTS,
    SIZE_RANGE_PX,
    SIZES,
    Scene,
    SceneObject,
    Split,
    belongs,
    place,
    sample_scene,
)
from imgdiff.mini.shapes import CATEGORIES, COLOURS

CELLS = GRID * GRID
TWIN_SHARE = 0.2  # of scenes with room for a twin, and of objects that are added
LIKE_SHARE = 0.5  # of objects are replaced by one of the same group
SAME_COLOUR_SHARE = 0.5  # of objects are replaced by one of the same colour
LEAST_RESIZE_PX = 12  # of the longer side; less is hard to see


class ChangeKind(str, enum.Enum):
    """What happens to one object."""

    removed = "removed"
    replaced = "replaced"
    added = "added"
    recoloured = "recoloured"
    moved = "moved"
    resized = "resized"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One object before and after; None where it is not there."""

    kind: ChangeKind
    before: SceneObject | None
    after: SceneObject | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedScene:
    """A scene before and after its changes; everything else is equal to the pixel."""

    before: Scene
    after: Scene
    changes: tuple[Change, ...]


@dataclass(kw_only=True, slots=True)
class _Supply:
    """What changes may still use, in random order, and what is there before."""

    cells: list[int]
    names: list[str]
    lone: list[SceneObject]  # unchanged objects without a twin
    colours: dict[str, set[str]]  # of the objects of each category before


def sample_changed_scene(
    kinds: Sequence[ChangeKind], split: Split, rng: np.random.Generator
) -> ChangedScene:
    """A scene of `split` and its change into another of `split`, one change of each kind given.

    DataError where no scene has room for all of `kinds`.
    """
    counts = possible_counts(kinds)
    if not counts:
        names = ", ".join(kind.value for kind in kinds) or "none"
        raise DataError(f"changes {names}: no scene of {CELLS} cells has room for them; ask others")
    weights = np.array([OBJECT_COUNT_WEIGHTS[count - 1] for count in counts])
    while True:  # most scenes allow most changes; a few draws suffice
        count = int(rng.choice(counts, p=weights / weights.sum()))
        scene = sample_scene(rng, split, count)
        if count < counts[-1] and rng.random() < TWIN_SHARE:
            scene = _with_twin(scene, rng)
        changed = _changed(scene, kinds, rng)
        if changed and all(is_scene_of(s, split) for s in (changed.before, changed.after)):
            return changed


def is_scene_of(scene: Scene, split: Split) -> bool:
    """Whether the scene obeys the rule of `split` (see `belongs`)."""
    return belongs([item.category for item in scene.objects], scene.ground, split)


def possible_counts(kinds: Sequence[ChangeKind]) -> range:
    """How many objects a scene may have before changes of these kinds; empty where none may.

    Moved and added objects need a free cell each, and something must be left to see.
    """
    added = kinds.count(ChangeKind.added)
    changed = len(kinds) - added
    gone = kinds.count(ChangeKind.removed)
    fewest = max(1, changed + int(bool(kinds) and gone == len(kinds)))
    most = CELLS - added - kinds.count(ChangeKind.moved)
    return range(fewest, most + 1) if kinds else range(0)


def _shuffled(rng: np.random.Generator, things: Sequence[str]) -> list[str]:
    return [things[int(index)] for index in rng.permutation(len(things))]


def _other_colour(rng: np.random.Generator, used: set[str]) -> str:
    free = [name for name in COLOURS if name not in used]
    return free[int(rng.integers(len(free)))]


def _free_cells(objects: Sequence[SceneObject], rng: np.random.Generator) -> list[int]:
    taken = {item.cell for item in objects}
    return [int(cell) for cell in rng.permutation(CELLS) if int(cell) not in taken]


def _in_order(scene: Scene, objects: Sequence[SceneObject]) -> Scene:
    return dataclasses.replace(scene, objects=tuple(sorted(objects, key=lambda item: item.cell)))


def _twin_of(item: SceneObject, cell: int, rng: np.random.Generator) -> SceneObject:
    """Another object of that category, in another colour."""
    size = SIZES[int(rng.integers(len(SIZES)))]
    return place(rng, item.category, _other_colour(rng, {item.colour}), size, cell)


def _with_twin(scene: Scene, rng: np.random.Generator) -> Scene:
    item = scene.objects[int(rng.integers(len(scene.objects)))]
    twin = _twin_of(item, _free_cells(scene.objects, rng)[0], rng)
    return _in_order(scene, [*scene.objects, twin])


def _changed(
    scene: Scene, kinds: Sequence[ChangeKind], rng: np.random.Generator
) -> ChangedScene | None:
    """The scene with these changes; None where twins leave too few objects to change."""
    chosen = _without_twins(scene.objects, rng)
    wanted = sum(kind is not ChangeKind.added for kind in kinds)
    if len(chosen) < wanted:
        return None
    touched = chosen[:wanted]
    unchanged = [item for item in scene.objects if item not in touched]
    colours: dict[str, set[str]] = {}
    for item in scene.objects:
        colours.setdefault(item.category, set()).add(item.colour)
    supply = _Supply(
        cells=_free_cells(scene.objects, rng),
        names=_shuffled(rng, [name for name in CATEGORIES if name not in colours]),
        lone=[item for item in unchanged if len(colours[item.category]) == 1],
        colours=colours,
    )
    changes = tuple(_all_changes(kinds, iter(touched), supply, rng))
    after = [*unchanged, *(change.after for change in changes if change.after)]
    return ChangedScene(before=scene, after=_in_order(scene, after), changes=changes)


def _without_twins(objects: Sequence[SceneObject], rng: np.random.Generator) -> list[SceneObject]:
    """The objects in random order, one of each category."""
    shuffled = [objects[int(index)] for index in rng.permutation(len(objects))]
    return list({item.category: item for item in shuffled}.values())


def _all_changes(
    kinds: Sequence[ChangeKind],
    touched: Iterator[SceneObject],
    supply: _Supply,
    rng: np.random.Generator,
) -> Iterator[Change]:
    for kind in kinds:
        if kind is ChangeKind.added:
            yield Change(kind=kind, before=None, after=_added(supply, rng))
        else:
            item = next(touched)
            yield Change(kind=kind, before=item, after=_EDITS[kind](item, supply, rng))


def _added(supply: _Supply, rng: np.random.Generator) -> SceneObject:
    """A new object in a free cell; sometimes the twin of one that stays as it is."""
    cell = supply.cells.pop()
    if supply.lone and rng.random() < TWIN_SHARE:
        item = supply.lone.pop(int(rng.integers(len(supply.lone))))
        return _twin_of(item, cell, rng)
    size = SIZES[int(rng.integers(len(SIZES)))]
    return place(rng, supply.names.pop(), _other_colour(rng, set()), size, cell)


def _removed(item: SceneObject, supply: _Supply, rng: np.random.Generator) -> None:
    return None


def _replaced(item: SceneObject, supply: _Supply, rng: np.random.Generator) -> SceneObject:
    """Another object at the same place and of the same size."""
    alike = [name for name in supply.names if CATEGORIES[name] == CATEGORIES[item.category]]
    name = alike[0] if alike and rng.random() < LIKE_SHARE else supply.names[-1]
    supply.names.remove(name)
    same = rng.random() < SAME_COLOUR_SHARE
    colour = item.colour if same else _other_colour(rng, {item.colour})
    return dataclasses.replace(item, category=name, colour=colour, seed=int(rng.integers(2**31)))


def _recoloured(item: SceneObject, supply: _Supply, rng: np.random.Generator) -> SceneObject:
    """The same object in a colour that no twin of it has."""
    return dataclasses.replace(item, colour=_other_colour(rng, supply.colours[item.category]))


def _moved(item: SceneObject, supply: _Supply, rng: np.random.Generator) -> SceneObject:
    """The same object at the same spot of a cell that was free."""
    cell = supply.cells.pop()
    return dataclasses.replace(
        item,
        cell=cell,
        x=item.x + (cell % GRID - item.column) * CELL_PX,
        y=item.y + (cell // GRID - item.row) * CELL_PX,
    )


def _resized(item: SceneObject, supply: _Supply, rng: np.random.Generator) -> SceneObject:
    """The same object visibly larger or smaller, shifted where it would leave its cell."""
    size = SIZES[1 - SIZES.index(item.size)]
    low, high = SIZE_RANGE_PX[size]
    sizes = [px for px in range(low, high + 1) if abs(px - item.size_px) >= LEAST_RESIZE_PX]
    size_px = sizes[int(rng.integers(len(sizes)))]
    slack = (CELL_PX - size_px) / 2 - 1
    centre_x, centre_y = (item.column + 0.5) * CELL_PX, (item.row + 0.5) * CELL_PX
    return dataclasses.replace(
        item,
        size=size,
        size_px=size_px,
        x=float(np.clip(item.x, centre_x - slack, centre_x + slack)),
        y=float(np.clip(item.y, centre_y - slack, centre_y + slack)),
    )


_Edit = Callable[[SceneObject, _Supply, np.random.Generator], "SceneObject | None"]
_EDITS: dict[ChangeKind, _Edit] = {
    ChangeKind.removed: _removed,
    ChangeKind.replaced: _replaced,
    ChangeKind.recoloured: _recoloured,
    ChangeKind.moved: _moved,
    ChangeKind.resized: _resized,
}

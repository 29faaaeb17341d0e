"""The procedural world behind the backend protocols: its captions, its lexicon, its renderer."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from imgdiff.backends.handles import Weightless
from imgdiff.backends.protocols import DrawnPair, Refusal
from imgdiff.core.errors import ConfigError, DataError
from imgdiff.core.identity import fingerprint, seed_for
from imgdiff.core.records import Caption, CaptionPair, Change, NamedBox, PairTruth
from imgdiff.mini.grounds import GROUNDS
from imgdiff.mini.language import (
    PLACES,
    RELATIONS,
    NounPhrase,
    Sketch,
    describe,
    parse_caption,
)
from imgdiff.mini.scene import (
    GRID,
    SIZES,
    Drawing,
    Scene,
    SceneObject,
    Split,
    allowed,
    belongs,
    draw_scene,
    place,
    replace_object,
    sample_scene,
)
from imgdiff.mini.shapes import CATEGORIES, COLOURS
from imgdiff.mini.small_world import MOST_OBJECTS, THINGS, sample_part
from imgdiff.mini.written import drawing_identity

WORLD_VERSION = 2
_CELLS = tuple(range(GRID * GRID))
_STALE = 10_000  # draws in a row without a new caption: there are no more


class Vocabulary(str, enum.Enum):
    """Which things captions may name. A model that has seen few things can draw no others."""

    any = "any"  # captions are as their source has them; the procedural world has 48 things
    world = "world"  # the procedural world's, in its words
    mini_sdxl = "mini_sdxl"  # the 18 things that the mini SDXL was trained on, in those words


def things_of(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The object names of a vocabulary."""
    return THINGS if vocabulary is Vocabulary.mini_sdxl else tuple(CATEGORIES)


def most_objects(vocabulary: Vocabulary) -> int:
    """How many objects a caption may name."""
    return MOST_OBJECTS if vocabulary is Vocabulary.mini_sdxl else len(PLACES)


def split_named(name: str, key: str = "source.split") -> Split:
    """The Split of that name (`val` is short for validation); `key` is what the error blames."""
    try:
        return Split("validation" if name == "val" else name)
    except ValueError:
        options = ", ".join(split.value for split in Split)
        raise ConfigError(f"{key}={name}: no such world; choose one of {options}") from None


def world_captions(
    split: str, count: int, seed: int, vocabulary: Vocabulary = Vocabulary.any
) -> Iterator[Caption]:
    """`count` distinct captions of a split, from (seed, split); a smaller count gives a prefix.

    ConfigError where the vocabulary has not so many.
    """
    world = split_named(split)
    sample = sample_part if vocabulary is Vocabulary.mini_sdxl else sample_scene
    seen: set[int] = set()
    number = stale = 0
    while len(seen) < count:
        rng = np.random.default_rng(seed_for(seed, f"{world.value}-{number}", "caption"))
        number += 1
        text = describe(sample(rng, world), rng)
        if hash_of(text) in seen:
            stale += 1
            if stale == _STALE:
                raise ConfigError(
                    f"source.limit={count}: the world {world.value} of "
                    f"source.vocabulary={vocabulary.value} has about {len(seen)} captions; "
                    "ask for fewer, or for source.vocabulary=world"
                )
            continue
        stale = 0
        yield Caption(id=f"world-{world.value}-{len(seen):06d}", text=text)
        seen.add(hash_of(text))


def hash_of(text: str) -> int:
    """A 60-bit content hash of a text, equal in every process."""
    return int(fingerprint(text)[:15], 16)


def world_lexicon() -> dict[str, str]:
    """Every object name of the world with its lexical category."""
    return dict(CATEGORIES)


def drawable(caption: str, split: str) -> bool:
    """Whether the renderer of `split` can draw the caption: language and combinations."""
    try:
        sketch = parse_caption(caption)
    except DataError:
        return False
    distinct = len({p.category for p in sketch.objects}) == len(sketch.objects)
    return distinct and bool(_grounds_for([sketch], split_named(split)))


def _grounds_for(sketches: Sequence[Sketch], split: Split) -> list[str]:
    """Grounds on which every sketch may be drawn in `split`, given the grounds that they name."""
    named = {sketch.ground for sketch in sketches if sketch.ground}
    return [
        ground
        for ground in GROUNDS
        if named <= {ground}
        and all(allowed([p.category for p in s.objects], ground, split) for s in sketches)
    ]


@dataclasses.dataclass(kw_only=True, slots=True)
class RenderConfig:
    """Draws caption pairs of the procedural world, with the faults that learned generators have.

    Shares are fractions of pairs in [0, 1] and add up to at most 1. They exist so that filters
    have something to catch; each fault is recorded in the truth.
    """

    split: Split = Split.train
    ignored_share: float = 0.06  # the edit does not show
    redrawn_share: float = 0.06  # another layout altogether
    side_effect_share: float = 0.06  # a second object changes its colour
    noise: float = 2.0  # standard deviation of grey levels added to the right image

    def __post_init__(self) -> None:
        shares = {
            "ignored_share": self.ignored_share,
            "redrawn_share": self.redrawn_share,
            "side_effect_share": self.side_effect_share,
        }
        for key, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"generator.{key}={value}: a share lies in [0, 1]")
        if sum(shares.values()) > 1.0:
            raise ConfigError(
                f"generator: {' + '.join(shares)} = {sum(shares.values()):.2f} > 1; lower one"
            )
        if not 0.0 <= self.noise < math.inf:
            raise ConfigError(f"generator.noise={self.noise}: must be a number >= 0")

    def build(self) -> RenderGenerator:
        """The generator; it holds no weights."""
        return RenderGenerator(self)


class RenderGenerator(Weightless):
    """`PairGenerator` over the procedural world: exact truth, no weights."""

    def __init__(self, config: RenderConfig) -> None:
        self.config = config
        self.split = config.split
        self.identity = f"render:v{WORLD_VERSION}:{fingerprint(config, drawing_identity())}"

    def generate(self, pairs: Sequence[CaptionPair]) -> list[DrawnPair | Refusal]:
        """One drawn pair or refusal per caption pair, from its seed alone."""
        return [self._draw(pair) for pair in pairs]

    def _draw(self, pair: CaptionPair) -> DrawnPair | Refusal:
        try:
            left, right = parse_caption(pair.left), parse_caption(pair.right)
        except DataError as error:
            return Refusal(reason="caption outside the world's language", detail=str(error))
        changed = _changed_object(left, right)
        if changed is None:
            return Refusal(reason="edit does not replace exactly one object")
        grounds = _grounds_for([left, right], self.split)
        if not grounds:
            return Refusal(reason="combination held out of this world", detail=pair.right)
        rng = np.random.default_rng(pair.seed)
        scene = scene_from(left, rng, self.split, grounds)
        return self._render(pair, scene, changed, right.objects[changed], rng)

    def _render(
        self,
        pair: CaptionPair,
        scene: Scene,
        changed: int,
        wanted: NounPhrase,
        rng: np.random.Generator,
    ) -> DrawnPair:
        edited = replace_object(scene, changed, _exchange(scene.objects[changed], wanted, rng))
        note, final = self._fault(scene, edited, changed, rng)
        left, right = draw_scene(scene), draw_scene(final)
        return DrawnPair(
            left=left.image,
            right=_with_noise(right.image, self.config.noise, rng),
            left_caption=pair.left,
            right_caption=pair.right,
            truth=_truth(scene, final, left, right, note),
        )

    def _fault(
        self, scene: Scene, edited: Scene, changed: int, rng: np.random.Generator
    ) -> tuple[str, Scene]:
        """(what really happened, the right scene)."""
        draw = float(rng.random())
        config = self.config
        if draw < config.ignored_share:
            return "ignored", scene
        draw -= config.ignored_share
        if draw < config.redrawn_share:
            return "redrawn", _redrawn(edited, rng, self.split)
        draw -= config.redrawn_share
        if draw < config.side_effect_share and len(edited.objects) > 1:
            return "side effect", _recoloured(edited, changed, rng)
        return "replaced", edited


def _changed_object(left: Sketch, right: Sketch) -> int | None:
    if len(left.objects) != len(right.objects):
        return None
    differing = [
        index
        for index, (a, b) in enumerate(zip(left.objects, right.objects, strict=True))
        if a.category != b.category
    ]
    return differing[0] if len(differing) == 1 else None


def scene_from(
    sketch: Sketch, rng: np.random.Generator, split: Split, grounds: Sequence[str] = GROUNDS
) -> Scene:
    """A scene that the sketch describes; what the sketch leaves open is drawn from rng.

    The ground is one of `grounds`, by preference one that makes the scene belong to `split`.
    """
    categories = [phrase.category for phrase in sketch.objects]
    objects = tuple(
        place(
            rng,
            phrase.category,
            phrase.colour or _one_of(rng, tuple(COLOURS)),
            phrase.size or _one_of(rng, SIZES),
            cell,
        )
        for phrase, cell in zip(sketch.objects, _cells_for(sketch, rng), strict=True)
    )
    open_grounds = [sketch.ground] if sketch.ground else list(grounds)
    own = [ground for ground in open_grounds if belongs(categories, ground, split)]
    ground = _one_of(rng, own or open_grounds)
    return Scene(objects=objects, ground=ground, ground_seed=int(rng.integers(2**31)))


def _one_of(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _cells_for(sketch: Sketch, rng: np.random.Generator) -> list[int]:
    """Distinct cells in object order that satisfy the sketch's relation."""
    while True:
        cells = [int(c) for c in rng.permutation(len(_CELLS))[: len(sketch.objects)]]
        if sketch.relation is None or _holds(sketch.relation, cells[0], cells[1]):
            return cells


def _holds(relation: str, first: int, second: int) -> bool:
    columns, rows = (first % GRID, second % GRID), (first // GRID, second // GRID)
    return (
        columns[0] < columns[1],
        columns[0] > columns[1],
        rows[0] < rows[1],
        rows[0] > rows[1],
    )[RELATIONS.index(relation)]


def _exchange(item: SceneObject, wanted: NounPhrase, rng: np.random.Generator) -> SceneObject:
    """Another object at the same place and size; keeps the colour unless the words name one."""
    return dataclasses.replace(
        item,
        category=wanted.category,
        colour=wanted.colour or item.colour,
        seed=int(rng.integers(2**31)),
    )


def _redrawn(scene: Scene, rng: np.random.Generator, split: Split) -> Scene:
    """Same objects, other places, other poses, another ground: a generator that lost the layout."""
    cells = rng.permutation(len(_CELLS))[: len(scene.objects)]
    objects = tuple(
        place(rng, item.category, item.colour, item.size, int(cell))
        for item, cell in zip(scene.objects, cells, strict=True)
    )
    categories = [item.category for item in objects]
    grounds = [ground for ground in GROUNDS if allowed(categories, ground, split)]
    return Scene(
        objects=objects, ground=_one_of(rng, grounds), ground_seed=int(rng.integers(2**31))
    )


def _recoloured(scene: Scene, changed: int, rng: np.random.Generator) -> Scene:
    others = [index for index in range(len(scene.objects)) if index != changed]
    index = others[int(rng.integers(len(others)))]
    item = scene.objects[index]
    colour = _one_of(rng, [name for name in COLOURS if name != item.colour])
    return replace_object(scene, index, dataclasses.replace(item, colour=colour))


def _with_noise(image: Image.Image, noise: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image).astype(np.float64)
    grain = rng.normal(0.0, noise, size=pixels.shape) if noise else 0.0
    return Image.fromarray(np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8))


def _truth(
    left: Scene, right: Scene, left_drawn: Drawing, right_drawn: Drawing, note: str
) -> PairTruth:
    changes = tuple(
        Change(left_name=a.category, right_name=b.category, left_box=left_box, right_box=right_box)
        for a, b, left_box, right_box in zip(
            left.objects, right.objects, left_drawn.boxes, right_drawn.boxes, strict=True
        )
        if (a.category, a.colour, a.cell) != (b.category, b.colour, b.cell)
    )
    return PairTruth(
        changes=changes,
        left_objects=_named(left, left_drawn),
        right_objects=_named(right, right_drawn),
        note=note,
    )


def _named(scene: Scene, drawing: Drawing) -> tuple[NamedBox, ...]:
    return tuple(
        NamedBox(name=item.category, box=box)
        for item, box in zip(scene.objects, drawing.boxes, strict=True)
    )


__all__ = [
    "RenderConfig",
    "RenderGenerator",
    "Split",
    "Vocabulary",
    "drawable",
    "most_objects",
    "scene_from",
    "split_named",
    "things_of",
    "world_captions",
    "world_lexicon",
]

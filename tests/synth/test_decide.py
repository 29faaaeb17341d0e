"""Decisions over many boxes at once are those that the stages take box by box."""

from __future__ import annotations

import numpy as np
import pytest

from imgdiff.core.geometry import box_from, has_pixels
from imgdiff.core.records import ImagePair, Region
from imgdiff.core.store import Store, packed
from imgdiff.core.tables import ABSENT, NOTHING
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.decide import REASONS, BoxColumns, Fate, accepts, fates
from imgdiff.synth.nouns import ChangedNouns
from imgdiff.synth.regions import BOX_DIGITS, MatchItem, compare_crops, match_key, match_objects
from imgdiff.synth.scores import BoxAsk, box_scores
from imgdiff.synth.selection import Combine, Interval, Order, Rules
from imgdiff.synth.states import ItemState, Proposals, RegionState, proposals_of
from imgdiff.synth.tools import Backends, Tools

WIDTH, HEIGHT = 200, 100
NOUNS = ChangedNouns(left=("cat",), right=("dog",))
OPEN = Rules(min_area=0.0)
RULES = {
    "published": Rules(
        crop_similarity=Interval(below=0.85), match=Interval(above=0.35), max_candidates=10,
        max_regions=5,
    ),
    "both sides": Rules(
        crop_similarity=Interval(at_least=0.2, at_most=0.9), match=Interval(at_least=0.3),
        match_combine=Combine.both, max_iou=0.2, max_area=0.1,
    ),
    "detector's order": Rules(
        order=Order.detector, plus_one=False, max_iou=0.7, max_candidates=None, max_regions=None,
    ),
    "strict": Rules(crop_similarity=Interval(above=0.4, below=0.5), max_iou=0.0, max_regions=1),
    "few": Rules(max_iou=0.9, max_candidates=4, max_regions=2, min_area=0.01),
    "open": OPEN,
}  # fmt: skip


def random_pair(dice: np.random.Generator, name: str) -> tuple[ItemState, np.ndarray, np.ndarray]:
    """An item with proposed boxes, many of them alike, and their crop and match scores."""
    images = ImagePair(
        id=name, left_caption="a cat", right_caption="a dog", left_path="", right_path="",
        left_id=name + "l", right_id=name + "r", width=WIDTH, height=HEIGHT, seed=0,
    )  # fmt: skip
    count = int(dice.integers(0, 40))
    corners = np.sort(dice.uniform(-0.2, 1.1, (count, 2, 2)) * (WIDTH, HEIGHT), axis=1)
    corners = np.clip(corners, 0, (WIDTH, HEIGHT)).reshape(count, 4)
    corners[dice.random(count) < 0.3] = corners[:1] if count else 0  # equal boxes
    corners = np.round(corners, BOX_DIGITS)
    boxes = [box_from(row) for row in corners]
    split = int(dice.integers(0, count + 1))
    state = ItemState(id=name, caption=None, images=images, nouns=NOUNS)
    state.proposals = proposals_of(images, boxes[:split], boxes[split:])
    for number, box in enumerate(state.proposals.boxes):
        region = Region(
            id=f"{name}-{number}", pair_id=name, side=state.proposals.side(number), box=box
        )
        state.regions.append(RegionState(region=region, number=number))
        if not has_pixels(box, WIDTH, HEIGHT):
            state.regions[-1].reject("regions", "box without a pixel")
    crops = np.round(dice.choice([0.3, 0.45, 0.85, 0.9, *dice.random(6)], (count, 1)), 6)
    matches = np.round(dice.choice([0.3, 0.35, np.nan, *dice.random(5)], (count, 2)), 6)
    return state, crops, matches


def filled(tools: Tools, state: ItemState, crops: np.ndarray, matches: np.ndarray) -> None:
    """Put the scores of a pair into the store."""
    proposals = state.proposals
    assert isinstance(proposals, Proposals) and state.images is not None  # noqa: PT018
    texts = ((("cat",), ("dog",)),) * 2
    item = MatchItem(images=state.images, proposals=proposals, texts=texts)
    for kind, role, key, scores in (
        ("crop_similarity", "embedder", proposals.key, crops),
        ("match", "matcher", match_key(proposals.key, texts), matches),
    ):
        of = len(proposals.boxes)
        asked = [BoxAsk(key=key, number=n, of=of, item=item) for n in range(of)]
        box_scores(
            tools, kind, role, asked, lambda items, s=scores: [s[n] for _, n in items],
            width=scores.shape[1],
        )  # fmt: skip


def columns_of(pairs) -> BoxColumns:
    """The same as columns."""
    counts = [len(state.regions) for state, _, _ in pairs]
    boxes = [b.as_tuple() for state, _, _ in pairs for b in state.proposals.boxes]
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return BoxColumns(
        pair_B=np.repeat(np.arange(len(pairs)), np.array(counts, dtype=int)),
        corners_B4=packed(corners, BOX_DIGITS).reshape(-1, 4),
        crop_B=packed(np.concatenate([np.zeros((0, 1)), *(c for _, c, _ in pairs)]), 6),
        match_B2=packed(np.concatenate([np.zeros((0, 2)), *(m for _, _, m in pairs)]), 6).reshape(
            -1, 2
        ),
        sizes_P2=np.array([[WIDTH, HEIGHT]] * len(pairs), dtype=int).reshape(-1, 2),
    )


@pytest.mark.parametrize("name", RULES)
def test_fates_are_those_of_the_stages(name: str, tmp_path) -> None:
    register()
    config = compose_typed("synth", SynthConfig, [])
    config.rules = RULES[name]
    dice = np.random.default_rng(len(name))
    pairs = [random_pair(dice, f"p{n}") for n in range(60)]
    with Backends(config) as backends:
        tools = Tools(config, Store(tmp_path, "source"), backends, 0)
        for state, crops, matches in pairs:
            filled(tools, state, crops, matches)
        states = [state for state, _, _ in pairs]
        compare_crops(states, tools)
        match_objects(states, tools)
        assert backends.loaded == []
    found = fates(columns_of(pairs), config.rules)
    wanted = [
        (region.rejected.stage, region.rejected.reason) if region.rejected else None
        for state in states
        for region in state.regions
    ]
    assert [REASONS.get(Fate(code)) for code in found] == wanted
    stands = [bool((found[columns_of(pairs).pair_B == n] == 0).any()) for n in range(60)]
    assert stands == [state.rejected is None for state in states]
    assert 0 < sum(stands) < 60


def test_every_reason_occurs_in_these_tests() -> None:
    dice = np.random.default_rng(0)
    columns = columns_of([random_pair(dice, f"p{n}") for n in range(300)])
    seen = {Fate(int(code)) for rules in RULES.values() for code in fates(columns, rules)}
    assert seen == set(Fate) - {Fate.UNKNOWN}


def test_a_missing_score_is_told_where_it_is_needed_and_only_there() -> None:
    columns = BoxColumns(
        pair_B=np.array([0, 0, 1, 1, 2]),
        corners_B4=packed(np.array([[0, 0, 10, 10]] * 5, dtype=float), BOX_DIGITS).reshape(-1, 4),
        crop_B=np.array([500_000, ABSENT, 900_000, 500_000, 500_000], dtype=np.int32),
        match_B2=np.array(
            [[900_000, 0], [0, 0], [ABSENT, ABSENT], [NOTHING, 900_000], [ABSENT] * 2],
            dtype=np.int32,
        ),
        sizes_P2=np.array([[20, 20]] * 3),
    )
    rules = Rules(crop_similarity=Interval(below=0.85), match=Interval(above=0.3))
    assert [Fate(code).name for code in fates(columns, rules)] == [
        "STANDS", "UNKNOWN", "CROPS_ALIKE", "STANDS", "UNKNOWN",
    ]  # fmt: skip


def test_no_boxes_at_all() -> None:
    columns = columns_of([])
    assert fates(columns, OPEN).shape == (0,)


@pytest.mark.parametrize(
    "interval",
    [Interval(), Interval(above=0.3), Interval(at_least=0.3), Interval(below=0.3),
     Interval(at_most=0.3), Interval(above=0.1, at_most=0.3)],
)  # fmt: skip
def test_many_scores_are_accepted_as_one_is(interval: Interval) -> None:
    scores = np.array([0.0, 0.1, 0.299999, 0.3, 0.300001, 1.0])
    assert accepts(interval, scores).tolist() == [interval.accepts(s) for s in scores.tolist()]
    assert not accepts(interval, np.array([np.nan]))[0]

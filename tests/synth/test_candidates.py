"""Several image pairs for one caption pair: how they are drawn, and which one stays."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from imgdiff.backends.checkpoints import mini_root
from imgdiff.backends.protocols import Refusal
from imgdiff.backends.world import RenderConfig
from imgdiff.core.errors import ConfigError
from imgdiff.core.images import open_rgb
from imgdiff.core.records import Caption, CaptionPair
from imgdiff.core.store import Store
from imgdiff.launch import compose_typed
from imgdiff.synth.candidates import compare_images, with_seeds
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pairs import edit_captions, generate_pairs
from imgdiff.synth.pipeline import run
from imgdiff.synth.states import ItemState
from imgdiff.synth.tools import Backends, Tools

needs_clip = pytest.mark.skipif(
    not (mini_root() / "clip").exists(), reason="mini family not built yet"
)
CAPTIONS = (
    "There is a shirt, a large red rocket, a red television and a green clock.",
    "A picture of an orange rabbit, a mushroom, a white chair and a red train.",
    "A photo of a white shirt to the left of an orange fish on a speckled background.",
)
PAIR = CaptionPair(id="a", left="a cup", right="a dog", seed=5)
STAGES = (edit_captions, generate_pairs, compare_images)
GENERATOR = type(RenderConfig().build())


def composed(*overrides: str) -> SynthConfig:
    register()
    return compose_typed("synth", SynthConfig, list(overrides))


def states_after(stages, tmp_path, *overrides):
    """Items after some stages, and what they were made with."""
    config = composed(*overrides)
    states = [
        ItemState(id=f"item{n}", caption=Caption(id=f"item{n}", text=text))
        for n, text in enumerate(CAPTIONS)
    ]
    with Backends(config) as backends:
        tools = Tools(config, Store(tmp_path / "store", "source"), backends, 0)
        for stage in stages:
            stage(states, tools)
    return states, tools


def test_the_first_candidate_is_drawn_as_if_it_were_alone() -> None:
    assert with_seeds(PAIR, 0, 1) == [PAIR]
    three, four = with_seeds(PAIR, 0, 3), with_seeds(PAIR, 0, 4)
    assert three[0] == PAIR
    assert four[:3] == three
    assert len({pair.seed for pair in four}) == 4
    assert with_seeds(PAIR, 1, 3)[1].seed != three[1].seed


def expected_direction(images, tools):
    """From the definition, in float64."""
    with tools.config.embedder.build() as embedder:
        rows = embedder.embed_images(
            [open_rgb(tools.root / path) for path in (images.left_path, images.right_path)]
        )
        texts = embedder.embed_texts([images.left_caption, images.right_caption])
    shown, said = (np.float64(pair[1]) - pair[0] for pair in (rows, texts))
    return shown @ said / np.linalg.norm(shown) / np.linalg.norm(said)


@needs_clip
def test_of_those_that_pass_the_one_that_changed_as_its_words_stays(tmp_path) -> None:
    states, tools = states_after(STAGES, tmp_path, "candidates=4")
    rules = tools.config.rules
    contested = 0
    for state in states:
        assert len({one.images.seed for one in state.candidates}) == 4
        passing = [
            one for one in state.candidates if rules.image_similarity.accepts(one.similarity)
        ]
        assert state.rejected is None
        if len(passing) > 1:
            contested += 1
            wanted = [expected_direction(one.images, tools) for one in passing]
            found = [one.direction for one in passing]
            np.testing.assert_allclose(found, wanted, atol=2e-5)
            assert state.images == passing[int(np.argmax(found))].images
            assert state.direction == max(found)
        else:
            assert state.images == passing[0].images
            assert state.direction is None
    assert contested


@needs_clip
def test_an_item_falls_when_none_of_its_candidates_passes(tmp_path) -> None:
    never = "rules.image_similarity={above: 0.9999, below: 1.0}"
    states, _ = states_after(STAGES, tmp_path, "candidates=2", never)
    for state in states:
        assert state.rejected is not None
        assert state.rejected.reason == "images too different"
        assert state.images == state.candidates[0].images


def test_more_candidates_draw_only_the_new_ones(tmp_path, monkeypatch) -> None:
    drawn: list[int] = []
    real = GENERATOR.generate

    def counting(self, pairs):
        drawn.append(len(pairs))
        return real(self, pairs)

    monkeypatch.setattr(GENERATOR, "generate", counting)
    alone, _ = states_after(STAGES[:2], tmp_path)
    more, _ = states_after(STAGES[:2], tmp_path, "candidates=3")
    assert drawn == [3, 6]
    for one, many in zip(alone, more, strict=True):
        assert one.images == many.images == many.candidates[0].images


def test_an_item_is_refused_only_if_all_its_candidates_are(tmp_path, monkeypatch) -> None:
    real = GENERATOR.generate

    def fussy(self, pairs):
        made = real(self, pairs)
        for n, pair in enumerate(pairs):
            if pair.id == "item0" or (pair.id == "item1" and n % 2 == 0):
                made[n] = Refusal(reason="no room", detail=str(n))
        return made

    monkeypatch.setattr(GENERATOR, "generate", fussy)
    states, _ = states_after(STAGES[:2], tmp_path, "candidates=2")
    assert [len(state.candidates) for state in states] == [0, 1, 2]
    assert [state.rejected and state.rejected.detail for state in states] == ["0", None, None]
    assert states[1].images == states[1].candidates[0].images
    assert states[1].images.seed != states[1].pair.seed


@needs_clip
def test_the_seed_of_the_chosen_candidate_is_on_record(tmp_path) -> None:
    settings = ["source.limit=6", "source.split=test", "workers=1", "edit=remove",
                "removal.check=none", f"store_dir={tmp_path / 'store'}"]  # fmt: skip
    for count in (1, 3):
        run(composed(*settings, f"candidates={count}", f"output_dir={tmp_path / str(count)}"))
    alone, best = (
        pq.read_table(tmp_path / str(count) / "pairs.parquet").to_pylist() for count in (1, 3)
    )
    assert all(row["direction"] is None for row in alone)
    moved = [a["seed"] != b["seed"] for a, b in zip(alone, best, strict=True)]
    assert [a["image_0"] != b["image_0"] for a, b in zip(alone, best, strict=True)] == moved
    assert any(moved)
    assert not all(row["direction"] is None for row in best)
    assert json.loads((tmp_path / "3" / "funnel.json").read_text())["items"][0]["in"] == 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["candidates=0"], r"candidates=0: must be >= 1"),
        (
            ["candidates=2", "generator=composite", "source=coco", "source.root=x"],
            r"candidates=2: they are chosen by image similarity.*regions_from=segmenter",
        ),
    ],
)
def test_wrong_counts_are_named(overrides, message) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(*overrides)

"""Funnels by look-up are those of whole runs, and what is missing is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from imgdiff.backends.checkpoints import mini_root
from imgdiff.core.store import Store
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pairs import edit_captions, generate_pairs
from imgdiff.synth.pipeline import run
from imgdiff.synth.selection import Combine, Interval, Order, Rules
from imgdiff.synth.states import state_from_json
from imgdiff.synth.sweep.rows import look_up
from imgdiff.synth.tools import Backends, Tools
from imgdiff.synth.work import Layout

FAMILY = ("clip", "blip", "fastsam", "describer")
pytestmark = pytest.mark.skipif(
    not all((mini_root() / name).exists() for name in FAMILY), reason="mini family not built yet"
)
ROWS = {
    "as calibrated": {},
    "stricter": {"crop_similarity": Interval(below=0.8), "match": Interval(above=0.4)},
    "alike images only": {"image_similarity": Interval(above=0.5, below=0.9)},
    "both sides": {"match_combine": Combine.both, "max_regions": 1, "max_iou": 0.2},
    "strict contents": {
        "content_similarity": Interval(below=0.5), "content_match": Interval(above=0.6),
    },
    "order of the detector": {"order": Order.detector, "max_candidates": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with all that the rows need, and the funnel of a whole run of each row."""
    register()
    folder = tmp_path_factory.mktemp("sweep")
    funnels, configs = {}, {}
    for name, changes in ROWS.items():
        config = compose_typed(
            "synth", SynthConfig,
            ["source.limit=24", "source.split=test", "workers=1", "describe.sentence_by=template",
             "shard_size=10", f"output_dir={folder / name}", f"store_dir={folder / 'store'}"],
        )  # fmt: skip
        config.rules = replace(config.rules, **changes)
        run(config)
        funnels[name] = json.loads((folder / name / "funnel.json").read_text())
        configs[name] = config
    return folder, configs, funnels


def shards_of(folder, config):
    """The shards of the run, their image pairs drawn (from the store)."""
    from imgdiff.core.identity import fingerprint
    from imgdiff.synth.pipeline import run_settings, write_shards

    settings = run_settings(config)
    source = fingerprint(settings["source"] | {"limit": None}, config.seed, config.shard_size)
    layout = Layout(output=folder / "look", store=folder / "store", source=source)
    count, _ = write_shards(config, layout)
    store, backends = Store(layout.store, layout.source), Backends(config)
    shards = []
    for number in range(count):
        rows = json.loads(layout.shard(number).read_text())
        states, tools = (
            [state_from_json(row) for row in rows],
            Tools(config, store, backends, number),
        )
        edit_captions(states, tools)
        generate_pairs(states, tools)
        shards.append((states, tools))
    return shards, backends


def test_every_row_is_decided_as_by_its_own_run(filled) -> None:
    folder, configs, funnels = filled
    shards, backends = shards_of(folder, configs["as calibrated"])
    assert len(shards) == 3
    rows = [config.rules for config in configs.values()]
    found = look_up(rows, shards)
    for funnel, wanted in zip(found, funnels.values(), strict=True):
        assert funnel is not None
        assert funnel.report() == wanted
    assert backends.loaded == []
    assert len({json.dumps(funnel) for funnel in funnels.values()}) == len(ROWS)
    assert look_up(rows[:1], shards)[0].report() == funnels["as calibrated"]


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_similarity": Interval()},  # boxes that no run matched with nouns
        {"max_iou": 1.0, "max_candidates": None, "max_regions": None},  # that none described
        {"content_similarity": Interval(), "content_match": Interval(above=0.9)},
    ],
)
def test_a_row_that_needs_what_is_not_there_is_told(filled, changes) -> None:
    folder, configs, funnels = filled
    shards, _ = shards_of(folder, configs["as calibrated"])
    fine = configs["as calibrated"].rules
    missing, there = look_up([replace(fine, **changes), fine], shards)
    assert there is not None
    assert there.report() == funnels["as calibrated"]
    if changes.get("content_similarity") is None:
        assert missing is None


def test_an_empty_store_misses_everything(filled, tmp_path) -> None:
    folder, configs, _ = filled
    shards, _ = shards_of(folder, configs["as calibrated"])
    empty = [
        (states, Tools(tools.config, Store(tmp_path / "new", "s"), tools.backends, tools.shard))
        for states, tools in shards
    ]
    assert look_up([configs["as calibrated"].rules], empty) == [None]


def test_items_that_fell_before_are_counted(filled) -> None:
    folder, configs, _ = filled
    shards, _ = shards_of(folder, configs["as calibrated"])
    shards[0][0][0].reject("generate", "no room")
    (funnel,) = look_up([Rules(image_similarity=Interval(above=2.0))], shards)
    assert funnel is not None
    report = funnel.report()
    assert [step["out"] for step in report["items"]] == [24, 24, 23, 0, 0]
    assert report["samples"] == 0

"""The plan of a run: every sample once per epoch, right shares, the same for every world size."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_parts import lengths_of, talk, text_table, write_json

from imgdiff.core.errors import ConfigError, DataError, StoreError
from imgdiff.train.mixing import interleaved
from imgdiff.train.plan import (
    Batching,
    Plan,
    PlanBatches,
    PlanConfig,
    load_plan,
    make_plan,
    useful_share,
)
from imgdiff.train.source_config import RowRules, SourceConfig
from imgdiff.train.table import Table, open_table

MANY = 4096
EVERY = list(Batching)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


def opened(folder: Path, **sources: dict[str, Any]) -> Table:
    """A table of sources named by their numbers of rows: n50={}, n7={"weight": ...}."""
    configs = {}
    for name, settings in sources.items():
        count = int(name[1:])
        path = text_table(folder, name, count, count // 2)
        configs[name] = SourceConfig(path=str(path), **settings)
    return open_table(configs, RowRules(), folder / "cache")


def planned(table: Table, **settings: Any) -> Plan:
    config = PlanConfig(**({"batch_size": 8, "micro_batch_size": 2} | settings))
    return make_plan(config, table, MANY, lengths_of(table.column("words") * 2))


def micro(plan: Plan) -> list[list[int]]:
    return [plan.rows[list(plan.places(k))].tolist() for k in range(plan.micro_batches)]


@pytest.mark.parametrize("batching", EVERY)
@pytest.mark.parametrize(("names", "total"), [(("n50", "n7"), 57), (("n40",), 40), (("n50",), 50)])
def test_every_sample_once_per_epoch(
    folder: Path, batching: Batching, names: tuple[str, ...], total: int
) -> None:
    table = opened(folder, **{name: {} for name in names})
    plan = planned(table, batching=batching, epochs=3.0)
    steps = -(-total // 8)
    assert (plan.steps, plan.micro_batches, len(plan.starts)) == (
        3 * steps,
        12 * steps,
        12 * steps + 1,
    )
    per_epoch = len(plan.rows) // 3
    fill = max(0, 4 - total % 8) if total % 8 else 0  # one sample per micro-batch at least
    assert per_epoch == total + fill
    for epoch in range(3):
        counted = Counter(plan.rows[epoch * per_epoch : (epoch + 1) * per_epoch].tolist())
        assert sorted(counted) == list(range(total))
        assert sorted(counted.values(), reverse=True)[:fill] == [2] * fill
        assert sum(counted.values()) == total + fill
    sizes = np.diff(plan.starts)
    assert sizes.min() >= 1
    assert sizes.max() == 2
    assert plan.rows.dtype == np.int32
    assert plan.starts.dtype == np.int64


def test_all_groupings_see_the_same_and_packing_the_same_per_step(folder: Path) -> None:
    table = opened(folder, n50={}, n7={})
    plans = {batching: planned(table, batching=batching, epochs=2.0) for batching in EVERY}
    multisets = {batching: sorted(plan.rows.tolist()) for batching, plan in plans.items()}
    assert all(multiset == multisets[Batching.plain] for multiset in multisets.values())
    assert len({plan.identity for plan in plans.values()}) == len(EVERY)
    plain, pack = plans[Batching.plain], plans[Batching.pack]
    assert np.array_equal(plain.starts, pack.starts)
    for first in range(0, plain.micro_batches, 4):
        step = slice(int(plain.starts[first]), int(plain.starts[first + 4]))
        assert sorted(plain.rows[step].tolist()) == sorted(pack.rows[step].tolist())


def test_modality_keeps_images_and_texts_apart(folder: Path) -> None:
    table = opened(folder, n50={}, n7={})
    shown = table.column("pictures") > 0
    batches = micro(planned(table, batching=Batching.modality))
    mixed = [len(set(shown[rows])) > 1 for rows in batches]
    whole_steps = 28 // 8 + 29 // 8 - 1  # at most one step of each kind is set apart
    assert not any(mixed[: 4 * (whole_steps - 1)])
    assert any(mixed)


@pytest.mark.parametrize("batching", EVERY)
def test_world_size_does_not_matter(folder: Path, batching: Batching) -> None:
    plan = planned(opened(folder, n50={}, n7={}), batching=batching, epochs=2.0)
    alone = list(PlanBatches(plan))
    for world in (2, 4):
        ranks = [list(PlanBatches(plan, rank, world)) for rank in range(world)]
        assert len({len(rank) for rank in ranks}) == 1
        assert [batch for together in zip(*ranks, strict=True) for batch in together] == alone
    assert [plan.rows[places].tolist() for places in alone] == micro(plan)


def test_a_world_that_does_not_divide_is_refused(folder: Path) -> None:
    plan = planned(opened(folder, n40={}))
    with pytest.raises(ConfigError, match=r"3 devices cannot share 4 micro-.*\[1, 2, 4\] devices"):
        PlanBatches(plan, 0, 3)
    with pytest.raises(ConfigError, match=r"rank=2: must lie in 0 \.\. 1"):
        PlanBatches(plan, 2, 2)


def test_a_sampler_goes_on_where_it_is_told(folder: Path) -> None:
    plan = planned(opened(folder, n40={}))
    whole = PlanBatches(plan, 1, 2)
    late = PlanBatches(plan, 1, 2, start=4)
    assert list(late) == list(whole)[4:]
    assert len(late) == len(whole) == 10
    late.start = 9
    assert list(late) == list(whole)[9:]


def share_order(sizes: list[int], share: float, total: int, seed: int) -> list[tuple[int, int]]:
    """(source, row): the second source fills `share` of every prefix, rounded half up."""
    orders = []
    for source, size in enumerate(sizes):
        epochs = range(-(-total // size))
        draws = [np.random.default_rng([seed, source, epoch]) for epoch in epochs]
        orders.append(iter(np.concatenate([draw.permutation(size) for draw in draws]).tolist()))
    filled = [math.floor(share * place + 0.5) for place in range(total + 1)]
    sources = [int(filled[place + 1] > filled[place]) for place in range(total)]
    return [(source, next(orders[source])) for source in sources]


@pytest.mark.parametrize("share", [0.1, 1 / 3, 0.5, 0.6, 0.7, 0.999])
@pytest.mark.parametrize("seed", [0, 3])
def test_two_weights_give_the_order_of_the_share(folder: Path, share: float, seed: int) -> None:
    table = opened(folder, n50={"weight": 1 - share}, n7={"weight": share})
    plan = planned(table, max_steps=30, seed=seed)
    found = [(int(row >= 50), row - 50 * (row >= 50)) for row in plan.rows.tolist()]
    assert found == share_order([50, 7], share, 240, seed)
    alone = planned(opened(folder, n50={"weight": 2.0}), max_steps=30, seed=seed)
    expected = share_order([50], 0.0, 240, seed)
    assert [(0, row) for row in alone.rows.tolist()] == expected


@pytest.mark.parametrize(
    "weights", [[1.0], [3.0, 1.0], [5.0, 3.0, 2.0], [1.0] * 9, [90, 5, 3, 1, 1]]
)
def test_every_prefix_has_the_right_shares(weights: list[float]) -> None:
    sources = interleaved(weights, 2000)
    shares = np.asarray(weights) / sum(weights)
    counts = np.cumsum(sources[:, None] == np.arange(len(weights)), axis=0)
    off = np.abs(counts - shares * np.arange(1, 2001)[:, None])
    assert off.max() < (1 if len(weights) <= 2 else len(weights) / 2)
    assert (interleaved(weights, 500) == sources[:500]).all()


def test_repeats_and_fractions(folder: Path) -> None:
    table = opened(folder, n40={"repeat": 2.25}, n7={"repeat": 0.5})
    counted = Counter(planned(table).rows.tolist())
    extra = [counted[row] for row in range(40)]
    assert extra == [3] * 10 + [2] * 30  # the first quarter once more
    assert [counted[row] for row in range(40, 47)] == [1, 1, 1, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"n7\.json: repeat=0\.1 of 7 usable rows leaves no sample"):
        planned(opened(folder, n7={"repeat": 0.1}))


def test_excluded_rows_do_not_appear(folder: Path) -> None:
    table = opened(folder, n40={}, n7={})
    config = PlanConfig(batch_size=8, micro_batch_size=2)
    plan = make_plan(config, table, MANY, excluded=np.array([0, 41]))
    assert set(plan.rows.tolist()) == set(range(47)) - {0, 41}
    with pytest.raises(DataError, match="0 usable rows"):
        make_plan(config, table, MANY, excluded=np.arange(40, 47))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({"epochs": 1.0}, 6), ({"epochs": 2.0}, 12), ({"epochs": 0.5}, 3), ({"epochs": 1.1}, 7),
     ({"epochs": 9.0, "max_steps": 4}, 4), ({"max_steps": 20}, 20)],
)  # fmt: skip
@pytest.mark.parametrize("batching", EVERY)
def test_steps(folder: Path, batching: Batching, settings: dict[str, Any], steps: int) -> None:
    table = opened(folder, n40={}, n7={})
    plan = planned(table, batching=batching, **settings)
    assert (plan.steps, len(plan.rows)) == (steps, plan.starts[-1])
    longer = planned(table, batching=batching, max_steps=steps + 3)
    assert np.array_equal(longer.rows[: len(plan.rows)], plan.rows)
    assert plan.identity != longer.identity


def test_the_seed_and_only_the_seed(folder: Path) -> None:
    table = opened(folder, n50={}, n7={})
    for batching in EVERY:
        one, two = (planned(table, batching=batching, seed=seed) for seed in (1, 2))
        assert one.rows.tolist() != two.rows.tolist()
        assert one.identity == planned(table, batching=batching, seed=1).identity


SCRIPT = """
import sys
from pathlib import Path
from imgdiff.train.plan import Batching, PlanConfig, make_plan
from imgdiff.train.table import Table
config = PlanConfig(batching=Batching.modality, batch_size=8, micro_batch_size=2)
plan = make_plan(config, Table(Path(sys.argv[1])), 64)
assert "torch" not in sys.modules
print(plan.identity)
"""


def test_another_process_plans_the_same(folder: Path) -> None:
    table = opened(folder, n50={}, n7={})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(table.folder)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    config = PlanConfig(batching=Batching.modality, batch_size=8, micro_batch_size=2)
    assert (done.stdout.strip(), done.stderr) == (make_plan(config, table, 64).identity, "")


def test_saved_and_loaded(folder: Path, tmp_path: Path) -> None:
    plan = planned(opened(folder, n40={}))
    plan.save(tmp_path / "plan.npz")
    found = load_plan(tmp_path / "plan.npz", plan.identity)
    assert (found.rows.tolist(), found.starts.tolist()) == (
        plan.rows.tolist(),
        plan.starts.tolist(),
    )
    assert (found.micro_per_step, found.identity) == (4, plan.identity)
    with pytest.raises(StoreError, match=r"expected other: settings or data have changed"):
        load_plan(tmp_path / "plan.npz", "other")
    (tmp_path / "plan.npz").write_bytes(b"PK no")
    with pytest.raises(StoreError, match=r"plan\.npz: not a plan"):
        load_plan(tmp_path / "plan.npz")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 10, "micro_batch_size": 4}, r"=10 .*micro_batch_size=4.*\[1, 2, 5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"lockstep": 3}, r"lockstep=3: must divide the 8 micro-batches"),
        ({"lockstep": 0}, "lockstep=0"),
        ({"micro_batch_size": 0}, "micro_batch_size=0"),
        ({"max_steps": 0}, "max_steps=0"),
        ({"window_steps": 0}, "window_steps=0"),
        ({"epochs": 0.0}, "epochs=0.0: must be above 0"),
        ({"epochs": float("nan")}, "epochs=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)  # fmt: skip
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PlanConfig(**settings)


def test_lengths_are_asked_for(folder: Path) -> None:
    config = PlanConfig(batching=Batching.pack)
    with pytest.raises(ConfigError, match="batching=pack: token lengths must be counted first"):
        make_plan(config, opened(folder, n40={}), MANY)


def test_few_samples_and_useful_share(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [talk(1)])
    table = open_table({"a": SourceConfig(path=str(path))}, RowRules(), tmp_path / "cache")
    plan = planned(table)
    assert micro(plan) == [[0]] * 4  # one sample for each of four micro-batches
    given = Plan(
        rows=np.arange(4, dtype=np.int32), starts=np.array([0, 2, 4]), micro_per_step=1, identity=""
    )
    assert useful_share(given, np.array([1, 3, 2, 2])) == 8 / 10

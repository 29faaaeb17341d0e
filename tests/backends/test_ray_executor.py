"""Two Ray nodes on this machine: what each actor did, and what a lost one costs."""

import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray")

import ray_jobs
from ray.cluster_utils import Cluster

from imgdiff.backends.executors import RayConfig
from imgdiff.backends.ray_executor import spread_on_ray
from imgdiff.core.errors import BackendError, ConfigError, DataError

# Ray leaves sockets and processes to its own exit handlers.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster():
    """A head node that works not, and a node of one device."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.fixture(autouse=True)
def _actors_find_the_jobs(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(ray_jobs.__file__).parent))


def config(cluster, **settings):
    return RayConfig(address=cluster.address, **settings)


class Reports(list):
    """What the driver heard."""

    def __call__(self, amount, label):
        self.append((amount, label))

    @property
    def total(self):
        return sum(amount for amount, _ in self)


def test_shards_go_out_in_parts_and_results_come_in_order(cluster, tmp_path) -> None:
    heard = Reports()
    found = spread_on_ray(
        config(cluster, shards=2), partial(ray_jobs.squares, tmp_path), [3, 4, 5, 6, 9], heard
    )
    assert found == [[9, 16], [25, 36], [81]]
    assert heard.total == 5.0
    assert {path.name for path in tmp_path.iterdir()} == {"3", "4", "5", "6", "9"}


def test_an_error_of_ours_comes_back_as_it_is(cluster) -> None:
    with pytest.raises(DataError, match=r"^shard 7: a broken record$"):
        spread_on_ray(config(cluster), ray_jobs.refuse, [7], Reports())


def test_a_killed_actor_is_replaced_and_its_reports_do_not_count(cluster, tmp_path, capsys) -> None:
    heard = Reports()
    work = partial(ray_jobs.die_once, tmp_path)
    assert spread_on_ray(config(cluster, shards=2), work, [0, 1, 2, 3], heard) == [[0, 1], [2, 3]]
    assert heard.total == 4.0
    assert "Shards 0 to 1: their actor was lost" in capsys.readouterr().out


def test_shards_that_kill_every_actor_end_the_run(cluster) -> None:
    with pytest.raises(BackendError, match=r"shards 0 to 1: 2 actors were lost at them"):
        spread_on_ray(config(cluster, attempts=2), ray_jobs.die, [0, 1], Reports())


def test_a_node_that_is_lost_costs_its_shards_only(cluster, tmp_path) -> None:
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    shards = list(range(24))

    def kill() -> None:
        while len(list(tmp_path.iterdir())) < 8:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    heard = Reports()
    work = partial(ray_jobs.squares, tmp_path)
    found = spread_on_ray(config(cluster, shards=2), work, shards, heard)
    killer.join()
    assert [square for part in found for square in part] == [n * n for n in shards]
    assert heard.total == 24.0
    assert len({path.read_text() for path in tmp_path.iterdir()}) == 2  # both had worked


def test_a_node_that_does_not_see_the_folder_is_named(cluster, tmp_path, monkeypatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr("pathlib.Path.cwd", lambda: Path("/not/on/this/node"))
    with pytest.raises(BackendError, match=r"does not see /not/on/this/node"):
        spread_on_ray(config(cluster), ray_jobs.refuse, [0], Reports())


def test_an_address_where_nobody_answers_is_named() -> None:
    with pytest.raises(BackendError, match=r"executor\.address=127\.0\.0\.1:1: no Ray cluster"):
        spread_on_ray(RayConfig(address="127.0.0.1:1"), ray_jobs.refuse, [0], Reports())


def test_without_ray_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'imgdiff\[ray\]'"):
        spread_on_ray(RayConfig(), ray_jobs.refuse, [0], Reports())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"actors": 0}, r"executor\.actors=0: must be >= 1"),
        ({"shards": 0}, r"executor\.shards=0"),
        ({"attempts": -1}, r"executor\.attempts=-1"),
        ({"gpus": float("nan")}, r"executor\.gpus=nan: must be a number >= 0"),
        ({"cpus": 0.0, "gpus": 0.0}, "an actor needs one of them"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        RayConfig(**settings)

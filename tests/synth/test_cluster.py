"""A synthesis on a Ray cluster that loses a node: the bytes of a local run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

from ray.cluster_utils import Cluster

REPO = Path(__file__).parents[2]
SETTINGS = ("source.limit=16", "source.split=test", "shard_size=2")

# Ray leaves sockets and processes to its own exit handlers.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def cluster():
    """A head node that works not, and two nodes of one device each."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def command(folder, name, *settings):
    where = (f"output_dir={name}/out", f"store_dir={name}/store")  # relative: actors go there
    return subprocess.Popen(
        [sys.executable, "-m", "imgdiff.synth", *SETTINGS, *where, *settings],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )  # fmt: skip


def tree(folder):
    kept = ("funnel.json", "audit.json", "gallery.html", "pairs.parquet", "regions.parquet")
    files = [path for path in (folder / "dataset").rglob("*") if path.is_file()]
    files += [folder / name for name in kept]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_node_that_is_killed_half_way_changes_no_byte(tmp_path, cluster) -> None:
    local = command(tmp_path, "local", "workers=2")
    out, _ = local.communicate()
    assert local.returncode == 0, out
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray = ("executor=ray", f"executor.address={cluster.address}", "executor.shards=2")
    spread = command(tmp_path, "ray", *ray)
    while spread.poll() is None and len(list(tmp_path.glob("ray/out/work/part-*"))) < 2:
        time.sleep(0.1)
    assert spread.poll() is None
    cluster.remove_node(nodes[1], allow_graceful=False)
    out, _ = spread.communicate()
    assert spread.returncode == 0, out
    assert "their actor was lost; they go to another one" in out
    assert tree(tmp_path / "ray" / "out") == tree(tmp_path / "local" / "out")

"""The built wheel carries conf and checkpoints and runs from an empty folder by itself."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A second environment: the wheel unpacked into it, its dependencies seen through a .pth."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPO]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    # a .pth in the second environment does not follow the editable install's own .pth
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "env" / "bin" / "python", wheel


def test_conf_and_checkpoints_are_in_the_wheel(environment):
    names = zipfile.ZipFile(environment[1]).namelist()
    assert "imgdiff/conf/synth.yaml" in names
    assert "imgdiff/conf/profile/released_code.yaml" in names
    assert "imgdiff/backends/data/everyday.csv" in names
    assert "imgdiff/backends/data/wordnet.csv" in names
    assert "imgdiff/backends/data/wordnet.LICENSE.txt" in names
    assert "imgdiff/synth/gallery.css" in names
    shipped = sorted((REPO / "imgdiff" / "mini" / "checkpoints").rglob("*.*"))
    shipped += sorted((REPO / "imgdiff" / "backends" / "data" / "published").rglob("*.json"))
    for path in shipped:
        assert path.relative_to(REPO).as_posix() in names
    assert not any(name.startswith(("conf/", "tests/", "outputs/")) for name in names)


def test_the_wheel_runs_from_an_empty_folder(environment, tmp_path):
    python, _ = environment
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    where = subprocess.run(
        [python, "-c", "import imgdiff; print(imgdiff.__file__)"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(REPO) not in where.stdout
    done = subprocess.run(
        [python, "-m", "imgdiff.synth", "source.limit=3", "stop_after=generate", "workers=1"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "synth" / "audit.json").exists()

"""The doors to the folders that the world writes."""

from __future__ import annotations

import sys
from pathlib import Path

from imgdiff.backends.world_data import benchmark_folder, instructions_folder


def test_folders_are_written_once(tmp_path: Path) -> None:
    for folder_of, file in (
        (instructions_folder, "instructions.json"),
        (benchmark_folder, "Questions.csv"),
    ):
        folder = folder_of(tmp_path, 2, 0)
        written = (folder / file).stat().st_mtime_ns
        assert folder.parent == tmp_path
        assert folder_of(tmp_path, 2, 0) == folder
        assert (folder / file).stat().st_mtime_ns == written
        assert folder_of(tmp_path, 2, 1) != folder


def test_the_door_is_light() -> None:
    import subprocess

    code = "import sys, imgdiff.backends.world_data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The doors to the folders that the world writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from imgdiff.backends.world_data import (
    benchmark_folder,
    image_edit_request_folder,
    instructions_folder,
    spot_the_diff_folder,
)
from imgdiff.core.errors import ConfigError


def test_folders_are_written_once(tmp_path: Path) -> None:
    for folder_of, file in (
        (instructions_folder, "instructions.json"),
        (benchmark_folder, "Questions.csv"),
        (spot_the_diff_folder, "annotations/test.json"),
        (image_edit_request_folder, "test.json"),
    ):
        folder = folder_of(tmp_path, 2, 0)
        written = (folder / file).stat().st_mtime_ns
        assert folder.parent == tmp_path
        assert folder_of(tmp_path, 2, 0) == folder
        assert (folder / file).stat().st_mtime_ns == written
        assert folder_of(tmp_path, 2, 1) != folder


def test_each_split_has_a_folder_of_its_own(tmp_path: Path) -> None:
    for folder_of, files in (
        (spot_the_diff_folder, ("annotations/train.json", "annotations/val.json")),
        (image_edit_request_folder, ("train.json", "valid.json")),
    ):
        for split, file in zip(("train", "val"), files, strict=True):
            assert (folder_of(tmp_path, 1, 0, split) / file).is_file()
        assert folder_of(tmp_path, 1, 0, "validation") == folder_of(tmp_path, 1, 0, "val")
        with pytest.raises(ConfigError, match="split=testing: no such world"):
            folder_of(tmp_path, 1, 0, "testing")


def test_the_door_is_light() -> None:
    import subprocess

    code = "import sys, imgdiff.backends.world_data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

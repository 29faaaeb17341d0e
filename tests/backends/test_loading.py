"""What loading a checkpoint says where it fails."""

from __future__ import annotations

import pytest
import torch

from imgdiff.backends.loading import loading
from imgdiff.core.errors import BackendError


def load(error: Exception) -> None:
    with loading("describer.model", "a/model"):
        raise error


def test_weights_that_do_not_fit_name_the_setting_and_the_limit() -> None:
    with pytest.raises(
        BackendError, match=r"describer\.model=a/model: its weights do not fit.*memory_limit"
    ):
        load(torch.OutOfMemoryError("CUDA out of memory."))


@pytest.mark.parametrize("error", [OSError("no such file"), ValueError("bad"), KeyError("layer")])
def test_a_damaged_checkpoint_names_the_setting(error: Exception) -> None:
    with pytest.raises(BackendError, match=r"describer\.model=a/model: cannot be loaded"):
        load(error)


def test_another_error_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="a defect"):
        load(RuntimeError("a defect"))

"""The trainer under torch's FSDP, two processes on gloo."""

from __future__ import annotations

import pytest
from sharded_runs import Trained, assert_alike

from imgdiff.train.config import StrategyKind, Tuning

FSDP = {"strategy": StrategyKind.fsdp.value, "devices": 2}


@pytest.mark.parametrize("tuning", [Tuning.full, Tuning.lora])
def test_fsdp_ends_where_one_device_ends(tuning: Tuning, trained: Trained) -> None:
    """Losses, clipping under accumulation, and the gathered checkpoint name by name."""
    losses, weights = trained("single", tuning=tuning.value, clip=0.5)
    sharded_losses, gathered = trained("fsdp", tuning=tuning.value, clip=0.5, **FSDP)
    assert sharded_losses == pytest.approx(losses, rel=1e-4)
    assert_alike(gathered, weights, 1e-4)


def test_a_sharded_run_that_dies_goes_on_to_the_same_bytes(trained: Trained) -> None:
    whole = trained("whole", **FSDP)
    broken = trained("broken", die_after=4, **FSDP)
    assert broken[0] == whole[0]
    assert_alike(broken[1], whole[1], 0.0)

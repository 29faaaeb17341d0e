"""The loader of a device, and where in the plan it stands: what makes a resume exact."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from imgdiff.backends.readers import Reader
from imgdiff.core.errors import StoreError
from imgdiff.train.collate import Item, PlannedSamples, collator_of
from imgdiff.train.config import TrainConfig
from imgdiff.train.data import Planned
from imgdiff.train.plan import PlanBatches


class PlannedData(pl.LightningDataModule):
    """Micro-batches of the plan for this device; its state says how many are done.

    Lightning restores the state before it makes the loader's iterator, because the number of
    steps comes from the plan (its own estimate would make the iterator first; Lightning #20550).
    """

    def __init__(self, planned: Planned, reader: Reader, config: TrainConfig) -> None:
        super().__init__()
        self._planned, self._reader, self._config = planned, reader, config
        self._start = 0

    def train_dataloader(self) -> DataLoader[Item]:
        """All micro-batches of this device (`MicroBatch`) from where the run stands."""
        config, reader, plan = self._config, self._reader, self._planned.plan
        trainer = self.trainer
        assert trainer is not None
        samples = PlannedSamples(self._planned.table, plan, reader, config.model.max_tokens)
        sampler = PlanBatches(plan, trainer.global_rank, trainer.world_size, self._start)
        return DataLoader(
            samples,
            batch_sampler=sampler,
            collate_fn=collator_of(config, reader.pad_id),
            num_workers=config.workers,
            pin_memory=torch.cuda.is_available(),
            # Forking after threads have started can hang; workers open the table by its path.
            multiprocessing_context="spawn" if config.workers else None,
            persistent_workers=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Micro-batches that this device has done, and of which plan."""
        trainer = self.trainer
        assert trainer is not None
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        return {"done": int(progress.processed), "plan": self._planned.plan.identity}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin after what is done. StoreError where the state is of another plan."""
        if state_dict["plan"] != self._planned.plan.identity:
            raise StoreError(
                f"the resume point was written for plan {state_dict['plan']}, and these settings "
                f"and data make plan {self._planned.plan.identity}. Restore them, or begin anew "
                "with overwrite=true."
            )
        self._start = int(state_dict["done"])

"""A preview: plan the run, take its first samples, show and write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imgdiff.core.console import console, say
from imgdiff.core.files import write_text
from imgdiff.core.images import save_image
from imgdiff.train.preview.config import PreviewConfig

if TYPE_CHECKING:  # they import torch
    from imgdiff.train.data import Planned
    from imgdiff.train.models import Base

PAGE_FILE = "preview.html"
PICTURES = "sample-*.png"


def run(config: PreviewConfig) -> Path:
    """Show and write the first samples of the run that these settings describe; the page.

    Everything of the data that a run checks is checked. No weight is loaded or need be there.
    """
    from imgdiff.train.data import plan_run
    from imgdiff.train.models import find_base, open_reader
    from imgdiff.train.preview.card import card
    from imgdiff.train.preview.page import page
    from imgdiff.train.preview.shown import first_samples
    from imgdiff.train.preview.terminal import show, show_legend

    base = find_base(config.model, Path(config.cache_dir), needs_weights=False)
    planned = plan_run(config, reader := open_reader(config.model, base))
    for notice in planned.notices:
        say(notice)
    samples = first_samples(config, planned, reader, config.samples)
    show_legend(console)
    for sample in samples:
        show(sample, len(samples), console)
    output = Path(config.output_dir)
    for old in output.glob(PICTURES):
        old.unlink()
    for sample in samples:
        save_image(card(sample), output / PICTURES.replace("*", f"{sample.number:03d}"))
    written = page(samples, _facts(config, base, planned), planned.notices)
    write_text(output / PAGE_FILE, written)
    say(f"{output / PAGE_FILE}: {len(samples)} samples, each as {PICTURES} too")
    return output / PAGE_FILE


def _facts(config: PreviewConfig, base: Base, planned: Planned) -> dict[str, object]:
    """What the samples are a part of."""
    plan = planned.plan
    return {
        "model": base.name,
        "steps": plan.steps,
        "micro-batches": plan.micro_batches,
        "samples": len(plan.rows),
        "batching": config.batching.value,
        "samples of a step": config.batch_size,
        "of a micro-batch": config.micro_samples,
        "max_tokens": config.model.max_tokens,
        "sources": ", ".join(f"{s.name} ({s.rows})" for s in planned.table.sources),
        "plan": plan.identity,
    }

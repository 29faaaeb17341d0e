"""One export: check everything, open, merge, write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imgdiff.core.console import say, show_table
from imgdiff.train.export.config import ExportConfig, Format

if TYPE_CHECKING:  # they import torch
    from imgdiff.train.export.sources import Source
    from imgdiff.train.export.writing import Written

_OPENED_WITH = {
    Format.hf: "python -m imgdiff.eval benchmark=mmvp model.path={}",
    Format.llava: "load_pretrained_model('{}', None, 'llava')",
    Format.internvl2: "AutoModel.from_pretrained('{}', trust_remote_code=True)",
}


def run(config: ExportConfig) -> Path:
    """Write the checkpoint as the settings say and return its folder.

    ConfigError or BackendError, before a weight is read, for whatever cannot be done.
    """
    from imgdiff.train.export.sources import find_source
    from imgdiff.train.export.writing import write

    source = find_source(config)
    say(f"{source.name}: {_described(source)}")
    written = write(config, source)
    _report(config, written)
    return Path(config.output_dir)


def _described(source: Source) -> str:
    if source.adapters is None:
        return source.kind.value
    return f"adapters on {source.adapters.base_name}, {source.kind.value}"


def _report(config: ExportConfig, written: Written) -> None:
    opened = _OPENED_WITH[config.format]
    if not config.merge:
        opened = "load_pretrained_model('{}', BASE, 'llava-lora')"
    rows: list[tuple[str, object]] = [
        ("format", config.format.value),
        ("number type", str(written.dtype).removeprefix("torch.")),
    ]
    if written.merged is not None:
        moved, largest = written.merged
        rows.append(("logits moved by merging", f"{moved:.1e} (the largest is {largest:.1f})"))
    rows += [("folder", config.output_dir), ("open with", opened.format(config.output_dir))]
    show_table("Export", ("", ""), rows)

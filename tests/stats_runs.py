"""Small finished runs with known tables, for the tests of stats.html."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.export import PAIR_SCHEMA, REGION_SCHEMA
from imgdiff.synth.pipeline import run_settings
from imgdiff.synth.removal_export import REMOVAL_SCHEMA

SCHEMAS = {"pairs": PAIR_SCHEMA, "regions": REGION_SCHEMA, "removals": REMOVAL_SCHEMA}
Row = dict[str, Any]


@functools.cache
def settings_of(*overrides: str) -> str:
    """The settings of a composed run, as JSON."""
    register()
    return json.dumps(run_settings(compose_typed("synth", SynthConfig, list(overrides))))


def pair(number: int, left: str | None, right: str | None, **changes: Any) -> Row:
    """A pair of 100 x 50 pixels with samples."""
    row: Row = {
        "id": f"p-{number}", "caption_0": left, "caption_1": right, "seed": number,
        "image_0": f"{number}_0.png", "image_1": f"{number}_1.png",
        "image_id_0": f"left-{number}", "image_id_1": f"right-{number}",
        "look_0": f"{0x0123456789ABCDEF * (number + 1) % 2**64:016x}", "width": 100, "height": 50,
        "image_similarity": 0.95, "n_regions": 1, "n_samples": 1, "kept": True,
    }  # fmt: skip
    return row | changes


def region(number: int, of: int, corners: Sequence[float], **changes: Any) -> Row:
    """A kept region of the pair `of`."""
    left, top, right, bottom = corners
    row: Row = {
        "id": f"r-{number}", "pair_id": f"p-{of}", "side": 0, "left": left, "top": top,
        "right": right, "bottom": bottom, "crop_similarity": 0.5, "match_0": 0.6, "match_1": 0.2,
        "content_0": "A red dog.", "content_1": "A red cat.", "content_similarity": 0.4,
        "content_match_0": 0.5, "content_match_1": 0.45, "sentence": "A dog became a cat.",
        "kept": True,
    }  # fmt: skip
    return row | changes


def removal(number: int, of: int, corners: Sequence[float], **changes: Any) -> Row:
    """A removed object of the pair `of`."""
    left, top, right, bottom = corners
    row: Row = {
        "id": f"x-{number}", "pair_id": f"p-{of}", "side": 0, "left": left, "top": top,
        "right": right, "bottom": bottom, "crop_similarity": 0.5, "match_original": 0.5,
        "match_inpainted": 0.1, "content": "A blue car.", "answer": "A", "kept": True,
    }  # fmt: skip
    return row | changes


def step(stage: str, came: int, left: int) -> Row:
    """One stage of a funnel."""
    rejected = {"too alike": came - left} if came > left else {}
    return {"stage": stage, "in": came, "out": left, "rejected": rejected}


def write_run(
    folder: Path,
    *overrides: str,
    pairs: Sequence[Row] = (),
    regions: Sequence[Row] = (),
    removals: Sequence[Row] | None = None,
    without: Sequence[str] = (),
    complete: bool = True,
) -> Path:
    """The folder of a run that holds these rows; `without` names columns as `table.column`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(settings_of(*overrides))
    manifest = {"complete": complete, "settings": settings, "imgdiff": "0"}
    (folder / "run.json").write_text(json.dumps(manifest))
    tables = {"pairs": pairs, "regions": regions}
    tables |= {} if removals is None else {"removals": removals}
    for name, rows in tables.items():
        table = pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])
        gone = [column for column in table.column_names if f"{name}.{column}" in without]
        pq.write_table(table.drop_columns(gone), folder / f"{name}.parquet")
    samples = sum(bool(row["kept"]) for row in (*regions, *(removals or ())))
    drawn = [row for row in pairs if row["image_0"]]
    funnel = {
        "items": [
            step("source", len(pairs), len(pairs)),
            step("generate", len(pairs), len(drawn)),
        ],
        "regions": [step("regions", len(regions), samples)] if regions else [],
        "pairs_with_samples": sum(bool(row["kept"]) for row in pairs) if samples else 0,
        "samples": samples,
    }  # fmt: skip
    (folder / "funnel.json").write_text(json.dumps(funnel))
    return folder

"""From decided states to files: images and rows per shard, then one data set."""

from __future__ import annotations

import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from imgdiff.core.errors import DataError
from imgdiff.core.files import atomic_path, not_written, read_json, write_json
from imgdiff.core.geometry import normalised_text
from imgdiff.core.identity import fingerprint
from imgdiff.core.images import open_rgb, save_image, side_by_side, with_red_box
from imgdiff.synth.audit import audit_counts, box_is_right, removal_counts, true_names
from imgdiff.synth.config import ExportConfig
from imgdiff.synth.funnel import Funnel
from imgdiff.synth.looks import look_of
from imgdiff.synth.removal_config import Edit
from imgdiff.synth.removal_export import (
    REMOVAL_SCHEMA,
    export_removals,
    removal_entries,
    removal_row,
)
from imgdiff.synth.states import ItemState, RegionState, open_regions, open_removals
from imgdiff.synth.tools import Tools

PAIR_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("caption_0", pa.string()), ("caption_1", pa.string()),
        ("seed", pa.int64()),
        ("nouns_0", pa.list_(pa.string())), ("nouns_1", pa.list_(pa.string())),
        ("image_0", pa.string()), ("image_1", pa.string()),
        ("image_id_0", pa.string()), ("image_id_1", pa.string()),  # of the pixels
        ("look_0", pa.string()),  # perceptual hash of the left image, of pairs with samples
        ("width", pa.int32()), ("height", pa.int32()), ("image_similarity", pa.float64()),
        ("direction", pa.float64()), ("truth", pa.string()),
        ("n_regions", pa.int32()), ("n_samples", pa.int32()), ("kept", pa.bool_()),
        ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
    ]
)  # fmt: skip
REGION_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("pair_id", pa.string()), ("side", pa.int8()),
        ("left", pa.float64()), ("top", pa.float64()), ("right", pa.float64()),
        ("bottom", pa.float64()), ("crop_similarity", pa.float64()), ("match_0", pa.float64()),
        ("match_1", pa.float64()), ("content_0", pa.string()), ("content_1", pa.string()),
        ("content_similarity", pa.float64()), ("content_match_0", pa.float64()),
        ("content_match_1", pa.float64()), ("sentence", pa.string()), ("true_name_0", pa.string()),
        ("true_name_1", pa.string()), ("box_right", pa.bool_()), ("kept", pa.bool_()),
        ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
    ]
)  # fmt: skip


SAMPLE_SCHEMA = pa.schema(
    [
        ("id", pa.string()), ("image", pa.string()),
        ("conversations", pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))),
        ("bbox", pa.string()), ("captions1", pa.string()), ("captions2", pa.string()),
        ("path", pa.string()),
    ]
)  # fmt: skip
IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
MOST_BYTES = 2**31 - 1  # Arrow's binary columns count in 32 bits


def export_shard(states: Sequence[ItemState], tools: Tools, dataset: Path, part: Path) -> None:
    """Write the shard's images and one part file with its rows; the part file comes last."""
    samples = []
    numbers: Counter[str] = Counter()
    for state, region in open_regions(states):
        if not region.sentence:
            continue
        name = f"{state.id}_{numbers[state.id]}"
        numbers[state.id] += 1
        samples.append(_export_sample(state, region, name, tools, dataset))
    audit = audit_counts(states) + removal_counts(states)
    samples += export_removals(states, tools, dataset, audit)
    numbers.update(state.id for state, _ in open_removals(states))
    funnel = Funnel()
    funnel.count(states)
    write_json(
        part,
        {
            "samples": samples,
            "pairs": [
                pair_row(state, numbers[state.id]) | {"look_0": _look(state, numbers, tools)}
                for state in states
            ],
            "regions": [region_row(state, r) for state in states for r in state.regions],
            "removals": [removal_row(state, r, tools) for state in states for r in state.removals],
            "funnel": funnel.to_json(),
            "audit": dict(audit),
            "gallery": gallery_entries(states, tools),
        },
    )


def _look(state: ItemState, numbers: Counter[str], tools: Tools) -> str | None:
    """How the left image of a pair with samples looks (`looks.look_of`)."""
    if state.images is None or not numbers[state.id]:
        return None
    return look_of(open_rgb(tools.root / state.images.left_path))


def _export_sample(
    state: ItemState, region: RegionState, name: str, tools: Tools, dataset: Path
) -> dict[str, object]:
    """Write the pair image and return the LLaVA row with the released fields beside it."""
    images, contents, config = state.images, region.contents, tools.config.export
    assert images is not None and contents is not None  # noqa: PT018
    stem = f"images/{tools.shard:05d}/{name}"
    suffix = config.image_format.value
    margin = tools.config.rules.content_margin_px
    marked = [with_red_box(image, region.region.box, margin) for image in tools.open_pair(images)]
    save_image(side_by_side(marked), dataset / f"{stem}.{suffix}")
    if config.separate_images:
        for side, image in enumerate(marked):
            save_image(image, dataset / f"{stem}_{side}.{suffix}")
    row: dict[str, object] = {
        "id": name,
        "image": f"{stem}.{suffix}",
        "conversations": [
            {"from": "human", "value": f"<image>\n{config.question}"},
            {"from": "gpt", "value": region.sentence},
        ],
        "bbox": normalised_text(region.region.box, images.width, images.height),
        "captions1": contents[0],
        "captions2": contents[1],
        "path": stem,
    }
    return row | {"task": "replace"} if tools.config.edit.removes else row


def pair_row(state: ItemState, samples: int) -> dict[str, object]:
    """One row of pairs.parquet: everything known of an item, kept or not."""
    images, pair, fell = state.images, state.pair, state.rejected
    truth = images.truth if images is not None else None
    return {
        "id": state.id,
        "caption_0": images.left_caption
        if images
        else (state.caption.text if state.caption else None),
        "caption_1": images.right_caption if images else (pair.right if pair else None),
        "seed": images.seed if images else (pair.seed if pair else None),
        "nouns_0": list(state.nouns.left) if state.nouns else None,
        "nouns_1": list(state.nouns.right) if state.nouns else None,
        "image_0": images.left_path if images else None,
        "image_1": images.right_path if images else None,
        "image_id_0": images.left_id if images else None,
        "image_id_1": images.right_id if images else None,
        "width": images.width if images else None,
        "height": images.height if images else None,
        "image_similarity": state.image_similarity,
        "direction": state.direction,
        "truth": truth.note if truth else None,
        "n_regions": len(state.regions),
        "n_samples": samples,
        "kept": samples > 0,
        "stage": fell.stage if fell else None,
        "reason": fell.reason if fell else None,
        "detail": fell.detail if fell else None,
    }


def region_row(state: ItemState, item: RegionState) -> dict[str, object]:
    """One row of regions.parquet: every score of a candidate box, kept or not."""
    region, fell = item.region, item.rejected
    truth = state.images.truth if state.images is not None else None
    named = true_names(region.box, truth) if truth is not None else (None, None)
    match, contents = item.match or (None, None), item.contents or (None, None)
    fits = item.content_match or (None, None)
    corners = dict(zip(("left", "top", "right", "bottom"), region.box.as_tuple(), strict=True))
    return {
        "id": region.id, "pair_id": region.pair_id, "side": int(region.side), **corners,
        "crop_similarity": item.crop_similarity, "match_0": match[0], "match_1": match[1],
        "content_0": contents[0], "content_1": contents[1],
        "content_similarity": item.content_similarity,
        "content_match_0": fits[0], "content_match_1": fits[1], "sentence": item.sentence,
        "true_name_0": named[0], "true_name_1": named[1],
        "box_right": box_is_right(region.box, truth) if truth is not None else None,
        "kept": fell is None and bool(item.sentence),
        "stage": fell.stage if fell else None, "reason": fell.reason if fell else None,
        "detail": fell.detail if fell else None,
    }  # fmt: skip


def gallery_entries(states: Sequence[ItemState], tools: Tools) -> list[dict[str, object]]:
    """Gallery material of one shard: a fixed random choice of items for each verdict."""
    entries = [
        {"verdict": verdict, "rank": fingerprint(state.id)} | _entry(state, regions)
        for state in states
        if state.images is not None
        for verdict, regions in _verdicts(state)
    ]
    entries += removal_entries(states, tools)
    return chosen_entries(entries, tools.config.export)


def chosen_entries(entries: list[dict[str, Any]], config: ExportConfig) -> list[dict[str, Any]]:
    """As many entries per verdict as the gallery shows, by rank: spread over the whole run."""
    room: Counter[str] = Counter()
    chosen = []
    for entry in sorted(entries, key=lambda item: item["rank"]):
        verdict = entry["verdict"]
        good = verdict in ("accepted", "removed")
        limit = config.gallery_accepted if good else config.gallery_per_reason
        if room[verdict] < limit:
            room[verdict] += 1
            chosen.append(entry)
    return chosen


def _verdicts(state: ItemState) -> list[tuple[str, list[RegionState]]]:
    """Under which headings an item may be shown, and with which regions."""
    if state.rejected is not None and state.rejected.reason != "no region left":
        return [(f"{state.rejected.stage}: {state.rejected.reason}", [])]
    kept = [r for r in state.regions if r.rejected is None and r.sentence]
    if kept:
        return [("accepted", kept)]
    by_reason: dict[str, list[RegionState]] = {}
    for region in state.regions:
        if region.rejected is not None:
            heading = f"{region.rejected.stage}: {region.rejected.reason}"
            by_reason.setdefault(heading, []).append(region)
    return list(by_reason.items())


def _entry(state: ItemState, regions: Sequence[RegionState]) -> dict[str, object]:
    assert state.images is not None
    return {
        "pair": pair_row(state, 0),
        "regions": [region_row(state, region) for region in regions[:4]],
    }


Append = Callable[[pa.Table], None]


@contextmanager
def parquet_stream(path: Path, schema: pa.Schema) -> Iterator[Append]:
    """Appends tables, one row group a call; the file is moved into place when complete."""
    with atomic_path(path) as temporary, _writer(temporary, schema) as writer:

        def append(table: pa.Table) -> None:
            if not table.num_rows:
                return
            try:
                writer.write_table(table)
            except OSError as error:  # here, or a file opened after this one would be blamed
                raise not_written(path, error) from error

        yield append


def _writer(path: Path, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(path, schema, compression="zstd")


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of JSON values as a table of one chunk per column; a key beyond the schema is refused.

    Arrow reads them as JSON, because its constructors from Python lists import pandas, which takes
    longer than all the tables of a run.
    """
    if not rows:
        return schema.empty_table()
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    return pj.read_json(
        io.BytesIO(text),
        read_options=pj.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
    )


def sample_schema(edit: Edit) -> pa.Schema:
    """Columns of a sample; `task` tells the kinds apart where there may be two."""
    return SAMPLE_SCHEMA.append(pa.field("task", pa.string())) if edit.removes else SAMPLE_SCHEMA


def dataset_schema(*, embed_images: bool, edit: Edit = Edit.replace) -> pa.Schema:
    """Columns of img_diff.parquet, with the metadata by which `datasets` decodes the images."""
    plain = sample_schema(edit)
    if not embed_images:
        return plain
    place = plain.get_field_index("image")
    schema = plain.set(place, pa.field("image", IMAGE_TYPE))
    text = {"dtype": "string", "_type": "Value"}
    features: dict[str, object] = dict.fromkeys(schema.names, text)
    features["image"] = {"_type": "Image"}
    features["conversations"] = {"feature": {"from": text, "value": text}, "_type": "List"}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def with_image_bytes(samples: pa.Table, dataset: Path) -> pa.Table:
    """The table with every image path replaced by (bytes of that file below `dataset`, path)."""
    place = samples.schema.get_field_index("image")
    paths = samples.column(place).combine_chunks()
    contents = [(dataset / path).read_bytes() for path in paths.to_pylist()]
    ends = np.cumsum([0, *map(len, contents)], dtype=np.int64)
    if ends[-1] > MOST_BYTES:
        raise DataError(
            f"{dataset}: the images of one shard hold {ends[-1]} bytes; a row group takes "
            f"{MOST_BYTES}. Set export.parquet_images=false, or a smaller shard_size."
        )
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(contents))]
    held = pa.Array.from_buffers(pa.binary(), len(contents), buffers)
    return samples.set_column(
        place, "image", pa.StructArray.from_arrays([held, paths], fields=list(IMAGE_TYPE))
    )


def assemble(
    parts: Sequence[Path], output: Path, *, embed_images: bool, edit: Edit = Edit.replace
) -> None:
    """Join the parts in shard order into JSON and Parquet files; memory holds one part."""
    dataset = output / "dataset"
    write_list(
        dataset / "img_diff.json", (row for part in parts for row in read_json(part)["samples"])
    )
    tables = {"pairs": PAIR_SCHEMA, "regions": REGION_SCHEMA}
    if edit.removes:
        tables["removals"] = REMOVAL_SCHEMA
    with ExitStack() as stack:

        def stream(path: Path, schema: pa.Schema) -> Append:
            return stack.enter_context(parquet_stream(path, schema))

        held = dataset_schema(embed_images=embed_images, edit=edit)
        append_samples = stream(dataset / "img_diff.parquet", held)
        appends = {name: stream(output / f"{name}.parquet", tables[name]) for name in tables}
        for part in parts:
            rows = read_json(part)
            samples = table_of(rows["samples"], sample_schema(edit))
            append_samples(with_image_bytes(samples, dataset) if embed_images else samples)
            for name, append in appends.items():
                append(table_of(rows[name], tables[name]))


def write_list(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """A JSON list, one row per line, written as it comes."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.write("[")
        for number, row in enumerate(rows):
            handle.write(",\n" if number else "\n")
            handle.write(json.dumps(row, ensure_ascii=False))
        handle.write("\n]\n")


def chunked(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Consecutive lists of `size` rows, the last one shorter."""
    while chunk := list(itertools.islice(rows, size)):
        yield chunk

"""From places to tensors: layouts, labels, images, and packed logits equal to single ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plan_parts import TinyReader, lengths_of, picture, table_of, talk
from torch.utils.data import DataLoader

from imgdiff.backends.chat_templates import IGNORED
from imgdiff.backends.readers import Reader
from imgdiff.backends.segment_attention import attend_by_segment
from imgdiff.core.errors import DataError
from imgdiff.train.collate import Item, PackedCollator, PaddedCollator, PlannedSamples
from imgdiff.train.plan import Batching, Plan, PlanBatches, PlanConfig, make_plan
from imgdiff.train.table import Table

PAD = 9


def item(ids: list[int], source: int = 0, views: int = 0) -> Item:
    tokens = torch.tensor(ids)
    return Item(
        input_ids=tokens,
        labels=tokens.clone(),
        views=torch.full((views, 3, 2, 2), float(ids[0])),
        source=source,
        mark=ids[0],
    )


ITEMS = [item([1, 2, 3], 0, 1), item([4, 5], 1), item([6], 2, 2)]


def test_padded_known_answer() -> None:
    batch = PaddedCollator(pad_id=PAD)(ITEMS)
    assert batch.input_ids.tolist() == [[1, 2, 3], [4, 5, PAD], [6, PAD, PAD]]
    none = IGNORED
    assert batch.labels.tolist() == [[none, 2, 3], [none, 5, none], [none] * 3]
    assert batch.lengths == (3, 2, 1)
    assert batch.seen == 1 + 4 + 6
    assert batch.sources.tolist() == [[0, 0, 0], [1, 1, -1], [2, -1, -1]]
    assert batch.position_ids is None
    assert (batch.samples, batch.views) == (3, 3)
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [1, 6, 6]
    assert PaddedCollator(pad_id=PAD)(ITEMS[1:2]).pixel_values is None


def test_packed_known_answer() -> None:
    batch = PackedCollator()(ITEMS)
    none = IGNORED
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert batch.labels.tolist() == [[none, 2, 3, none, 5, none]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 0]]
    assert batch.sources.tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch.lengths == (3, 2, 1)
    assert (batch.samples, batch.views, batch.seen) == (3, 3, 11)
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [1, 6, 6]
    assert ITEMS[0].labels.tolist() == [1, 2, 3]  # what came in is left as it was


@pytest.fixture(scope="module")
def reader() -> TinyReader:
    from imgdiff.mini.build.llama_tokenizer import build_tokenizer

    return TinyReader(build_tokenizer(pieces=420))


def rows_of_kinds(folder: Path) -> Table:
    picture(folder, "a.png", (32, 8))
    picture(folder, "b.png", (48, 8))
    rows: list[dict[str, Any]] = [talk(k, [None, "a.png", "b.png"][k % 3]) for k in range(1, 24)]
    return table_of(folder, [*rows, talk(3) | {"image": ["a.png", "b.png"]}])


def plan_of(table: Table, batching: Batching = Batching.plain) -> Plan:
    config = PlanConfig(batching=batching, batch_size=8, micro_batch_size=4)
    return make_plan(config, table, 4096, lengths_of(np.arange(1, len(table) + 1)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batching", [Batching.plain, Batching.pack])
def test_loaders_give_the_plan(
    tmp_path: Path, reader: TinyReader, workers: int, batching: Batching
) -> None:
    table = rows_of_kinds(tmp_path)
    plan = plan_of(table, batching)
    samples = PlannedSamples(table, plan, reader, 4096)
    assert isinstance(reader, Reader)
    assert len(samples) == len(plan.rows)
    for collate in (PaddedCollator(pad_id=PAD), PackedCollator()):
        loader = DataLoader(
            samples, batch_sampler=PlanBatches(plan), collate_fn=collate, num_workers=workers
        )
        batches = list(loader)
        assert len(batches) == plan.micro_batches
        for number, batch in enumerate(batches):
            alone = collate([samples[place] for place in plan.places(number)])
            for ours, theirs in zip(batch, alone, strict=True):
                if isinstance(ours, torch.Tensor):
                    assert torch.equal(ours, theirs)
                else:
                    assert ours == theirs


def test_packed_and_padded_labels_are_the_same(tmp_path: Path, reader: TinyReader) -> None:
    table = rows_of_kinds(tmp_path)
    plan = plan_of(table)
    samples = PlannedSamples(table, plan, reader, 4096)
    items = [samples[place] for place in plan.places(0)]
    padded = PaddedCollator(pad_id=PAD)(items)
    packed = PackedCollator()(items)
    assert len(packed.input_ids) == 1
    one = sorted(padded.labels[padded.labels != IGNORED].tolist())
    assert one == sorted(packed.labels[packed.labels != IGNORED].tolist())
    assert len(padded.pixel_values) == len(packed.pixel_values)


def test_a_sample_is_cut_and_a_silent_one_refused(tmp_path: Path, reader: TinyReader) -> None:
    table = table_of(tmp_path, [talk(200)] * 2)
    config = PlanConfig(batch_size=2, micro_batch_size=2)
    samples = PlannedSamples(table, make_plan(config, table, 300), reader, 300)
    whole = PlannedSamples(table, make_plan(config, table, 300), reader, 100_000)[0]
    assert samples[0].input_ids.tolist() == whole.input_ids[:300].tolist()
    assert samples[0].labels.tolist() == whole.labels[:300].tolist()
    short = PlannedSamples(table, make_plan(config, table, 20), reader, 20)
    with pytest.raises(DataError, match=r"data\.json: sample \d .*no answer within max_tokens=20"):
        short[0]


def test_an_image_that_is_gone_names_file_and_remedy(tmp_path: Path, reader: TinyReader) -> None:
    table = table_of(tmp_path, [talk(2, picture(tmp_path))])
    plan = make_plan(PlanConfig(batch_size=1, micro_batch_size=1), table, 4096)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: no such image.*restore the file"):
        PlannedSamples(table, plan, reader, 4096)[0]


def test_samples_are_marked_by_place_and_id(tmp_path: Path, reader: TinyReader) -> None:
    table = rows_of_kinds(tmp_path)
    plan = plan_of(table)
    samples = PlannedSamples(table, plan, reader, 4096)
    marks = [samples[place].mark for place in range(len(plan.rows))]
    assert len(set(marks)) == len(marks)
    assert marks == [samples[place].mark for place in range(len(plan.rows))]
    assert min(marks) >= 0
    assert max(marks) < 2**40


def test_packed_logits_equal_single_ones(tmp_path: Path, checkpoint: Path) -> None:
    """The tiny LLaVA sees each sample of a packed batch as if alone."""
    from transformers import LlavaForConditionalGeneration

    from imgdiff.backends.chat_templates import TEMPLATES
    from imgdiff.backends.readers import LlavaReader

    real = LlavaReader(checkpoint, TEMPLATES["vicuna_v1"])
    table = rows_of_kinds(tmp_path)
    plan = plan_of(table)
    samples = PlannedSamples(table, plan, real, 4096)
    items = [samples[place] for number in (1, 2) for place in plan.places(number)]
    model: Any = LlavaForConditionalGeneration.from_pretrained(checkpoint).eval()
    batch = PackedCollator()(items)
    with torch.no_grad():
        singles = [
            model(
                input_ids=entry.input_ids[None], use_cache=False,
                **({"pixel_values": entry.views} if len(entry.views) else {}),
            ).logits[0]
            for entry in items
        ]  # fmt: skip
        attend_by_segment(model.model.language_model)
        packed = model(
            input_ids=batch.input_ids, position_ids=batch.position_ids,
            pixel_values=batch.pixel_values, segment_lengths=batch.lengths, use_cache=False,
        ).logits[0]  # fmt: skip
    for alone, found in zip(singles, packed.split(batch.lengths), strict=True):
        assert float((found - alone).abs().max()) < 1e-5

"""Several samples in one row do not see each other, and padding on the right needs no mask.

First by attention inside each segment; then what transformers itself does with `position_ids` that
start anew (masking_utils.py, `find_packed_sequence_indices`), which flash attention relies on:
every jump begins a segment of its own, in every row, provided that no 2-D attention mask and no
cache is given. The logits of each sample must be those of its own run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from small_vicuna import clip_vision, llama
from torch import Tensor

from imgdiff.backends.segment_attention import attend_by_segment

VOCABULARY, IMAGE, PAD = 120, 117, 0
NEAR, FAR = 1e-5, 1e-2
LENGTHS = (23, 9, 31, 1, 14)


class Family(NamedTuple):
    """A tiny model, how many ids an image takes, and its view size."""

    model: Any
    image_tokens: int
    view_px: int


class Sample(NamedTuple):
    """Ids of one sample and its views (K 3 S S, K may be 0)."""

    ids: Tensor
    views: Tensor


def text_settings() -> dict[str, Any]:
    return llama().config.to_dict() | {"vocab_size": VOCABULARY, "pad_token_id": PAD}


def tiny_llava() -> Family:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    vision = clip_vision().config
    config = LlavaConfig(
        vision_config=vision.to_dict(), text_config=text_settings(), image_token_index=IMAGE,
        vision_feature_layer=-2, vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )  # fmt: skip
    return Family(LlavaForConditionalGeneration(config), 16, vision.image_size)


def tiny_internvl() -> Family:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig

    vision = InternVLVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=[56, 56], patch_size=[14, 14],
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision.to_dict(), text_config=text_settings(), image_token_id=IMAGE,
        tie_word_embeddings=False,
    )  # fmt: skip
    return Family(InternVLForConditionalGeneration(config), 4, 56)


@pytest.fixture(scope="module", params=["llava", "internvl"])
def family(request: pytest.FixtureRequest) -> Family:
    torch.manual_seed(0)
    made = {"llava": tiny_llava, "internvl": tiny_internvl}[request.param]()
    with torch.no_grad():  # a random start attends almost evenly; larger weights make leaks plain
        for name, weight in made.model.named_parameters():
            if "language_model" in name and weight.ndim == 2:
                weight.mul_(8)
    made.model.eval()
    return made


@pytest.fixture(params=["sdpa", "eager"])
def attention(request: pytest.FixtureRequest, family: Family) -> str:
    family.model.set_attn_implementation(request.param)
    return str(request.param)


def samples(family: Family) -> list[Sample]:
    """Five of unequal length; the second and fourth are text alone."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number, length in enumerate(LENGTHS):
        ids = torch.randint(3, IMAGE, (length,), generator=generator)
        views = 0 if number % 2 else 1
        if views:
            shown = torch.full((family.image_tokens,), IMAGE)
            ids = torch.cat([ids[:4], shown, ids[4:]])
        side = family.view_px
        made.append(Sample(ids, torch.randn(views, 3, side, side, generator=generator)))
    return made


@torch.no_grad()
def logits(family: Family, ids: Tensor, views: Tensor, **given: Any) -> Tensor:
    """B x T x V."""
    seen = {"pixel_values": views} if len(views) else {}
    found: Tensor = family.model(input_ids=ids, **seen, **({"use_cache": False} | given)).logits
    return found


def alone(family: Family, sample: Sample) -> Tensor:
    return logits(family, sample.ids[None], sample.views)[0]


class Rows(NamedTuple):
    """A packed batch, and where each of its samples lies."""

    ids: Tensor
    positions: Tensor
    segments: Tensor  # a number per sample; the padding's is -1
    views: Tensor
    places: list[tuple[int, int, int]]  # row, start, end of every sample


def pack(rows: Sequence[Sequence[Sample]]) -> Rows:
    """Rows of concatenated samples, padded on the right by a segment of its own."""
    longest = max(sum(len(sample.ids) for sample in row) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    positions, segments = torch.zeros_like(ids), torch.full_like(ids, -1)
    places = []
    for number, row in enumerate(rows):
        start = 0
        for segment, sample in enumerate(row):
            end = start + len(sample.ids)
            ids[number, start:end] = sample.ids
            positions[number, start:end] = torch.arange(end - start)
            segments[number, start:end] = segment
            places.append((number, start, end))
            start = end
        positions[number, start:] = torch.arange(longest - start)
    views = torch.cat([sample.views for row in rows for sample in row])
    return Rows(ids, positions, segments, views, places)


def error(family: Family, rows: Sequence[Sequence[Sample]], packed: Rows, found: Tensor) -> float:
    """Largest difference of a logit from the sample's own run."""
    flat = [sample for row in rows for sample in row]
    return max(
        float((found[row, start:end] - alone(family, sample)).abs().max())
        for sample, (row, start, end) in zip(flat, packed.places, strict=True)
    )


def shapes_of_rows(family: Family) -> dict[str, list[list[Sample]]]:
    a, b, c, d, e = samples(family)
    return {
        "one row": [[a, b, c, d, e]],
        "two rows": [[a, b, d], [c, e]],
        "three rows, one of a single sample": [[a, b], [c], [e, d]],
        "samples of one length": [[b, b, b], [c, a]],
    }


NAMES = ["one row", "two rows", "three rows, one of a single sample", "samples of one length"]


@pytest.fixture
def segmented(family: Family) -> Iterator[Family]:
    """The family, attending by segment for one test."""
    before = family.model.model.language_model.config._attn_implementation
    attend_by_segment(family.model.model.language_model)
    yield family
    family.model.set_attn_implementation(before)


def row_of(family: Family) -> tuple[list[Sample], Rows, dict[str, Any]]:
    """Five samples in one row, and what a forward pass is told of them."""
    row = samples(family)
    packed = pack([row])
    lengths = [len(sample.ids) for sample in row]
    return row, packed, {"position_ids": packed.positions, "segment_lengths": lengths}


def test_segments_are_separate_runs(family: Family) -> None:
    row, packed, told = row_of(family)
    singles = [alone(family, sample) for sample in row]
    attend_by_segment(family.model.model.language_model)
    try:
        found = logits(family, packed.ids, packed.views, **told)[0]
    finally:
        family.model.set_attn_implementation("sdpa")
    for ours, single in zip(found.split(told["segment_lengths"]), singles, strict=True):
        assert float((ours - single).abs().max()) < NEAR


def test_segments_with_recomputed_activations(segmented: Family) -> None:
    """Gradients are those without, and those of a mask of blocks."""
    _, packed, told = row_of(segmented)
    model = segmented.model
    language = model.model.language_model

    def gradients(**given: Any) -> list[Tensor]:
        model.zero_grad()
        out = model(
            input_ids=packed.ids, pixel_values=packed.views, use_cache=False, **given
        ).logits  # fmt: skip
        out.log_softmax(-1)[..., 5].sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients(**told)
    language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    language.train()
    recomputed = gradients(**told)
    language.eval()
    language.gradient_checkpointing_disable()
    model.set_attn_implementation("sdpa")
    masked = gradients(position_ids=packed.positions)
    for left, right, other in zip(plain, recomputed, masked, strict=True):
        assert torch.equal(left, right)
        assert float((left - other).abs().max()) < 1e-3 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_lengths": None}, "takes one row, segment_lengths and no mask; got 1"),
        ({"segment_lengths": [3, 4]}, r"sum to 7, the row has \d+ tokens"),
        ({"attention_mask": torch.ones(1, 1, 1, 1)}, "a mask"),
    ],
)
def test_a_pass_that_would_leak_is_refused(
    segmented: Family, change: dict[str, Any], message: str
) -> None:
    _, packed, told = row_of(segmented)
    with pytest.raises(ValueError, match=message):
        logits(segmented, packed.ids, packed.views, **(told | change))


def test_remembered_keys_are_refused(segmented: Family) -> None:
    from transformers import DynamicCache

    _, packed, told = row_of(segmented)
    told |= {"use_cache": True, "past_key_values": DynamicCache()}
    logits(segmented, packed.ids, packed.views, **told)
    with pytest.raises(ValueError, match=r"the row has \d+ tokens and \d+ keys"):
        logits(segmented, packed.ids, packed.views, **told)


def test_two_rows_are_refused(segmented: Family) -> None:
    row, _, _ = row_of(segmented)
    packed = pack([row[:2], row[2:]])
    lengths = [len(sample.ids) for sample in row]
    with pytest.raises(ValueError, match=r"got 2 row\(s\)"):
        logits(segmented, packed.ids, packed.views, segment_lengths=lengths)


@pytest.mark.parametrize("name", NAMES)
def test_packed_rows_are_separate_runs(family: Family, attention: str, name: str) -> None:
    rows = shapes_of_rows(family)[name]
    packed = pack(rows)
    found = logits(family, packed.ids, packed.views, position_ids=packed.positions)
    assert error(family, rows, packed, found) < NEAR


def test_padding_of_position_zero_is_separate_too(family: Family, attention: str) -> None:
    """A collator that leaves the padding's positions at 0 makes a segment of every pad."""
    rows = shapes_of_rows(family)["two rows"]
    packed = pack(rows)
    positions = packed.positions.masked_fill(packed.segments < 0, 0)
    found = logits(family, packed.ids, packed.views, position_ids=positions)
    assert error(family, rows, packed, found) < NEAR
    assert bool(torch.isfinite(found).all())


def block_diagonal(packed: Rows) -> Tensor:
    """B x 1 x T x T, True where a token may look: back, within its own segment."""
    same = packed.segments[:, :, None] == packed.segments[:, None, :]
    length = packed.ids.shape[1]
    return (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None]


def test_a_mask_of_blocks_says_the_same(family: Family, attention: str) -> None:
    """For code that must keep the cache on: a 4-D mask is taken as it is."""
    rows = shapes_of_rows(family)["two rows"]
    packed = pack(rows)
    allowed = block_diagonal(packed)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    for use_cache in (False, True):
        found = logits(
            family, packed.ids, packed.views, position_ids=packed.positions,
            attention_mask=mask, use_cache=use_cache,
        )  # fmt: skip
        assert error(family, rows, packed, found) < NEAR


def running_positions(packed: Rows) -> dict[str, Any]:
    return {"position_ids": torch.arange(packed.ids.shape[1]).expand_as(packed.ids)}


def with_cache(packed: Rows) -> dict[str, Any]:
    return {"position_ids": packed.positions, "use_cache": True}


def with_mask_of_ones(packed: Rows) -> dict[str, Any]:
    return {"position_ids": packed.positions, "attention_mask": torch.ones_like(packed.ids)}


@pytest.mark.parametrize("leak", [running_positions, with_cache, with_mask_of_ones])
@pytest.mark.parametrize("name", ["one row", "two rows"])
def test_the_measure_sees_a_leak(family: Family, attention: str, leak: Any, name: str) -> None:
    """Three ways to let samples see each other, each far beyond rounding."""
    rows = shapes_of_rows(family)[name]
    packed = pack(rows)
    found = logits(family, packed.ids, packed.views, **leak(packed))
    assert error(family, rows, packed, found) > FAR


def test_the_measure_sees_positions_alone(family: Family) -> None:
    """Rotary positions are relative: a mask of blocks with running positions changes nothing."""
    rows = shapes_of_rows(family)["two rows"]
    packed = pack(rows)
    allowed = block_diagonal(packed)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    found = logits(
        family, packed.ids, packed.views, attention_mask=mask, **running_positions(packed)
    )
    assert error(family, rows, packed, found) < 10 * NEAR


@pytest.mark.parametrize("given", ["nothing", "mask", "positions"])
def test_padding_on_the_right_needs_no_mask(family: Family, attention: str, given: str) -> None:
    """One sample per row: a token looks back only, and what is padded comes after it."""
    rows = [[sample] for sample in samples(family)]
    packed = pack(rows)
    length = packed.ids.shape[1]
    arguments = {
        "nothing": {},
        "mask": {"attention_mask": (packed.segments >= 0).long()},
        "positions": {"position_ids": torch.arange(length).expand_as(packed.ids)},
    }[given]
    found = logits(family, packed.ids, packed.views, **arguments)
    assert error(family, rows, packed, found) < NEAR


def test_the_loss_of_a_packed_row_has_the_gradient_of_its_samples(family: Family) -> None:
    """Backwards too: the sum of the samples' gradients, through text and projector."""
    rows = shapes_of_rows(family)["one row"]
    packed = pack(rows)
    model = family.model

    def gradients(runs: list[tuple[Tensor, Tensor, dict[str, Any]]]) -> list[Tensor]:
        model.zero_grad()
        for ids, views, given in runs:
            seen = {"pixel_values": views} if len(views) else {}
            out = model(input_ids=ids, **seen, **given, use_cache=False).logits
            out.log_softmax(-1)[..., 5].sum().backward()
        return [
            p.grad.clone()
            for n, p in model.named_parameters()
            if p.grad is not None and "vision_tower" not in n
        ]

    together = gradients([(packed.ids, packed.views, {"position_ids": packed.positions})])
    apart = gradients([(s.ids[None], s.views, {}) for s in rows[0]])
    for left, right in zip(together, apart, strict=True):
        assert float((left - right).abs().max()) < 1e-3 * max(1.0, float(right.abs().max()))

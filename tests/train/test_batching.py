"""Groupings: known answers, LLaVA's rule restated, and shares of useful tokens."""

from __future__ import annotations

import numpy as np
import pytest
from plan_parts import realistic_lengths

from imgdiff.train import batching


def restated_chunks(members: list[int], lengths: list[int], chunks: int) -> list[list[int]]:
    """Equal counts and near-equal totals, written down plainly (for one group)."""
    if len(members) % chunks:
        return [members[k::chunks] for k in range(chunks)]
    room = len(members) // chunks
    made: list[list[int]] = [[] for _ in range(chunks)]
    for member in members:
        open_chunks = [chunk for chunk in made if len(chunk) < room]
        min(open_chunks, key=lambda chunk: sum(lengths[m] for m in chunk)).append(member)
    return made


def restated_groups(order: list[int], lengths: list[int], micro: int, count: int) -> list[int]:
    step, grouped = micro * count, []
    for first in range(0, len(order), step):
        members = sorted(order[first : first + step], key=lambda m: -lengths[m])
        grouped += [m for chunk in restated_chunks(members, lengths, count) for m in chunk]
    return grouped


@pytest.mark.parametrize("count", [1, 2, 5, 8, 11, 16, 24, 29, 30])
@pytest.mark.parametrize(("micro", "per_step"), [(1, 1), (2, 4), (4, 2), (3, 1)])
def test_groups_of_one_modality_are_llavas(count: int, micro: int, per_step: int) -> None:
    rng = np.random.default_rng(count)
    lengths = rng.integers(1, 12, count)  # with ties
    order = rng.permutation(count)
    found = batching.length_groups(order, lengths, micro, per_step)
    assert found.tolist() == restated_groups(order.tolist(), lengths.tolist(), micro, per_step)


@pytest.mark.parametrize(("images", "texts"), [(16, 8), (17, 9), (20, 3), (8, 8), (3, 2), (40, 41)])
def test_modality_is_llavas_rule(images: int, texts: int) -> None:
    micro, per_step = 2, 4
    step, total = micro * per_step, images + texts
    shown = np.zeros(total, dtype=bool)
    shown[np.random.default_rng(1).permutation(total)[:images]] = True
    words = np.random.default_rng(2).integers(1, 50, total)
    found = batching.modality(words, shown, micro, per_step, np.random.default_rng(3))
    assert sorted(found.tolist()) == list(range(total))

    same = np.random.default_rng(3)  # the same draws, in the same order
    steps, rest = [], []
    for kind in (np.flatnonzero(shown), np.flatnonzero(~shown)):
        grouped = restated_groups(same.permutation(kind).tolist(), words.tolist(), micro, per_step)
        cut = [grouped[first : first + step] for first in range(0, len(grouped), step)]
        steps += cut[:-1]
        rest += cut[-1]
    expected = [m for k in same.permutation(len(steps)) for m in steps[k]] + sorted(rest)
    assert found.tolist() == expected
    for first in range(0, len(steps) * step, step):
        assert len(set(shown[found[first : first + step]])) == 1


@pytest.mark.parametrize("shown", [True, False])
def test_one_modality_alone(shown: bool) -> None:
    words = np.arange(1, 20)
    found = batching.modality(words, np.full(19, shown), 2, 2, np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(19)
    assert found.tolist() == restated_groups(order.tolist(), words.tolist(), 2, 2)


def test_dealing_known_answers() -> None:
    lengths = np.array([[9, 8, 2, 1], [1, 1, 1, 1]])
    assert batching.deal_evenly(lengths, [2, 2]).tolist() == [[0, 3, 1, 2], [0, 2, 1, 3]]
    assert batching.deal_evenly(lengths[:1], [3, 1]).tolist() == [[0, 2, 3, 1]]
    assert batching.deal_evenly(lengths[:1], [1, 1, 1, 1]).tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("samples", "sizes"), [(5, [2, 2, 1]), (3, [1, 1, 1]), (2, [1, 1, 0])])
def test_a_short_step_is_spread(samples: int, sizes: list[int]) -> None:
    assert batching.sizes_of_step(samples, 3) == sizes


def test_buckets_mix_strata_within_a_step() -> None:
    lengths = np.arange(24)[::-1].copy()
    found = batching.length_bucket(lengths, 2, 3, 4, 1, np.random.default_rng(0))
    assert sorted(found.tolist()) == list(range(24))
    steps = lengths[found].reshape(4, 3, 2)
    assert [sorted(step.ravel() // 8) for step in steps] == [[0, 0, 1, 1, 2, 2]] * 4
    assert (np.ptp(steps, axis=2) == 1).all()  # neighbours in length
    assert (np.diff(steps.max(axis=2), axis=1) < 0).all()  # longest micro-batch first


def test_packing_keeps_the_samples_of_each_step() -> None:
    lengths, _ = realistic_lengths(1000)
    found = batching.pack(lengths.astype(np.int64), 4, 8)
    whole = np.arange(1000 // 32 * 32).reshape(-1, 32)
    assert np.array_equal(np.sort(found[: whole.size].reshape(-1, 32), axis=1), whole)
    assert sorted(found[whole.size :].tolist()) == list(range(whole.size, 1000))


def padded_share(tokens: np.ndarray, micro: int) -> float:
    batches = tokens[: len(tokens) // micro * micro].reshape(-1, micro)
    return float(batches.sum() / (batches.max(axis=1) * micro).sum())


def slowest_share(totals: np.ndarray) -> float:
    """Mean over the longest, where the micro-batches of a step (rows) wait for one another."""
    return float(totals.sum() / (totals.max(axis=1) * totals.shape[1]).sum())


def test_useful_tokens_on_a_realistic_mix() -> None:
    """Steps of 128 = 8 x 16; LLaVA's sampler leaves about 60 %, buckets above 94, packing all."""
    tokens, image = realistic_lengths(128 * 200)
    lengths = tokens.astype(np.int64)
    assert 760 < lengths.mean() < 860
    rng = np.random.default_rng(0)
    words = np.maximum(1, (lengths - 576 * image - 45) * 3 // 4)
    by_llava = batching.modality(words, image, 16, 8, rng)
    by_bucket = batching.length_bucket(lengths, 16, 8, 8, 1, rng)
    together = batching.length_bucket(lengths, 16, 8, 16, 8, rng)
    by_pack = batching.pack(lengths, 16, 8)
    assert 0.55 < padded_share(lengths[by_llava], 16) < 0.65
    assert 0.55 < padded_share(lengths, 16) < 0.68
    assert padded_share(lengths[by_bucket], 16) > 0.94
    longest = lengths[together].reshape(-1, 8, 16).max(axis=2)
    assert padded_share(lengths[together], 16) * slowest_share(longest) > 0.9
    packed = lengths[by_pack].reshape(-1, 16)
    assert slowest_share(packed.sum(axis=1).reshape(-1, 8)) > 0.97

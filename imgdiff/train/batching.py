"""Which samples of an epoch share a micro-batch: four ways, each a pure function of its arguments.

S samples of an epoch in mixed order (a strategy permutes their places 0..S-1); M micro-batches of
B samples make one step of M * B. A last step with fewer samples is spread over all its
micro-batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

Places = Int64[np.ndarray, " S"]
Lengths = Int64[np.ndarray, " S"]


def sizes_of_step(samples: int, micro_per_step: int) -> list[int]:
    """How many samples each micro-batch of a step takes: equally many, the first ones one more."""
    whole, more = divmod(samples, micro_per_step)
    return [whole + (number < more) for number in range(micro_per_step)]


def deal_evenly(
    lengths_GN: Int64[np.ndarray, "G N"], capacities: Sequence[int]
) -> Int64[np.ndarray, "G N"]:
    """Split each of G groups into chunks of given sizes and near-equal total length.

    Longest first, each to the chunk with the smallest total that still has room (the first such
    one). Returns the members of the groups, chunk after chunk. Equal lengths keep their order.
    """
    groups, members = lengths_GN.shape
    order_GN = np.argsort(-lengths_GN, axis=1, kind="stable")
    sorted_GN = np.take_along_axis(lengths_GN, order_GN, axis=1).astype(np.float64)
    room_C = np.asarray(capacities)
    totals_GC = np.where(room_C > 0, 0.0, np.inf) * np.ones((groups, 1))
    filled_GC = np.zeros((groups, len(room_C)), dtype=np.int64)
    starts_C = np.cumsum(room_C) - room_C
    dealt_GN = np.empty_like(order_GN)
    every = np.arange(groups)
    for member in range(members):
        chunk = totals_GC.argmin(axis=1)
        dealt_GN[every, starts_C[chunk] + filled_GC[every, chunk]] = order_GN[:, member]
        filled_GC[every, chunk] += 1
        full = filled_GC[every, chunk] == room_C[chunk]
        totals_GC[every, chunk] += np.where(full, np.inf, sorted_GN[:, member])
    return dealt_GN


def length_groups(
    order: Places, lengths: Int64[np.ndarray, " L"], micro_batch: int, micro_per_step: int
) -> Places:
    """LLaVA's grouping of one modality (`get_length_grouped_indices`), `order` being shuffled.

    Every step's samples are split into micro-batches of near-equal total length; an incomplete
    last step is sorted by length, and strided over the micro-batches where it does not divide.
    """
    step = micro_batch * micro_per_step
    whole = len(order) // step * step
    steps_GN = order[:whole].reshape(-1, step)
    dealt = deal_evenly(lengths[steps_GN], [micro_batch] * micro_per_step)
    grouped = np.take_along_axis(steps_GN, dealt, axis=1).ravel()
    rest = order[whole:]
    if not len(rest):
        return grouped
    if len(rest) % micro_per_step == 0:
        sizes = [len(rest) // micro_per_step] * micro_per_step
        tail = rest[deal_evenly(lengths[rest][None], sizes)[0]]
    else:
        falling = rest[np.argsort(-lengths[rest], kind="stable")]
        tail = np.concatenate([falling[k::micro_per_step] for k in range(micro_per_step)])
    return np.concatenate([grouped, tail])


def modality(
    words: Lengths,
    has_image: Bool[np.ndarray, " S"],
    micro_batch: int,
    micro_per_step: int,
    rng: np.random.Generator,
) -> Places:
    """LLaVA's `group_by_modality_length` (llava_trainer.py) with a generator of its own.

    Image and text samples make steps of their own, in random order; what is left of both (where
    there are both) comes last, in the order of the epoch.
    """
    step = micro_batch * micro_per_step
    parts, left = [], []
    for kind in (np.flatnonzero(has_image), np.flatnonzero(~has_image)):
        if len(kind):
            order = rng.permutation(kind)
            grouped = length_groups(order, words, micro_batch, micro_per_step)
            if len(kind) == len(words):
                return grouped  # one modality alone: its steps are in random order already
            # The reference sets the last step of each kind apart, also where it is complete.
            last = (len(grouped) - 1) // step * step
            parts.append(grouped[:last].reshape(-1, step))
            left.append(grouped[last:])
    steps_GN = np.concatenate(parts)
    mixed = steps_GN[rng.permutation(len(steps_GN))].ravel()
    return np.concatenate([mixed, np.sort(np.concatenate(left))])


def length_bucket(
    lengths: Lengths,
    micro_batch: int,
    micro_per_step: int,
    window_steps: int,
    lockstep: int,
    rng: np.random.Generator,
) -> Places:
    """Micro-batches of like lengths: sorted within windows of `window_steps` steps of the order.

    Each step takes `lockstep` neighbouring micro-batches from each of M / lockstep strata of its
    window: those that are worked on side by side are of like length, and otherwise all steps look
    alike. Within a step the longest come first. Places beyond the last whole step stay where they
    are, sorted.
    """
    step = micro_batch * micro_per_step
    whole = len(lengths) // step
    parts = []
    for first in range(0, whole, window_steps):
        steps = min(window_steps, whole - first)
        window = np.arange(first * step, (first + steps) * step)
        falling = window[np.argsort(-lengths[window], kind="stable")]
        strata = falling.reshape(micro_per_step // lockstep, steps, lockstep * micro_batch)
        dealt = [stratum[rng.permutation(steps)] for stratum in strata]
        parts.append(np.stack(dealt, axis=1).ravel())
    rest = np.arange(whole * step, len(lengths))
    return np.concatenate([*parts, rest[np.argsort(-lengths[rest], kind="stable")]])


def pack(lengths: Lengths, micro_batch: int, micro_per_step: int) -> Places:
    """The samples of each step dealt to its micro-batches: equal counts, near-equal tokens.

    Which samples a step holds is left as it is, so a run packed and a run plain see the same.
    """
    step = micro_batch * micro_per_step
    whole = len(lengths) // step * step
    groups = lengths[:whole].reshape(-1, step)
    dealt = deal_evenly(groups, [micro_batch] * micro_per_step)
    places = (dealt + np.arange(0, whole, step)[:, None]).ravel()
    rest = np.arange(whole, len(lengths))
    if len(rest):
        sizes = sizes_of_step(len(rest), micro_per_step)
        rest = rest[deal_evenly(lengths[rest][None], sizes)[0]]
    return np.concatenate([places, rest])

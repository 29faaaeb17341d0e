"""Local blend of Prompt-to-Prompt: away from the changed words the target keeps the source.

Only the sum over the changed words' columns is ever formed, at one resolution, as attention over a
value that is 1 at those words (arXiv 2208.01626, section 4.1 "Local editing").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from imgdiff.backends.p2p_plan import PairPlan
from imgdiff.core.errors import BackendError


class LocalBlend:
    """Where source and target attend to the changed words, summed over layers and steps.

    `grid`: rows and columns of the watched layers. A place belongs to the edit where the sum,
    widened by one token and relative to its largest value, exceeds `threshold` in either image.
    Latents are blended from step `start` on.
    """

    def __init__(
        self, plans: Sequence[PairPlan], grid: tuple[int, int], threshold: float, start: int
    ) -> None:
        self._grid = grid
        self._threshold = threshold
        self._start = start
        marks = [marks for p in plans for marks in (p.source_changed_K, p.target_changed_K)]
        self._marked_BK = torch.from_numpy(np.stack(marks))
        self._sum_BT: Tensor | None = None

    def forget(self) -> None:
        """Begin anew, for the next sampling."""
        self._sum_BT = None

    def watches(self, tokens: int) -> bool:
        """Whether layers over so many tokens are watched."""
        return tokens == self._grid[0] * self._grid[1]

    def watch(
        self,
        query: Float[Tensor, "B H T D"],
        key: Float[Tensor, "B H K D"],
        step: Any,
        attend: Callable[..., Float[Tensor, "B H T D"]],
    ) -> None:
        """Add one layer; `attend` is the attention with this step's edit, B the prompts' rows."""
        marked = self._marked_BK.to(query)[:, None, :, None]
        # As wide as a head, which fused kernels ask for; all columns are alike.
        value = marked.repeat(1, key.shape[1], 1, key.shape[-1])
        seen_BT = attend(query, key, value, 0, step)[..., 0].mean(dim=1).float()
        self._sum_BT = seen_BT if self._sum_BT is None else self._sum_BT + seen_BT

    def blended(self, latents: Float[Tensor, "B C h w"], step: int) -> Float[Tensor, "B C h w"]:
        """The latents after a step: targets equal their sources outside the edit."""
        if step < self._start:
            return latents
        if self._sum_BT is None:
            rows, columns = self._grid
            raise BackendError(
                f"local blend: no cross attention of this UNet has {rows} x {columns} tokens; set "
                "generator.self_token_px to the pixels that one token of such a layer covers"
            )
        inside = self._inside(latents)
        source, target = latents[0::2], latents[1::2]
        mask = (inside[0::2] | inside[1::2]).to(latents)
        out = latents.clone()
        out[1::2] = source + mask * (target - source)
        return out

    def _inside(self, latents: Float[Tensor, "B C h w"]) -> Tensor:
        """Whether each place belongs to the edit of its image [B 1 h w]."""
        assert self._sum_BT is not None
        seen = self._sum_BT.unflatten(1, self._grid)[:, None]
        seen = max_pool2d(seen, kernel_size=3, stride=1, padding=1)
        seen = interpolate(seen, size=latents.shape[-2:])
        peak = seen.amax(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(seen.dtype).tiny)
        return seen / peak > self._threshold

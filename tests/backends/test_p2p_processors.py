"""One attention layer: fused against explicit probabilities."""

from __future__ import annotations

import pytest
import tiny_sdxl
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from imgdiff.backends.p2p_plan import Edit, EditSettings, plan_pair
from imgdiff.backends.p2p_processors import PairEdits, PairProcessor
from imgdiff.backends.token_alignment import PadMap
from imgdiff.core.errors import BackendError

TOKENS, WIDTH, TEXT = 64, 32, 24
PROMPTS = (("a red cup", "a blue hat"), ("a very large dog sits", "a cat sits"))
EQUAL_LENGTHS = (("a red cup", "a blue hat"), ("a large dog", "a cup sits"))
EDITS = {
    "refine": {},
    "reference padding": {"pad_map": PadMap.reference},
    "replace": {"edit": Edit.replace},
    "reweight": {"word_weights": {"a": 2.5}},
    "word schedule": {"cross_replace": 0.6, "word_shares": {"a": 0.2}},
    "cross off": {"cross_replace": 0.0},
    "all self": {"self_replace": 1.0},
}


def attention(dtype=torch.float32, context=None):
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(1)
    layer = Attention(WIDTH, cross_attention_dim=context, heads=4, dim_head=8)
    with torch.no_grad():
        layer.to_q.weight.mul_(6.0)  # maps that are far from even
    return layer.to(dtype).eval()


def plans_of(name: str, steps: int = 5):
    tokenizer = tiny_sdxl.tokenizer()
    texts = EQUAL_LENGTHS if name == "replace" else PROMPTS
    settings = EditSettings(steps=steps, **EDITS[name])
    return [plan_pair(tokenizer, source, target, settings) for source, target in texts]


def states(rows: int, dtype=torch.float32):
    dice = torch.Generator().manual_seed(0)
    image = torch.randn(rows, TOKENS, WIDTH, generator=dice)
    text = torch.randn(rows, 77, TEXT, generator=dice)
    return image.to(dtype), text.to(dtype)


class Pipe:
    num_timesteps = 5


def both(layer, plans, image, text, step, limit=TOKENS):
    """The layer's output: fused, explicit and unedited."""
    edits = PairEdits(plans, limit)
    reference = tiny_sdxl.ExplicitReference(plans, limit)
    if step:
        edits.on_step_end(Pipe, step - 1, None, {})
        reference.on_step_end(Pipe, step - 1, None, {})
    plain = layer.processor
    with torch.no_grad():
        fused = PairProcessor(edits, plain)(layer, image, text)
        explicit = tiny_sdxl.ExplicitPairs(reference)(layer, image, text)
        return fused, explicit, plain(layer, image, text)


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("name", EDITS)
def test_cross_attention_equals_explicit_probabilities(name: str, guided: bool) -> None:
    layer, plans = attention(context=TEXT), plans_of(name)
    image, text = states(8 if guided else 4)
    for step in range(5):
        fused, explicit, plain = both(layer, plans, image, text, step)
        torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)
        targets = range(5 if guided else 1, len(image), 2)
        untouched = [row for row in range(len(image)) if row not in targets]
        torch.testing.assert_close(fused[untouched], plain[untouched], atol=1e-6, rtol=0)
        open_gate = plans[0].mix_at(step).any()
        for row in targets:
            assert bool((fused[row] - plain[row]).abs().max() > 1e-3) == bool(open_gate)


@pytest.mark.parametrize("guided", [True, False])
def test_self_attention_equals_explicit_probabilities(guided: bool) -> None:
    layer, plans = attention(), plans_of("refine")
    image, _ = states(8 if guided else 4)
    for step, replaced in enumerate((True, True, False, False, False)):
        fused, explicit, plain = both(layer, plans, image, None, step)
        torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)
        assert bool((fused - plain).abs().max() > 1e-3) == replaced


def test_finer_layers_than_the_limit_keep_their_self_attention() -> None:
    layer, plans = attention(), plans_of("all self")
    image, _ = states(8)
    fused, _, plain = both(layer, plans, image, None, step=0, limit=TOKENS - 1)
    assert torch.equal(fused, plain)


def test_pairs_with_different_schedules_share_a_batch() -> None:
    layer = attention()
    plans = [plans_of("refine")[0], plans_of("all self")[1]]
    image, _ = states(8)
    fused, explicit, plain = both(layer, plans, image, None, step=3)
    torch.testing.assert_close(fused, explicit, atol=1e-5, rtol=0)
    assert torch.equal(fused[5], plain[5])
    assert not torch.allclose(fused[7], plain[7], atol=1e-3)


@pytest.mark.parametrize(("dtype", "within"), [(torch.bfloat16, 0.05), (torch.float16, 0.005)])
def test_half_precision_stays_in_its_type(dtype: torch.dtype, within: float) -> None:
    for context in (TEXT, None):
        image, text = states(8, dtype)
        layer = attention(dtype, context)
        fused, _, _ = both(layer, plans_of("reweight"), image, text if context else None, 0)
        assert fused.dtype == dtype
        image, text = states(8)
        exact = attention(torch.float32, context)
        whole, _, _ = both(exact, plans_of("reweight"), image, text if context else None, 0)
        torch.testing.assert_close(fused.float(), whole, atol=within, rtol=0.05)


class Shapes(TorchDispatchMode):
    """The shapes of all tensors that operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = out if isinstance(out, (tuple, list)) else (out,)
        self.seen |= {tuple(t.shape) for t in tensors if isinstance(t, torch.Tensor)}
        return out


@pytest.mark.parametrize("context", [TEXT, None])
def test_no_attention_map_is_ever_made(context: int | None) -> None:
    layer, plans = attention(context=context), plans_of("reweight")
    image, text = states(8)
    keys = 77 if context else TOKENS
    with torch.no_grad(), Shapes() as fused:
        PairProcessor(PairEdits(plans, TOKENS), layer.processor)(
            layer, image, text if context else None
        )
    assert not [shape for shape in fused.seen if shape[-2:] == (TOKENS, keys)]
    reference = tiny_sdxl.ExplicitReference(plans, TOKENS)
    with torch.no_grad(), Shapes() as explicit:
        tiny_sdxl.ExplicitPairs(reference)(layer, image, text if context else None)
    assert [shape for shape in explicit.seen if shape[-2:] == (TOKENS, keys)]


def test_a_batch_that_is_not_made_of_these_pairs_is_refused() -> None:
    layer, plans = attention(), plans_of("refine")
    image, _ = states(6)
    with pytest.raises(BackendError, match="got 6 rows for 2 pairs; it needs 4, or 8"):
        PairProcessor(PairEdits(plans, TOKENS), layer.processor)(layer, image)


def test_an_attention_mask_is_refused() -> None:
    layer, plans = attention(), plans_of("refine")
    image, _ = states(4)
    with pytest.raises(BackendError, match="takes no attention mask"):
        PairProcessor(PairEdits(plans, TOKENS), layer.processor)(
            layer, image, attention_mask=torch.zeros(4, 1, TOKENS)
        )

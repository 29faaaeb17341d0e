"""Whole denoising loops of diffusers' pipeline: fused against explicit probabilities."""

from __future__ import annotations

import contextlib

import pytest
import tiny_sdxl
import torch

from benchmarks.p2p_measures import LiveTensors
from imgdiff.backends.local_blend import LocalBlend
from imgdiff.backends.p2p_plan import Edit, EditSettings, plan_pair
from imgdiff.backends.p2p_processors import PairEdits
from imgdiff.backends.prompt_to_prompt import (
    Sampling,
    draw_pairs,
    prompt_to_prompt,
    shared_noise,
)
from imgdiff.backends.token_alignment import PadMap
from imgdiff.core.errors import BackendError

STEPS = 3
PAIRS = (("a red cup on a mat", "a red hat on a mat"), ("a large dog sits", "a cat sits"))
WORD_PAIRS = (("a red cup on a mat", "a red hat on a mat"), ("a dog sits", "a giraffe sits"))
SEEDS = (11, 22)


@pytest.fixture(scope="module")
def pipe():
    return tiny_sdxl.pipeline()


def plans_of(pipe, texts=PAIRS, **settings):
    wanted = EditSettings(**{"steps": STEPS} | settings)
    return [plan_pair(pipe.tokenizer, source, target, wanted) for source, target in texts]


def sampling(**changes) -> Sampling:
    size = {"width": tiny_sdxl.SIZE, "height": tiny_sdxl.SIZE}
    given = {"steps": STEPS, "guidance": 7.5, "self_token_px": tiny_sdxl.COARSE_PX} | size | changes
    return Sampling(**given)


def latents(pipe, plans, seeds=SEEDS, **changes):
    drawn = draw_pairs(pipe, plans, seeds, sampling(**changes), output_type="latent")
    return torch.stack([image for pair in drawn for image in pair])


def sampled(pipe, plans, context, seeds=SEEDS, **changes):
    """The pipeline called as anyone would, with whatever attention `context` puts in."""
    how = sampling(**changes)
    noise, dice = shared_noise(seeds, (4, how.height // 2, how.width // 2))
    with context as on_step_end:
        return pipe(
            prompt=[text for plan in plans for text in (plan.source, plan.target)],
            num_inference_steps=how.steps,
            guidance_scale=how.guidance,
            width=how.width,
            height=how.height,
            latents=noise,
            generator=dice,
            callback_on_step_end=on_step_end,
            output_type="latent",
        ).images


def explicit(pipe, plans, **changes):
    rows, columns = sampling(**changes).grid
    reference = tiny_sdxl.ExplicitReference(plans, rows * columns)
    return sampled(pipe, plans, tiny_sdxl.explicitly(pipe.unet, reference), **changes)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {}),
        ({"pad_map": PadMap.reference}, {"guidance": 0.0}),
        ({"edit": Edit.replace}, {}),
        ({"edit": Edit.replace, "pad_map": PadMap.reference}, {"guidance": 1.0}),
        ({"word_weights": {"sits": 3.0}}, {}),
        ({"cross_replace": 0.5, "word_shares": {"a": 0.25}, "self_replace": 0.75}, {}),
        ({"cross_replace": 0.0, "self_replace": 1.0}, {"self_token_px": tiny_sdxl.FINE_PX}),
        ({"self_replace": 0.0}, {"width": 96, "height": 40}),
        ({"self_replace": 1.0}, {"width": 72, "height": 40, "self_token_px": 8}),
    ],
)
def test_latents_equal_those_of_explicit_probabilities(pipe, settings, changes) -> None:
    texts = WORD_PAIRS if settings.get("edit") is Edit.replace else PAIRS
    if "word_weights" in settings:
        texts = (("a dog sits", "a cat sits"), ("the cup sits", "the hat sits"))
    plans = plans_of(pipe, texts, **settings)
    fused, expected = latents(pipe, plans, **changes), explicit(pipe, plans, **changes)
    torch.testing.assert_close(fused, expected, atol=1e-4, rtol=0)
    plain = sampled(pipe, plans, contextlib.nullcontext(), **changes)
    torch.testing.assert_close(fused[0::2], plain[0::2], atol=1e-4, rtol=0)  # sources are free
    assert (fused[1::2] - plain[1::2]).abs().amax(dim=(1, 2, 3)).min() > 1e-2


@pytest.mark.parametrize("kind", ["EulerAncestralDiscreteScheduler", "DDIMScheduler"])
def test_schedulers_that_add_noise_add_the_same_to_both(pipe, kind, monkeypatch) -> None:
    import diffusers

    other = getattr(diffusers, kind).from_config(pipe.scheduler.config)
    monkeypatch.setattr(pipe, "scheduler", other)
    same = plans_of(pipe, (("a red cup", "a red cup"),))
    drawn = latents(pipe, same, (3,))
    torch.testing.assert_close(drawn[0], drawn[1], atol=1e-5, rtol=0)
    plans = plans_of(pipe)
    torch.testing.assert_close(latents(pipe, plans), explicit(pipe, plans), atol=1e-4, rtol=0)


@pytest.mark.parametrize("edit", list(Edit))
@pytest.mark.parametrize("guidance", [7.5, 0.0])
def test_equal_prompts_fully_replaced_give_equal_images(pipe, edit, guidance) -> None:
    same = plans_of(pipe, (("a red cup", "a red cup"),), edit=edit, self_replace=1.0)
    how = sampling(guidance=guidance, self_token_px=1)
    left, right = draw_pairs(pipe, same, [5], how)[0]
    assert left.size == (tiny_sdxl.SIZE, tiny_sdxl.SIZE)
    assert left.tobytes() == right.tobytes()
    assert len(set(left.tobytes())) > 20  # not a flat picture


@pytest.mark.parametrize("steps", [1, 4])
def test_turbo_settings(pipe, steps) -> None:
    plans = plans_of(pipe, steps=steps)
    turbo = {"steps": steps, "guidance": 0.0}
    fused = latents(pipe, plans, **turbo)
    torch.testing.assert_close(fused, explicit(pipe, plans, **turbo), atol=1e-4, rtol=0)


def test_four_pairs_at_once_and_one_at_a_time(pipe) -> None:
    texts = (*PAIRS, ("a red cup", "a blue ball under a tree"), ("red cup", "blue mug"))
    plans = plans_of(pipe, texts)
    seeds = [1, 2, 3, 2**63 - 1]
    together = latents(pipe, plans, seeds)
    alone = torch.cat([latents(pipe, [p], [s]) for p, s in zip(plans, seeds, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    backwards = latents(pipe, plans[::-1], seeds[::-1]).unflatten(0, (4, 2)).flip(0).flatten(0, 1)
    torch.testing.assert_close(together, backwards, atol=1e-4, rtol=0)


def test_memory_stays_that_of_plain_sampling(pipe) -> None:
    plans = plans_of(pipe, self_replace=1.0)
    edits = sampling().edits(plans)
    peaks = []
    for context in (
        contextlib.nullcontext(),
        prompt_to_prompt(pipe.unet, edits),
        tiny_sdxl.explicitly(pipe.unet, tiny_sdxl.ExplicitReference(plans, 64)),
    ):
        with LiveTensors() as live:
            sampled(pipe, plans, context)
        peaks.append(live.peak)
    plain, fused, explicit = peaks
    assert plain > 2**20
    assert fused <= 1.05 * plain
    assert explicit > 1.5 * plain


def test_noise_is_shared_within_a_pair_and_comes_from_its_seed_alone() -> None:
    noise, dice = shared_noise([7, 8], (4, 8, 6))
    assert noise.shape == (4, 4, 8, 6)
    assert torch.equal(noise[0], noise[1])
    assert torch.equal(noise[2], noise[3])
    assert not torch.equal(noise[0], noise[2])
    assert torch.equal(noise[2:], shared_noise([8], (4, 8, 6))[0])
    later = [torch.randn(5, generator=one) for one in dice]
    assert torch.equal(later[0], later[1])
    assert not torch.equal(later[0], noise[0].flatten()[:5])


def test_the_callback_opens_the_gates_anew_for_the_next_sampling(pipe) -> None:
    plans = plans_of(pipe)
    edits = sampling().edits(plans)
    with prompt_to_prompt(pipe.unet, edits) as on_step_end:
        first, second = (
            sampled(pipe, plans, contextlib.nullcontext(on_step_end)) for _ in range(2)
        )
    assert torch.equal(first, second)


def test_processors_are_put_back(pipe) -> None:
    before = dict(pipe.unet.attn_processors)
    edits = sampling().edits(plans_of(pipe))

    def none_left() -> bool:
        return all(pipe.unet.attn_processors[name] is before[name] for name in before)

    with prompt_to_prompt(pipe.unet, edits):
        assert not none_left()
    assert none_left()
    with pytest.raises(ZeroDivisionError), prompt_to_prompt(pipe.unet, edits):
        _ = 1 // 0
    assert none_left()
    with pytest.raises(BackendError, match="got 12 rows for 2 pairs"):
        sampled(pipe, plans_of(pipe, (*PAIRS, PAIRS[0])), prompt_to_prompt(pipe.unet, edits),
                seeds=(1, 2, 3))  # fmt: skip
    assert none_left()


def test_attention_of_another_kind_is_refused(pipe) -> None:
    from diffusers.models.attention_processor import SlicedAttnProcessor

    before = dict(pipe.unet.attn_processors)
    edits = sampling().edits(plans_of(pipe))
    pipe.unet.set_attn_processor(SlicedAttnProcessor(1))
    try:
        with (
            pytest.raises(BackendError, match=r"SlicedAttnProcessor; call unet\.set_default"),
            prompt_to_prompt(pipe.unet, edits),
        ):
            pass
    finally:
        pipe.unet.set_attn_processor(before)


def test_attention_outside_transformer_blocks_is_refused(pipe) -> None:
    from diffusers.models.attention_processor import Attention

    layer = pipe.unet.mid_block.attentions[0].transformer_blocks[0]
    edits, kept = sampling().edits(plans_of(pipe)), layer.attn1
    layer.attn1 = Attention(32, heads=4, dim_head=8, norm_num_groups=8, residual_connection=True)
    try:
        with (
            pytest.raises(BackendError, match=r"mid_block.*not the attention of a transformer"),
            prompt_to_prompt(pipe.unet, edits),
        ):
            pass
    finally:
        layer.attn1 = kept


def test_bfloat16_draws_nearly_what_float32_draws() -> None:
    half = tiny_sdxl.pipeline().to(torch.bfloat16)
    how = {"steps": 2, "guidance": 2.0}
    drawn = latents(half, plans_of(half, steps=2), **how)
    assert drawn.dtype == torch.bfloat16
    whole = tiny_sdxl.pipeline()
    expected = latents(whole, plans_of(whole, steps=2), **how)
    assert (drawn.float() - expected).abs().max() < 0.1 * expected.std()


def blended(pipe, plans, threshold, start=0.0):
    return latents(pipe, plans, blend_threshold=threshold, blend_start=start)


def test_local_blend_keeps_the_source_where_nothing_changes(pipe) -> None:
    plans = plans_of(pipe)
    free, all_kept = latents(pipe, plans), blended(pipe, plans, threshold=1.0)
    torch.testing.assert_close(all_kept[0::2], free[0::2], atol=1e-4, rtol=0)
    assert torch.equal(all_kept[1::2], all_kept[0::2])  # no place exceeds the largest value
    local = blended(pipe, plans, threshold=0.985)
    kept = (local[1::2] == local[0::2]).all(dim=1).float().mean(dim=(1, 2))
    assert ((kept > 0.02) & (kept < 0.98)).all()
    late = blended(pipe, plans, threshold=1.0, start=1.0)
    torch.testing.assert_close(late, free, atol=1e-4, rtol=0)


def test_local_blend_finds_the_places_of_explicit_maps(pipe) -> None:
    """After one step: the mask from probabilities, summed over the changed words' columns."""
    texts = (PAIRS[0],)
    plans = plans_of(pipe, texts, steps=1)
    how = {"steps": 1, "width": 96, "height": 40}
    rows, columns = 5, 12
    reference = tiny_sdxl.ExplicitReference(plans, rows * columns)
    total = torch.zeros(2, rows * columns)
    edit = reference.edit

    def watched(maps, is_cross):
        edit(maps, is_cross)
        if is_cross and maps.shape[2] == rows * columns:
            for k, marks in enumerate((plans[0].source_changed_K, plans[0].target_changed_K)):
                seen = maps[2 + k][..., torch.from_numpy(marks)]
                total[k] += seen.sum(-1).mean(0)

    reference.edit = watched
    sampled(pipe, plans, tiny_sdxl.explicitly(pipe.unet, reference), (1,), **how)
    grown = torch.nn.functional.max_pool2d(total.view(2, 1, rows, columns), 3, 1, 1)
    fine = grown.repeat_interleave(4, 2).repeat_interleave(4, 3)[0:2, 0]
    inside = (fine > 0.99 * fine.amax(dim=(1, 2), keepdim=True)).any(0)
    drawn = draw_pairs(
        pipe, plans, [1], sampling(blend_threshold=0.99, blend_start=0.0, **how), "latent"
    )
    same = (drawn[0][0] == drawn[0][1]).all(dim=0)
    assert torch.equal(same, ~inside)
    assert 0 < inside.sum() < inside.numel()


def test_local_blend_without_such_a_layer_says_so(pipe) -> None:
    with pytest.raises(BackendError, match=r"no cross attention .* 2 x 2 tokens; set generator"):
        latents(pipe, plans_of(pipe), blend_threshold=0.3, self_token_px=32)


def test_local_blend_copes_with_a_pair_in_which_a_word_is_only_added(pipe) -> None:
    plans = plans_of(pipe, (("a cup", "a red cup"),))
    assert not plans[0].source_changed_K.any()
    drawn = latents(pipe, plans, (4,), blend_threshold=0.5)
    assert torch.isfinite(drawn).all()
    assert isinstance(PairEdits(plans, 4, LocalBlend(plans, (2, 2), 0.5, 0)).blend, LocalBlend)

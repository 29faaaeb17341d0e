"""The pair generator `sdxl_p2p` on a saved SDXL checkpoint of toy size with random weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_sdxl

from imgdiff.backends.checkpoints import content_identity, is_whole
from imgdiff.backends.configs import Dtype
from imgdiff.backends.p2p_plan import EMPTY, EQUAL, NOT_THERE, OUTSIDE, UNEQUAL_LENGTHS, Edit
from imgdiff.backends.protocols import DrawnPair, PairGenerator, Refusal
from imgdiff.backends.sdxl_p2p_config import Scheduler, SdxlP2pConfig
from imgdiff.backends.token_alignment import PadMap
from imgdiff.core.errors import BackendError, ConfigError
from imgdiff.core.identity import image_id
from imgdiff.core.records import CaptionPair
from imgdiff.launch import compose_typed
from imgdiff.synth.config import SynthConfig, register
from imgdiff.synth.pipeline import run

REPO = Path(__file__).resolve().parents[2]
QUICK = {"steps": 2, "guidance": 2.0, "self_token_px": tiny_sdxl.COARSE_PX}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    tiny_sdxl.pipeline().save_pretrained(folder)
    return folder


def pair(left: str, right: str, seed: int = 1) -> CaptionPair:
    return CaptionPair(id=f"{left}-{right}", left=left, right=right, seed=seed)


CUPS = [
    pair("a red cup", "a red hat", 1),
    pair("a dog sits", "a cat sits", 2),
    pair("a red cup", "a red hat", 3),
]


def drawn(checkpoint: Path, pairs, **settings) -> list[DrawnPair | Refusal]:
    with SdxlP2pConfig(model=str(checkpoint), **QUICK | settings).build() as generator:
        assert isinstance(generator, PairGenerator)
        return generator.generate(pairs)


def ids(results) -> list[tuple[str, str]]:
    return [(image_id(result.left), image_id(result.right)) for result in results]


def test_pairs_are_drawn_in_order_and_refusals_keep_their_place(checkpoint) -> None:
    long = " ".join(["a cat"] * 60)
    pairs = [
        CUPS[0], pair("a cat", "a CAT"), CUPS[1], pair("  ", "a cat"),
        pair(f"{long} cup", f"{long} hat"), CUPS[2],
    ]  # fmt: skip
    results = drawn(checkpoint, pairs, batch_pairs=2)
    reasons = [r.reason if isinstance(r, Refusal) else None for r in results]
    assert reasons == [None, EQUAL, None, EMPTY, OUTSIDE, None]
    shown = [(p.left_caption, p.right_caption) for p in results if isinstance(p, DrawnPair)]
    assert shown == [(p.left, p.right) for p in CUPS]
    for result in results:
        if isinstance(result, DrawnPair):
            assert (result.left.mode, result.left.size, result.right.size) == (
                "RGB", (tiny_sdxl.SIZE,) * 2, (tiny_sdxl.SIZE,) * 2,
            )  # fmt: skip
            assert result.truth is None
            assert image_id(result.left) != image_id(result.right)
    assert drawn(checkpoint, []) == []


def test_a_pair_depends_on_its_captions_and_seed_only(checkpoint) -> None:
    together = ids(drawn(checkpoint, CUPS))
    assert len(set(together)) == 3  # the seed alone tells the first from the last
    assert ids(drawn(checkpoint, CUPS[::-1]))[::-1] == together
    assert ids(drawn(checkpoint, CUPS[1:2])) == together[1:2]
    odd = [pair("a cat", "a cat"), *CUPS, pair("", "x")]
    kept = [result for result in drawn(checkpoint, odd) if isinstance(result, DrawnPair)]
    assert ids(kept) == together


@pytest.mark.parametrize(
    ("left", "right", "settings", "reason"),
    [
        ("a cat", "a red cat", {"edit": Edit.replace}, UNEQUAL_LENGTHS),
        ("a cat", "a dog", {"word_weights": {"cat": 2.0}}, NOT_THERE),
        ("a cat", "a dog", {"word_shares": {"confetti": 0.8}}, NOT_THERE),
    ],
)
def test_settings_that_a_pair_cannot_follow_refuse_it(
    checkpoint, left, right, settings, reason
) -> None:
    (result,) = drawn(checkpoint, [pair(left, right)], **settings)
    assert isinstance(result, Refusal)
    assert result.reason == reason


@pytest.mark.parametrize("scheduler", list(Scheduler))
def test_every_scheduler_draws(checkpoint, scheduler) -> None:
    (result,) = drawn(checkpoint, CUPS[:1], scheduler=scheduler, batch_pairs=1, steps=3)
    assert isinstance(result, DrawnPair)


def test_the_coarsest_layers_are_replaced_unless_a_size_is_given(checkpoint) -> None:
    def shown(px: int | None) -> list[tuple[str, str]]:
        how = {"self_token_px": px, "self_replace": 1.0, "batch_pairs": 1}
        return ids(drawn(checkpoint, CUPS[:1], **how))

    assert shown(None) == shown(tiny_sdxl.COARSE_PX) != shown(tiny_sdxl.FINE_PX)
    assert shown(None) != shown(4 * tiny_sdxl.COARSE_PX)  # no layer is that coarse


def test_sizes_and_turbo_settings(checkpoint) -> None:
    turbo = {"guidance": 0.0, "steps": 1, "width": 96, "height": 40, "local_blend": True}
    (result,) = drawn(checkpoint, CUPS[:1], batch_pairs=1, blend_start=0.0, **turbo)
    assert isinstance(result, DrawnPair)
    assert result.left.size == (96, 40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cross_replace": 1.2}, r"generator\.cross_replace=1\.2: must lie in \[0, 1\]"),
        ({"self_replace": -0.1}, r"generator\.self_replace=-0\.1"),
        ({"self_replace": float("nan")}, r"generator\.self_replace=nan"),
        ({"word_shares": {"dog": 7.0}}, r"generator\.word_shares\.dog=7\.0"),
        ({"word_weights": {"dog": -1.0}}, r"generator\.word_weights\.dog=-1\.0: .*>= 0"),
        ({"guidance": float("inf")}, r"generator\.guidance=inf: .*7\.5 is SDXL's"),
        ({"steps": 0}, r"generator\.steps=0: must be at least 1"),
        ({"batch_pairs": 0}, r"generator\.batch_pairs=0"),
        ({"self_token_px": 0}, r"generator\.self_token_px=0"),
        ({"width": 1020}, r"generator\.width=1020: must be a multiple of 8"),
        ({"height": 0}, r"generator\.height=0: must be a multiple of 8"),
        ({"blend_threshold": 2.0}, r"generator\.blend_threshold=2\.0"),
        ({"model": " "}, r"generator\.model=' ': names no checkpoint"),
    ],
)
def test_wrong_settings_are_named(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        SdxlP2pConfig(**settings)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.scheduler=heun", r"generator\.scheduler=heun(.|\n)*euler_ancestral"),
        ("generator.edit=swap", r"generator\.edit=swap(.|\n)*replace"),
        ("generator.self_replace=2", r"generator\.self_replace=2"),
        ("rules.regions_from=truth", r"rules\.regions_from=truth: .*no record"),
    ],
)
def test_wrong_overrides_are_named(override, message) -> None:
    register()
    with pytest.raises(ConfigError, match=message):
        compose_typed("synth", SynthConfig, ["generator=sdxl_p2p", override])


def test_a_size_that_the_vae_cannot_take_is_refused_before_loading(checkpoint, tmp_path) -> None:
    copy = tmp_path / "coarse"
    shutil.copytree(checkpoint, copy)
    file = copy / "vae" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"block_out_channels": [16] * 5}))
    with pytest.raises(ConfigError, match=r"generator\.width=72: must be a multiple of 16"):
        SdxlP2pConfig(model=str(copy), width=72).build()
    file.unlink()
    with pytest.raises(BackendError, match=r"lacks vae/config\.json"):
        SdxlP2pConfig(model=str(copy)).build()


def test_identity_changes_with_all_that_changes_a_pixel(checkpoint) -> None:
    base = SdxlP2pConfig(model=str(checkpoint), **QUICK)
    assert content_identity(checkpoint) in base.identity()
    assert base.build().identity == base.identity()
    changes = [
        {"steps": 3}, {"guidance": 3.0}, {"pad_map": PadMap.reference}, {"self_replace": 0.5},
        {"word_weights": {"a": 2.0}}, {"width": 72}, {"scheduler": Scheduler.ddim},
        {"local_blend": True}, {"edit": Edit.replace},
    ]  # fmt: skip
    names = [SdxlP2pConfig(model=str(checkpoint), **QUICK | one).identity() for one in changes]
    assert len({base.identity(), *names}) == len(changes) + 1
    same = {"batch_pairs": 9, "dtype": Dtype.float16}  # a CPU computes in float32
    assert SdxlP2pConfig(model=str(checkpoint), **QUICK | same).identity() == base.identity()


def test_absent_and_damaged_checkpoints(checkpoint, tmp_path) -> None:
    with pytest.raises(BackendError, match=r"generator\.model=mini:none"):
        SdxlP2pConfig(model="mini:none").identity()
    with pytest.raises(BackendError, match=r"lacks model_index\.json"):
        SdxlP2pConfig(model=str(tmp_path)).build()
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    assert is_whole(broken)
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(b"not weights")
    with pytest.raises(BackendError, match=r"generator\.model=.*cannot be loaded"):
        drawn(broken, CUPS[:1])
    weights.unlink()
    assert not is_whole(broken)


def test_a_scheduler_with_two_calls_a_step_is_refused(checkpoint, tmp_path) -> None:
    copy = tmp_path / "heun"
    shutil.copytree(checkpoint, copy)
    for name in ("model_index.json", "scheduler/scheduler_config.json"):
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace("EulerDiscrete", "HeunDiscrete"))
    with pytest.raises(BackendError, match=r"HeunDiscreteScheduler .*use one of euler, "):
        drawn(copy, CUPS[:1])
    (result,) = drawn(copy, CUPS[:1], scheduler=Scheduler.euler, batch_pairs=1)
    assert isinstance(result, DrawnPair)


def test_half_precision_files_alone_are_found(checkpoint, tmp_path) -> None:
    copy = tmp_path / "halves"
    shutil.copytree(checkpoint, copy)
    for file in copy.rglob("*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    assert ids(drawn(copy, CUPS[:1], batch_pairs=1)) == ids(
        drawn(checkpoint, CUPS[:1], batch_pairs=1)
    )


def test_the_config_is_light() -> None:
    code = (
        "import sys; from imgdiff.backends.sdxl_p2p_config import SdxlP2pConfig as C; "
        "C().build(); print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]")


def test_the_synthesis_draws_its_pairs_with_it(checkpoint, tmp_path) -> None:
    register()
    settings = [
        "generator=sdxl_p2p", f"generator.model={checkpoint}", "source.limit=3",
        "stop_after=generate", f"output_dir={tmp_path / 'out'}", "generator.batch_pairs=2",
        f"store_dir={tmp_path / 'store'}", "workers=1",
        *(f"generator.{key}={value}" for key, value in QUICK.items()),
    ]  # fmt: skip
    run(compose_typed("synth", SynthConfig, settings))
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["models_loaded"] == ["generator"]
    assert manifest["settings"]["generator"]["self_replace"] == 0.4
    assert manifest["settings"]["made_of"]["generator"].startswith("sdxl-p2p:")
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text())
    generate = next(step for step in funnel["items"] if step["stage"] == "generate")
    assert generate["out"] == generate["in"] > 0
    assert len(list((tmp_path / "store").rglob("*.png"))) == 2 * generate["out"]

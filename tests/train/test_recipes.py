"""Every model x tuning beside the authors' scripts, and every experiment of the paper."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from imgdiff.core.errors import ConfigError
from imgdiff.launch import compose_typed, conf_dir
from imgdiff.train.config import StrategyKind, TrainConfig, Tuning, register
from imgdiff.train.plan import Batching


def composed(*overrides: str) -> TrainConfig:
    register()
    return compose_typed("train", TrainConfig, overrides)


@dataclass(frozen=True, kw_only=True)
class Official:
    """What a script of the authors says; the mini's own values are ours."""

    rate: float
    projector_rate: float | None = None  # where it differs
    batch: int
    micro: int
    decay: float = 0.0
    clip: float | None = None
    tokens: int
    tiles: int | None = None
    adapters: tuple[int, int, float] | None = None  # rank, alpha, dropout
    projector_trains: bool = True
    epochs: float | None = 1.0  # None: the mini counts steps
    batching: Batching


# LLaVA, scripts/v1_5/finetune.sh, finetune_lora.sh, pretrain.sh: 8 GPUs, 16 (pretrain: 32) each.
LLAVA = {"decay": 0.0, "clip": None, "tokens": 2048, "batching": Batching.modality}
LLAVA_LORA = Official(
    rate=2e-4, projector_rate=2e-5, batch=128, micro=16, adapters=(128, 256, 0.05), **LLAVA
)
LLAVA_RECIPES = {
    Tuning.full: Official(rate=2e-5, batch=128, micro=16, **LLAVA),
    Tuning.lora: LLAVA_LORA,
    Tuning.qlora: LLAVA_LORA,
    Tuning.projector: Official(rate=1e-3, batch=256, micro=32, **LLAVA),
}


def internvl2(decay: float) -> dict[Tuning, Official]:
    """InternVL, shell/internvl2.0/2nd_finetune: full 8 x 4 x 4, LoRA 2 x 4 x 2, ZeRO-1's clipping.

    The projector alone is no recipe of theirs.
    """
    common = {
        "micro": 4, "decay": decay, "clip": 1.0, "tokens": 4096, "tiles": 6,
        "batching": Batching.length_bucket,
    }  # fmt: skip
    lora = Official(rate=4e-5, batch=16, adapters=(16, 32, 0.05), projector_trains=False, **common)
    return {
        Tuning.full: Official(rate=4e-5, batch=128, **common),
        Tuning.lora: lora,
        Tuning.qlora: lora,
        Tuning.projector: Official(rate=1e-3, batch=128, **common),
    }


MINI = {"batch": 8, "micro": 8, "tokens": 2048, "epochs": None, "batching": Batching.plain}
MINI_LORA = Official(rate=3e-3, projector_rate=3e-4, adapters=(16, 32, 0.05), **MINI)
RECIPES = {
    "mini": {
        Tuning.full: Official(rate=3e-4, **MINI),
        Tuning.lora: MINI_LORA,
        Tuning.qlora: MINI_LORA,
        Tuning.projector: Official(rate=1e-3, **MINI),
    },
    "llava15_7b": LLAVA_RECIPES,
    "llava15_13b": LLAVA_RECIPES,
    "internvl2_8b": internvl2(0.05),
    "internvl2_1b": internvl2(0.01),
}


@pytest.mark.parametrize("tuning", list(Tuning), ids=lambda t: t.value)
@pytest.mark.parametrize("model", RECIPES)
def test_a_recipe_says_what_its_script_says(model: str, tuning: Tuning) -> None:
    expected = RECIPES[model][tuning]
    config = composed(f"model={model}", f"tuning={tuning.value}", "data.base=mix.json")
    adapters = (config.tuning.rank, config.tuning.alpha, config.tuning.dropout)
    found = Official(
        rate=config.learning_rate,
        projector_rate=config.projector_learning_rate,
        batch=config.batch_size,
        micro=config.micro_samples,
        decay=config.weight_decay,
        clip=config.clip_norm,
        tokens=config.model.max_tokens,
        tiles=expected.tiles and config.model.max_tiles,
        adapters=adapters if config.tuning.has_adapters else None,
        projector_trains=config.tuning.train_projector or not config.tuning.has_adapters,
        epochs=None if config.max_steps else config.epochs,
        batching=config.batching,
    )
    assert found == expected
    assert config.tuning.kind is tuning
    assert config.warmup_ratio == 0.03
    assert config.model.recompute is (model != "mini")
    assert config.max_steps == (700 if model == "mini" else None)
    assert config.data.synth_share == (0.6 if model == "mini" else None)


MIX = ("data.base=mix.json", "model.assembly.projector=mm_projector.bin")


@dataclass(frozen=True)
class Stated:
    """What an experiment of the paper comes to."""

    start: str  # the language model, or the checkpoint
    strategy: StrategyKind
    synth: str | None
    rate: float
    decay: float
    epochs: float
    base: str | None = "mix.json"


ZERO2, SYNTH = StrategyKind.deepspeed_zero2, "outputs/synth"
EXPERIMENTS = {
    "llava15_7b_mix": (MIX, Stated("lmsys/vicuna-7b-v1.5", ZERO2, SYNTH, 2e-5, 0.0, 1.0)),
    "llava15_13b_mix": (MIX, Stated("lmsys/vicuna-13b-v1.5", ZERO2, SYNTH, 2e-5, 0.0, 1.0)),
    "internvl2_8b_mix": (MIX[:1], Stated("OpenGVLab/InternVL2-8B", ZERO2, SYNTH, 4e-5, 0.05, 1.0)),
    "internvl2_8b_baseline": (
        MIX[:1], Stated("OpenGVLab/InternVL2-8B", ZERO2, None, 4e-5, 0.05, 1.0),
    ),
    "internvl2_1b_mix": (
        MIX[:1], Stated("OpenGVLab/InternVL2-1B", StrategyKind.ddp, SYNTH, 4e-5, 0.01, 1.0),
    ),
    "internvl2_1b_baseline": (
        MIX[:1], Stated("OpenGVLab/InternVL2-1B", StrategyKind.ddp, None, 4e-5, 0.01, 1.0),
    ),
    "spot_the_diff": (
        ("data.sources.spot_the_diff.path=train.json",),
        Stated("outputs/train/checkpoint", ZERO2, None, 2e-5, 0.0, 2.0, base=None),
    ),
    "image_edit_request": (
        ("data.sources.image_edit_request.path=train.json",),
        Stated("outputs/train/checkpoint", ZERO2, None, 2e-5, 0.0, 2.0, base=None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes(name: str) -> None:
    given, expected = EXPERIMENTS[name]
    config = composed(f"experiment=train/{name}", *given)
    found = Stated(
        config.model.assembly.language or config.model.path,
        config.strategy.kind,
        config.data.synth,
        config.learning_rate,
        config.weight_decay,
        config.epochs,
        config.data.base,
    )
    assert found == expected
    assert config.max_steps is None
    assert config.tuning.kind is Tuning.full


def test_every_experiment_is_tried() -> None:
    folder = conf_dir() / "experiment" / "train"
    assert {path.stem for path in folder.glob("*.yaml")} == set(EXPERIMENTS)


@pytest.mark.parametrize(
    ("overrides", "rate", "rank"),
    [
        (["experiment=train/llava15_13b_mix", *MIX, "tuning=lora"], 2e-4, 128),
        (["tuning=lora", "experiment=train/internvl2_1b_baseline", *MIX[:1]], 4e-5, 16),
        (
            [
                "experiment=train/spot_the_diff", "model=internvl2_8b", "tuning=lora",
                "data.sources.spot_the_diff.path=train.json",
            ],
            4e-5, 16,
        ),
        (["experiment=train/llava15_7b_mix", *MIX, "learning_rate=1e-5"], 1e-5, 128),
    ],
)  # fmt: skip
def test_the_recipe_follows_what_the_command_chooses(
    overrides: list[str], rate: float, rank: int
) -> None:
    """A group named on the command line beats the experiment's, and brings its own recipe."""
    config = composed(*overrides)
    assert (config.learning_rate, config.tuning.rank) == (rate, rank)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=train/llava15_7b_mx"], r"experiment/train/llava15_7b_mx"),
        (["experiment=train/llava15_7b_mix"], r"model\.assembly names language, vision only"),
        (["experiment=train/spot_the_diff"], r"data\.sources\.spot_the_diff\.path is required"),
    ],
)
def test_what_an_experiment_lacks_is_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(*overrides)

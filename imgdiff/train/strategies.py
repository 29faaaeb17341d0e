"""How a run is spread over devices: Lightning strategies with the traps of each taken out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, Strategy

from imgdiff.core.errors import ConfigError
from imgdiff.train.config import Precision, StrategyConfig, StrategyKind, TrainConfig, Tuning

PRECISIONS = {Precision.bfloat16: "bf16-mixed", Precision.float32: "32-true"}
ZERO_STAGE = {StrategyKind.deepspeed_zero2: 2, StrategyKind.deepspeed_zero3: 3}
_NEEDS_GPU = frozenset({StrategyKind.fsdp, *ZERO_STAGE})


def devices_of(config: StrategyConfig) -> int:
    """Devices per node; 0 in the settings means every GPU (or the one CPU)."""
    return config.devices or max(1, torch.cuda.device_count())


def world_size(config: StrategyConfig) -> int:
    """Processes of the run."""
    return devices_of(config) * config.nodes


def accumulation(config: TrainConfig) -> int:
    """Micro-batches of one optimiser step on each device.

    ConfigError where the devices cannot share a step evenly.
    """
    world = world_size(config.strategy)
    if config.micro_per_step % world:
        raise ConfigError(
            f"batch_size={config.batch_size} is {config.micro_per_step} micro-batch(es) of "
            f"{config.micro_samples}, which {world} devices cannot share evenly. Set "
            f"micro_batch_size so that batch_size / micro_batch_size is a multiple of {world}, or "
            "change strategy.devices or strategy.nodes."
        )
    return config.micro_per_step // world


def check_hardware(config: TrainConfig) -> None:
    """ConfigError where this machine cannot run the strategy or the precision."""
    strategy, gpus = config.strategy, torch.cuda.device_count()
    kind = strategy.kind
    if kind in _NEEDS_GPU and not gpus:
        raise ConfigError(
            f"strategy={kind.value}: needs CUDA devices, and this machine has none. "
            "Use strategy=single or strategy=ddp."
        )
    if gpus and devices_of(strategy) > gpus:
        raise ConfigError(f"strategy.devices={strategy.devices}: this machine has {gpus} GPU(s)")
    if kind in ZERO_STAGE and not _has("deepspeed"):
        raise ConfigError(
            f"strategy={kind.value}: the package deepspeed is not installed. "
            "Install it with `pip install 'imgdiff[deepspeed]'`, or use strategy=fsdp."
        )
    if config.tuning.kind is Tuning.qlora and not (gpus and _has("bitsandbytes")):
        raise ConfigError(
            "tuning=qlora: needs a GPU and the package bitsandbytes (`pip install bitsandbytes`). "
            "Use tuning=lora."
        )
    if config.precision is Precision.bfloat16 and gpus and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            f"precision=bfloat16: {torch.cuda.get_device_name()} has no bfloat16. "
            "Set precision=float32."
        )


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def build_strategy(config: TrainConfig) -> Strategy | str:
    """What Lightning's Trainer is given; `auto` for one device."""
    kind = config.strategy.kind
    if kind is StrategyKind.single:
        return "auto"
    if kind is StrategyKind.ddp:
        # Every parameter that trains has a gradient in every step (text-only batches show a blank
        # image to the projector), so nothing is searched for.
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        return DDPStrategy(find_unused_parameters=False, process_group_backend=backend)
    if kind is StrategyKind.fsdp:
        return _fsdp()
    return _deepspeed(config)


def _fsdp() -> Strategy:
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer
    from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

    return FSDPStrategy(
        auto_wrap_policy=ModuleWrapPolicy({LlamaDecoderLayer, Qwen2DecoderLayer}),
        use_orig_params=True,  # frozen and trained parameters share a unit
        state_dict_type="sharded",
    )


def deepspeed_config(config: TrainConfig) -> dict[str, Any]:
    """DeepSpeed's settings, every default that has changed between its versions written out.

    Clipping: LLaVA's own files have no such key, which meant none then and 1.0 in DeepSpeed 0.19.
    Lightning writes it from the Trainer's `gradient_clip_val`, and accumulation too.
    """
    stage = ZERO_STAGE[config.strategy.kind]
    zero: dict[str, Any] = {
        "stage": stage,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": 500_000_000,
        "allgather_bucket_size": 500_000_000,
    }
    if stage == ZERO_STAGE[StrategyKind.deepspeed_zero3]:
        zero |= {
            "sub_group_size": 1_000_000_000,
            "stage3_max_live_parameters": 1_000_000_000,
            "stage3_max_reuse_distance": 1_000_000_000,
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if config.strategy.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    return {
        # Else Lightning builds a second dataloader to guess it.
        "train_micro_batch_size_per_gpu": config.micro_samples,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": config.precision is Precision.bfloat16},
        # Sums over micro-batches and ranks in float32, as the losses of a long run need.
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
    }


def _deepspeed(config: TrainConfig) -> Strategy:
    from lightning.pytorch.strategies import DeepSpeedStrategy

    settings = deepspeed_config(config)

    class Sharded(DeepSpeedStrategy):
        """Leaves the sharding of weights at loading to transformers, which knows their files.

        And divides a loss by the number of accumulated micro-batches once: Lightning 2.6 has done
        so when DeepSpeed does it again. AdamW hides that, clipping does not.
        """

        def backward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            """As it is, the loss not scaled once more."""
            return super().backward(*args, scale_wrt_gas=False, **kwargs)

        @contextmanager
        def model_sharded_context(self) -> Iterator[None]:
            """Nothing: Lightning's own wrapper would hand `from_pretrained` empty tensors."""
            with nullcontext():
                yield

    return Sharded(config=settings, exclude_frozen_parameters=True)


def zero3_loading(config: TrainConfig) -> Any:
    """An object to keep alive while a model loads under ZeRO-3 (None elsewhere)."""
    if config.strategy.kind is not StrategyKind.deepspeed_zero3:
        return None
    from transformers.integrations import HfDeepSpeedConfig

    micro = {"train_batch_size": config.batch_size}
    return HfDeepSpeedConfig(deepspeed_config(config) | micro)


def build_trainer(config: TrainConfig, steps: int, **extra: Any) -> pl.Trainer:
    """A Trainer over one epoch that is the whole planned run of `steps` optimiser steps."""
    return pl.Trainer(
        max_epochs=1,
        max_steps=steps,
        accelerator="auto" if torch.cuda.is_available() else "cpu",
        devices=devices_of(config.strategy),
        num_nodes=config.strategy.nodes,
        strategy=build_strategy(config),
        precision=PRECISIONS[config.precision],  # type: ignore[arg-type]
        accumulate_grad_batches=accumulation(config),
        gradient_clip_val=config.clip_norm,
        use_distributed_sampler=False,  # the plan says which rank sees what
        enable_checkpointing=False,  # `resume` writes them, atomically
        enable_model_summary=False,
        enable_progress_bar=False,
        deterministic=not torch.cuda.is_available(),  # on a GPU it costs speed and some kernels
        **extra,
    )

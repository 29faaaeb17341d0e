"""The checkpoint folder that a run ends with; transformers or peft open it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor

from imgdiff.backends.adapters import BASE_FILE
from imgdiff.backends.loading import quietly, stored_dtype
from imgdiff.backends.readers import Reader
from imgdiff.core.files import not_written, write_json
from imgdiff.train.models import Base
from imgdiff.train.tuning import inner

_OF_ADAPTERS = ("lora_", ".modules_to_save.")  # in peft's names of what it saves
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".index.json", ".md")


def write_checkpoint(
    trainer: pl.Trainer, model: Any, base: Base, reader: Reader, folder: Path
) -> None:
    """Gather the weights of all devices; the first process writes `folder`, whole or not at all.

    A full model is written in float32 where its base is, else in the base's own number type; with
    adapters only these are (and the projector where it trains). A full disk raises StoreError.
    """
    from safetensors import SafetensorError

    state = gathered_state(trainer)
    if trainer.is_global_zero:
        try:
            _write(model, state, base, reader, folder)
        except SafetensorError as error:
            raise not_written(folder, OSError(str(error))) from error
        except OSError as error:
            raise not_written(folder, error) from error
    trainer.strategy.barrier()


def gathered_state(trainer: pl.Trainer) -> dict[str, Tensor] | None:
    """Every weight by the model's own names, on the first process; None where the model has them.

    Saved ungathered, the shards of ZeRO-3 and FSDP would be empty tensors (peft #1402).
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        found = _gathered_from_fsdp(trainer.strategy.model)
    elif getattr(trainer.strategy, "zero_stage_3", False):
        engine: Any = trainer.strategy.model
        found = engine._zero3_consolidated_16bit_state_dict()  # what DeepSpeed's own saving uses
    else:
        return None
    return {name.removeprefix("model."): value for name, value in (found or {}).items()}


def _gathered_from_fsdp(root: Any) -> dict[str, Tensor]:
    """Asked of the outermost unit: an inner module does not know what that unit holds of it."""
    from torch.distributed import fsdp

    settings = fsdp.FullStateDictConfig(offload_to_cpu=True, rank0_only=True)
    full = fsdp.StateDictType.FULL_STATE_DICT
    with fsdp.FullyShardedDataParallel.state_dict_type(root, full, settings):
        found: dict[str, Tensor] = root.state_dict()
    return found


def _write(
    model: Any, state: dict[str, Tensor] | None, base: Base, reader: Reader, folder: Path
) -> None:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quietly():
        if inner(model) is model:
            _write_model(model, state, base, unfinished)
        else:
            _write_adapters(model, state, base, unfinished)
            write_json(unfinished / BASE_FILE, {"base": base.name, "identity": base.identity})
    if base.is_internvl:  # an original folder holds a tokenizer of remote code
        reader.tokenizer.save_pretrained(unfinished)
    else:
        _copy_companions(base.folder, unfinished)
    for file in unfinished.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    if folder.is_dir():
        shutil.rmtree(folder)
    unfinished.replace(folder)


def _write_adapters(model: Any, state: dict[str, Tensor] | None, base: Base, folder: Path) -> None:
    if state is not None:
        model = _unsharded_adapters(model, state)
    name = str(base.folder.resolve()) if Path(base.name).exists() else base.name
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's form, not filled in


def _write_model(model: Any, state: dict[str, Tensor] | None, base: Base, folder: Path) -> None:
    dtype = stored_dtype(base.folder)
    if state is not None:
        model, state = _unsharded(model, state), None
    if dtype is not torch.float32:
        state = {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in model.state_dict().items()
        }
        model.config.dtype = dtype
    model.save_pretrained(folder, state_dict=state)


def _unsharded(model: Any, state: dict[str, Tensor]) -> Any:
    """A plain model that holds gathered weights.

    A model that was loaded into shards notes every renaming that its class knows, and undoes them
    all when it saves: the file would have names that other readers do not expect.
    """
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.generation_config = model.generation_config
    _, unknown = plain.load_state_dict(state, strict=False, assign=True)
    plain.tie_weights()
    _check_gathered(dict(plain.named_parameters()), unknown)
    return plain


def _unsharded_adapters(model: Any, state: dict[str, Tensor]) -> Any:
    """A plain peft model whose adapters and copied projector hold gathered weights.

    peft looks modules up by name, and those of FSDP have other names than its weights.
    """
    from peft import get_peft_model

    sharded = inner(model)
    with torch.device("meta"):
        plain = type(sharded)(sharded.config)
        wrapped = get_peft_model(plain, model.peft_config[model.active_adapter])
    kept = {name: value for name, value in state.items() if any(m in name for m in _OF_ADAPTERS)}
    _, unknown = wrapped.load_state_dict(kept, strict=False, assign=True)
    held = {n: v for n, v in wrapped.named_parameters() if any(m in n for m in _OF_ADAPTERS)}
    _check_gathered(held, unknown)
    return wrapped


def _check_gathered(held: dict[str, Tensor], unknown: list[str]) -> None:
    empty = [name for name, value in held.items() if value.is_meta]
    if unknown or empty:
        raise RuntimeError(f"gathered weights: not known {unknown}, missing {empty}")


def _copy_companions(source: Path, target: Path) -> None:
    """Tokenizer, processor and the like; never weights."""
    for file in sorted(source.iterdir()):
        is_weight = file.name.endswith(WEIGHT_SUFFIXES)
        skip = is_weight or file.name in ("config.json", "metrics.json")
        if file.is_file() and not skip and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)

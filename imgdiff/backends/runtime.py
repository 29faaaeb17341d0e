"""How model libraries run inside a worker process."""

from __future__ import annotations

import os
from pathlib import Path

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def one_thread_environment() -> None:
    """Ask numeric libraries that are not loaded yet for one thread each; call before importing."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def limit_torch_threads(count: int = 1) -> None:
    """Let torch use `count` CPU threads from now on.

    The number of threads may change how a matrix product is split and so its last bits; one thread
    per worker keeps scores equal for every number of workers.
    """
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; reads no library."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []

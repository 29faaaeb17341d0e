"""How model libraries run inside a worker process, and the memory that they find and take."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_CORES_VARIABLE = "IMGDIFF_CORES"  # of a worker; of a process that is none: all there are
_PROCESS = Path("/proc/self")
_KIB = 1024
_MOST_THREADS = 8  # that prepare images: beyond it they wait for one another


def one_thread_variables() -> dict[str, str]:
    """The environment in which numeric libraries take one thread each."""
    return dict.fromkeys(_THREAD_VARIABLES, "1") | {
        "TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "false")
    }


def one_thread_environment() -> None:
    """Ask numeric libraries that are not loaded yet for one thread each; call before importing."""
    os.environ.update(one_thread_variables())


def limit_torch_threads(count: int = 1) -> None:
    """Let torch use `count` CPU threads from now on.

    The number of threads may change how a matrix product is split and so its last bits; one thread
    per worker keeps scores equal for every number of workers.
    """
    import torch

    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def core_variables(count: int) -> dict[str, str]:
    """The environment of a worker that may use so many CPU cores (at least one)."""
    return {_CORES_VARIABLE: str(max(1, count))}


def cores() -> int:
    """The CPU cores that this process may use; of a worker, its share of them."""
    share = os.environ.get(_CORES_VARIABLE)
    if share is not None:
        return int(share)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_gpu() -> bool:
    """Whether this process computes on a GPU; False before a model is loaded."""
    return _cuda_in_use() is not None


def threads_beside_model() -> int:
    """Threads that may prepare images at once for the loaded model.

    One on a CPU, which the model itself is busy with. Beside a GPU all cores of this process but
    the one that drives it.
    """
    return max(1, min(_MOST_THREADS, cores() - 1)) if on_gpu() else 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; reads no library."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(number) for number in range(len(list(folder.iterdir())))] if folder.is_dir() else []


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a model would be held in: how it is called, and its free bytes (None: not known)."""

    device: str
    free: int | None


def free_memory() -> Memory:
    """The memory that models of this process would take: of the GPU where there is one."""
    import torch

    if torch.cuda.is_available():
        return Memory(device="GPU", free=torch.cuda.mem_get_info()[0])
    limits = [limit for limit in (_available(), _left_in_container()) if limit is not None]
    return Memory(device="CPU", free=min(limits, default=None))


def _available() -> int | None:
    """Bytes that the system can give without swapping; of systems other than Linux all it has."""
    table = Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":") for line in table.read_text("utf-8").splitlines())
        return int(lines["MemAvailable"].split()[0]) * _KIB
    if "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left_in_container(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes below the limit of this container (cgroup 2), or None without one."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not (limit.is_file() and used.is_file()) or not limit.read_text("utf-8").strip().isdigit():
        return None
    return max(0, int(limit.read_text("utf-8")) - int(used.read_text("utf-8")))


def reset_peak_memory() -> None:
    """Let `peak_memory` begin anew, where the system allows it."""
    try:
        (_PROCESS / "clear_refs").write_text("5", "utf-8")
    except OSError:  # the peak since the process began is what remains
        return
    finally:
        if (cuda := _cuda_in_use()) is not None:
            cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """Most bytes that this process held since `reset_peak_memory`, by device."""
    peak = {"CPU": _peak_of_process()}
    if (cuda := _cuda_in_use()) is not None:
        peak["GPU"] = cuda.max_memory_allocated()
    return peak


def _peak_of_process() -> int:
    status = _PROCESS / "status"
    if status.is_file():
        for line in status.read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB


def _cuda_in_use() -> Any:
    """torch.cuda where this process computes on a GPU; torch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None

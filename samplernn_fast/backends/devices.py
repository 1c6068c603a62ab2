"""Which device computes: the words of `--device`, checked. torch is loaded only where there may be a GPU."""

import ctypes
import sys

from samplernn_fast.backends.names import check_device
from samplernn_fast.errors import BackendUnavailable, ConfigError, check_torch


def resolve_device(name: object) -> str:
    """The device called "auto", "cpu", "cuda" or "cuda:N", or a torch.device: "cpu" or "cuda:N".

    "auto" is the GPU where torch sees one, else the CPU. "cuda" gets the number of torch's current GPU at once, because
    another thread may have another current one. Raises ConfigError for other names, BackendUnavailable for a GPU that
    is not there.
    """
    kind = getattr(sys.modules.get("torch"), "device", None)  # another thread may be loading torch just now
    word = str(name) if kind is not None and isinstance(name, kind) else name
    if not isinstance(word, str):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    check_device(word)
    kind_of_device, _, number = word.partition(":")
    if kind_of_device == "cpu":
        return "cpu"
    gpus, current = _gpus(asked_for=kind_of_device == "cuda")
    if not gpus:
        if kind_of_device == "auto":
            return "cpu"
        check_torch(f"device {word}")
        raise BackendUnavailable(f'device {word} was asked for, but torch sees no CUDA GPU; use device="cpu"')
    if int(number or 0) >= gpus:
        raise BackendUnavailable(f"device {word} was asked for, but torch sees {gpus} CUDA GPU(s)")
    return f"cuda:{int(number or current)}"


def _gpus(asked_for: bool) -> tuple[int, int]:
    """How many GPUs torch sees, and the number of its current one. It knows GPUs of other makers too, so it is asked
    where a GPU is asked for or torch is loaded anyway, and otherwise where NVIDIA's driver has one."""
    if not asked_for and "torch" not in sys.modules and not _nvidia_gpus():
        return 0, 0
    try:
        import torch
    except ModuleNotFoundError:
        return 0, 0
    return (torch.cuda.device_count(), torch.cuda.current_device()) if torch.cuda.is_available() else (0, 0)


def _nvidia_gpus() -> int:
    """How many GPUs NVIDIA's driver shows to this process; 0 where it is not installed or cannot start."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    except (OSError, AttributeError):
        return 0
    return 0 if failed else count.value

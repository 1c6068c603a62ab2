"""Which device torch computes on: the words of `--device`, checked."""

import torch

from samplernn_fast.errors import BackendUnavailable, ConfigError


def resolve_device(name: str | torch.device) -> torch.device:
    """The device called "auto", "cpu", "cuda" or "cuda:N"; "auto" is the GPU where torch sees one, else the CPU.

    "cuda" gets the number of torch's current GPU at once, because another thread may have another current one. Raises
    ConfigError for other names, BackendUnavailable for a GPU that is not there.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {str(device)!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(f'device {name} was asked for, but torch sees no CUDA GPU; use device="cpu"')
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {name} was asked for, but torch sees {torch.cuda.device_count()} CUDA GPU(s)")
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device

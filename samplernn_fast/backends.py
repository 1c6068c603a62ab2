"""The only place that chooses what runs a model."""

import logging
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cpu_backend import CpuBackend
from samplernn_fast.cuda_backend import CudaBackend
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.reference import Hidden, ReferenceBackend
from samplernn_fast.sampling import Randomness
from samplernn_fast.triton_backend import TritonBackend
from samplernn_fast.weights import PackedWeights


class Backend(Protocol):
    """What an engine needs of a backend; see `reference.ReferenceBackend` for what each call does."""

    name: str
    dtypes: tuple[str, ...]

    @staticmethod
    def unavailable_reasons(config: SampleRNNConfig, device: torch.device) -> list[str]: ...
    @classmethod
    def dtype_reasons(cls, weights: PackedWeights, device: torch.device, dtype: str) -> list[str]: ...
    def __init__(
        self, weights: PackedWeights, device: torch.device, dtype: str, num_threads: int | None = None
    ) -> None: ...
    def init_hidden(self, streams: int) -> Hidden: ...
    def prime(self, hidden: Hidden, history: Tensor, levels: Tensor) -> None: ...
    def score(self, hidden: Hidden, levels: Tensor) -> Tensor: ...
    def generate(
        self,
        hidden: Hidden,
        history: Tensor,
        t: int,
        randomness: Randomness,
        temperature: Tensor,
        top_k: int,
        top_p: float,
        forced: Tensor,
    ) -> Tensor: ...


# Modes by speed, for "fastest"; none of them is slower than the one after it on any backend.
_BY_SPEED = ("int8", "bfloat16", "float32")

# Fastest first: the order in which "auto" tries them.
BACKENDS: dict[str, type[Backend]] = {
    "cuda": CudaBackend,
    "cpu": CpuBackend,
    "triton": TritonBackend,
    "reference": ReferenceBackend,
}


def resolve(
    name: str,
    config: SampleRNNConfig,
    device: torch.device,
    dtype: str = "auto",
    failed: Mapping[str, str] | None = None,
) -> type[Backend]:
    """The backend called `name`, or for "auto" the first that can run this model on this device in `dtype`.

    failed: why backends could not be started that seemed able to run. Raises BackendUnavailable with the reasons: an
    explicit name never turns into another one.
    """
    if name != "auto" and name not in BACKENDS:
        raise BackendUnavailable(f"there is no backend {name!r}; this version has: auto, {', '.join(BACKENDS)}")
    reasons = []
    for candidate in BACKENDS if name == "auto" else [name]:
        found = BACKENDS[candidate].unavailable_reasons(config, device)
        if name == "auto" and dtype not in ("auto", "fastest", *BACKENDS[candidate].dtypes):
            found = [f"has no dtype {dtype}, only {', '.join(BACKENDS[candidate].dtypes)}"]
        if failed and candidate in failed:
            found = [failed[candidate]]
        if not found:
            return BACKENDS[candidate]
        reasons.append(f"{candidate}: {'; '.join(found)}")
    raise BackendUnavailable(f"no backend can run this model on {device}: {' | '.join(reasons)}")


def start(
    name: str, weights: PackedWeights, device: torch.device, dtype: str = "auto", num_threads: int | None = None
) -> tuple[Backend, str]:
    """The backend called `name`, ready to run, and its numeric mode. Only "auto" moves on, and says so, when one cannot
    be started: a kernel that does not compile, a GPU that refuses it. Raises as `resolve` and `resolve_dtype`."""
    failed: dict[str, str] = {}
    while True:
        chosen = resolve(name, weights.config, device, dtype, failed)
        try:
            mode = resolve_dtype(dtype, chosen, weights, device)
            return chosen(weights, device, mode, num_threads), mode
        except BackendUnavailable as error:
            if name != "auto":
                raise
            failed[chosen.name] = str(error)
            logging.getLogger(__name__).warning("the %s backend cannot be used: %s", chosen.name, failed[chosen.name])


def resolve_dtype(name: str, backend: type[Backend], weights: PackedWeights, device: torch.device) -> str:
    """The numeric mode called `name` on a backend.

    "auto" is its first one, which gives the same levels as other backends and projects wherever logits are not very
    close; "fastest" is the fastest one that keeps its promise for this model, which may be int8.
    Raises BackendUnavailable where the mode would not keep its promise for this model.
    """
    if name == "auto":
        return backend.dtypes[0]
    if name == "fastest":
        offered = (mode for mode in _BY_SPEED if mode in backend.dtypes)
        return next(mode for mode in offered if not backend.dtype_reasons(weights, device, mode))
    if name not in backend.dtypes:
        names = f"auto, fastest or one of {', '.join(backend.dtypes)}"
        raise ConfigError(f"dtype must be {names} on {backend.name}, got {name!r}")
    reasons = backend.dtype_reasons(weights, device, name)
    if reasons:
        raise BackendUnavailable(f"{backend.name} does not offer {name} for this model: {'; '.join(reasons)}")
    return name


def resolve_device(name: str | torch.device) -> torch.device:
    """ "auto" is the GPU where torch sees one, else the CPU."""
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {str(device)!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(f"device {name} was asked for, but torch sees no CUDA GPU; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailable(f"device {name} was asked for, but torch sees {torch.cuda.device_count()} CUDA GPU(s)")
    if device.type == "cuda" and device.index is None:  # the current one may be another in the next thread
        return torch.device("cuda", torch.cuda.current_device())
    return device

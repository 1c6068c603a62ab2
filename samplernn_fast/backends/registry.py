"""The only place that chooses what runs a model."""

import logging
from collections.abc import Mapping

import torch

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.interface import Backend
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.errors import BackendUnavailable, ConfigError
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.weights import PackedWeights

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

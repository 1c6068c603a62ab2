"""The only place that chooses what runs a model."""

import functools
import logging
from collections.abc import Mapping

import torch

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.cuda.backend import CudaBackend
from samplernn_fast.backends.interface import Backend
from samplernn_fast.backends.names import check_backend
from samplernn_fast.backends.promise import Promise
from samplernn_fast.backends.stepping import SteppingBackend
from samplernn_fast.backends.triton import TritonBackend
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig
from samplernn_fast.models.registry import require_packed
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.limits import THREADS
from samplernn_fast.reference.modes import FASTEST_FIRST
from samplernn_fast.reference.weights import PackedWeights, pack

_log = logging.getLogger(__name__)

BACKENDS: dict[str, type[Backend]] = {
    "cuda": CudaBackend,
    "cpu": CpuBackend,
    "triton": TritonBackend,
    "reference": ReferenceBackend,
    "stepping": SteppingBackend,
}
"""Every backend by its name, fastest first: the order in which "auto" tries them."""


class Weights:
    """A model's weights as backends take them: packed, which is done once and only where a backend wants it, or not."""

    def __init__(self, model: AudioModel) -> None:
        self.model = model

    @functools.cached_property
    def packed(self) -> PackedWeights:
        """Folded for the backends with kernels. ConfigError for a system that has no packed layout."""
        return pack(require_packed(self.model))


def resolve(
    name: str,
    config: AudioConfig,
    device: torch.device,
    dtype: str = "auto",
    failed: Mapping[str, str] | None = None,
) -> type[Backend]:
    """The backend called `name`, or for "auto" the first that can run this model on this device in `dtype`.

    failed: why backends could not be started that seemed able to run. Raises BackendUnavailable with the reasons: an
    explicit name never turns into another one. Raises ConfigError for names of nothing.
    """
    check_backend(name, dtype, {one: backend.dtypes for one, backend in BACKENDS.items()})
    reasons, players = [], [one for one, backend in BACKENDS.items() if config.packed or not backend.packed]
    for candidate in players if name == "auto" else [name]:
        backend = BACKENDS[candidate]
        if backend.packed and not config.packed:
            found = [f"the stepping backend alone plays {config.system}"]
        else:
            found = backend.unavailable_reasons(config, device)
        if name == "auto" and dtype not in ("auto", "fastest", *backend.dtypes):
            found = [f"has no dtype {dtype}, only {', '.join(backend.dtypes)}"]
        if failed and candidate in failed:
            found = [failed[candidate]]
        if not found:
            return backend
        if name == "auto" and players == ["stepping"]:
            raise BackendUnavailable(f"only the {candidate} backend plays {config.system}, and it {'; '.join(found)}")
        reasons.append(f"{candidate}: {'; '.join(found)}" if name == "auto" else "; ".join(found))
    whose = "no backend can" if name == "auto" else f"the {name} backend cannot"
    raise BackendUnavailable(f"{whose} run this model on {device}: {' | '.join(reasons)}")


def start(
    name: str, weights: Weights, device: torch.device, dtype: str = "auto", num_threads: int | None = None
) -> Backend:
    """The backend called `name`, ready to run in the numeric mode that `dtype` asks for.

    dtype "auto" is the backend's first mode, which gives the same levels as other backends and projects wherever logits
    are not very close; "fastest" is the fastest mode that keeps its promise for this model, which may be int8.
    Only name "auto" moves on, with a warning, when a backend cannot be started: a kernel that does not compile, a GPU
    that refuses it. Raises BackendUnavailable as `resolve`, or where a mode would not keep its promise for this model,
    and ConfigError for a mode that the backend does not have.
    """
    if num_threads is not None:  # only the cpu backend reads it, but a number that cannot be meant is never passed over
        THREADS.check("num_threads", num_threads, whole=True)
    failed: dict[str, str] = {}
    while True:
        chosen = resolve(name, weights.model.config, device, dtype, failed)
        try:
            return _open(chosen, weights, device, dtype, num_threads)
        except BackendUnavailable as error:
            if name != "auto":
                raise
            failed[chosen.name] = str(error)
            _log.warning("the %s backend cannot be used: %s", chosen.name, failed[chosen.name])


def _open(
    chosen: type[Backend], weights: Weights, device: torch.device, dtype: str, num_threads: int | None
) -> Backend:
    """A backend in the first of the wanted modes that keeps its promise. An engine that was made to measure a promise
    is taken where it is of the wanted kind, so that on the CPU none is made twice."""
    if not chosen.packed:
        (mode,) = _wanted_modes(chosen, dtype)[:1]
        return chosen(weights.model, device, mode, num_threads)
    promise, reasons = Promise(weights.packed, num_threads if chosen is CpuBackend else None), [""]
    for mode in _wanted_modes(chosen, dtype):
        if mode in chosen.promised and chosen is not CpuBackend:
            _log.info("an engine in %s is made on the CPU, to measure what it costs this model, and thrown away", mode)
        reasons = promise.broken(mode) if mode in chosen.promised else []
        if not reasons:
            made = promise.made(mode)
            return made if isinstance(made, chosen) else chosen(weights.packed, device, mode, num_threads)
    raise BackendUnavailable(f"{chosen.name} does not offer {dtype} for this model: {'; '.join(reasons)}")


def _wanted_modes(chosen: type[Backend], dtype: str) -> list[str]:
    """The numeric modes that `dtype` may become on a backend, in the order in which they are tried."""
    if dtype == "auto":
        return [chosen.dtypes[0]]
    if dtype == "fastest":
        return [mode for mode in FASTEST_FIRST if mode in chosen.dtypes]
    return [dtype]

"""The only place that chooses what runs a model. Only the `cpu` backend needs no torch, so each is loaded when it is
asked for.
"""

import functools
import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from samplernn_fast.backends.cpu import CpuBackend
from samplernn_fast.backends.interface import Backend
from samplernn_fast.backends.names import MODES, check_backend
from samplernn_fast.backends.promise import Promise
from samplernn_fast.errors import NO_TORCH, BackendUnavailable, MissingPackage, needing_torch
from samplernn_fast.models.config import AudioConfig, SparseSampleRNNConfig
from samplernn_fast.models.layout import is_matrix
from samplernn_fast.models.stored.arrays import ModelArrays
from samplernn_fast.reference.folding import PackedWeights, fold
from samplernn_fast.reference.limits import THREADS
from samplernn_fast.reference.modes import FASTEST_FIRST, INT4, WEIGHT_BYTES

if TYPE_CHECKING:
    from samplernn_fast.models.base import AudioModel

_log = logging.getLogger(__name__)
_LARGE = 8 << 20  # bytes of a model's matrices in int8, from which on memory bounds its speed on most processors
_PLAYS_ALL = "stepping"  # the backend that needs no packed weights
MANY_STREAMS = 64
"""On a GPU so many at once are made faster by large matrix products than by one persistent kernel."""


class _Backends(Mapping[str, type[Backend]]):
    """The classes of all backends by their names. A class is loaded when it is taken."""

    _PLACES = {
        "cuda": ("cuda.backend", "CudaBackend"),
        "cpu": ("cpu", "CpuBackend"),
        "triton": ("triton", "TritonBackend"),
        "reference": ("reference.backend", "ReferenceBackend"),
        "stepping": ("stepping", "SteppingBackend"),
    }

    def __getitem__(self, name: str) -> type[Backend]:
        module, title = self._PLACES[name]
        room = "samplernn_fast" if name == "reference" else "samplernn_fast.backends"
        found: type[Backend] = getattr(import_module(f"{room}.{module}"), title)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._PLACES)

    def __len__(self) -> int:
        return len(self._PLACES)


BACKENDS = _Backends()
"""Every backend by its name, fastest for one stream first: the order in which "auto" tries them for few streams."""


class Weights:
    """A model's weights as backends take them: packed, or as a torch model. Each is made once, and only where a backend
    wants it."""

    def __init__(self, arrays: ModelArrays, model: "AudioModel | None" = None) -> None:
        """model: the torch model that has these arrays, where there is one, which may still change."""
        self.arrays, self.config, self._model, self.may_change = arrays, arrays.config, model, model is not None

    @functools.cached_property
    def packed(self) -> PackedWeights:
        """Folded for the backends with kernels. ConfigError for a system that has no packed layout."""
        return fold(self.arrays)

    @functools.cached_property
    def model(self) -> "AudioModel":
        """The model itself. CheckpointError where its arrays are not those of its system."""
        if self._model is not None:
            return self._model
        with needing_torch(f"a model of the system {self.config.system}"):
            from samplernn_fast.models.checkpoint import build

        return build(self.arrays, self.arrays.source)


def resolve(
    name: str,
    config: AudioConfig,
    device: str,
    dtype: str = "auto",
    failed: Mapping[str, str] | None = None,
    num_streams: int = 1,
) -> type[Backend]:
    """The backend called `name`, or for "auto" the first that can run this model on this device in `dtype`.

    failed: why backends could not be started that seemed able to run. num_streams: how many are to run at once, which
    decides what "auto" tries first. Raises BackendUnavailable with the reasons: an explicit name never turns into
    another one. Raises ConfigError for names of nothing.
    """
    check_backend(name, dtype)
    reasons, players = [], _in_order(device, num_streams) if config.packed else [_PLAYS_ALL]
    for candidate in players if name == "auto" else [name]:
        if candidate not in players:
            found = [f"the {_PLAYS_ALL} backend alone plays {config.system}"]
        elif failed and candidate in failed:
            found = [failed[candidate]]
        elif name == "auto" and dtype not in ("auto", "fastest", *MODES[candidate]):
            found = [f"has no dtype {dtype}, only {', '.join(MODES[candidate])}"]
        else:
            found = unavailable_reasons(candidate, config, device)
        if not found:
            return BACKENDS[candidate]
        if name == "auto" and players == [_PLAYS_ALL]:
            raise BackendUnavailable(f"only the {candidate} backend plays {config.system}, and it {'; '.join(found)}")
        reasons.append(f"{candidate}: {'; '.join(found)}" if name == "auto" else "; ".join(found))
    whose = "no backend can" if name == "auto" else f"the {name} backend cannot"
    raise BackendUnavailable(f"{whose} run this model on {device}: {' | '.join(reasons)}")


def _in_order(device: str, num_streams: int) -> list[str]:
    """The names of the backends with packed weights, fastest first for so many streams on a device."""
    many = device.startswith("cuda") and num_streams >= MANY_STREAMS
    return sorted(BACKENDS, key=lambda name: name != "triton") if many else list(BACKENDS)


def unavailable_reasons(name: str, config: AudioConfig, device: str) -> list[str]:
    """Why the backend of that name cannot run such a model, which is of a system that it plays, on that device. A GPU's
    backend is not loaded to say that there is no GPU."""
    if name == "cuda" and not device.startswith("cuda"):
        return [f"runs on a CUDA GPU, not on {device}"]
    try:
        with needing_torch("it"):
            return BACKENDS[name].unavailable_reasons(config, device)
    except MissingPackage:
        return [NO_TORCH]
    except (ImportError, OSError) as error:
        return [f"needs torch, which is installed and cannot be loaded: {error}"]


def start(
    name: str,
    weights: Weights,
    device: str,
    dtype: str = "auto",
    num_threads: int | None = None,
    num_streams: int = 1,
) -> Backend:
    """The backend called `name`, ready to run in the numeric mode that `dtype` asks for.

    dtype "auto" is the backend's first mode, which gives the same levels as other backends and projects wherever logits
    are not very close; "fastest" is the fastest mode that keeps its promise for this model, which may be int8.
    Only name "auto" moves on, with a warning, when a backend cannot be started: a kernel that does not compile, a GPU
    that refuses it. num_streams: as in `resolve`. Raises BackendUnavailable as `resolve`, or where a mode would not
    keep its promise for this model, and ConfigError for a mode that the backend does not have.
    """
    if num_threads is not None:  # only the cpu backend reads it, but a number that cannot be meant is never passed over
        THREADS.check("num_threads", num_threads, whole=True)
    failed: dict[str, str] = {}
    while True:
        chosen = resolve(name, weights.config, device, dtype, failed, num_streams)
        try:
            return _open(chosen, weights, device, dtype, num_threads)
        except BackendUnavailable as error:
            if name != "auto":
                raise
            failed[chosen.name] = str(error)
            _log.warning("the %s backend cannot be used: %s", chosen.name, failed[chosen.name])


def _open(chosen: type[Backend], weights: Weights, device: str, dtype: str, num_threads: int | None) -> Backend:
    """A backend in the first of the wanted modes that keeps its promise. An engine that was made to measure a promise
    is taken where it is of the wanted kind, so that on the CPU none is made twice."""
    if not chosen.packed:
        (mode,) = _wanted_modes(chosen, dtype, weights)[:1]
        return chosen(weights.model, device, mode, num_threads)
    promise, reasons = Promise(weights.packed, num_threads if chosen is CpuBackend else None), [""]
    for mode in _wanted_modes(chosen, dtype, weights):
        if mode in chosen.promised and chosen is not CpuBackend:
            _log.info("an engine in %s is made on the CPU, to measure what it costs this model, and thrown away", mode)
        reasons = promise.broken(mode) if mode in chosen.promised else []
        if not reasons:
            made = promise.made(mode)
            return made if isinstance(made, chosen) else chosen(weights.packed, device, mode, num_threads)
    raise BackendUnavailable(f"{chosen.name} does not offer {dtype} for this model: {'; '.join(reasons)}")


def _wanted_modes(chosen: type[Backend], dtype: str, weights: Weights) -> list[str]:
    """The numeric modes that `dtype` may become on a backend, in the order in which they are tried."""
    if dtype == "auto":
        return [chosen.dtypes[0]]
    if dtype == "fastest":
        left_out: tuple[str, ...] = (INT4,)
        if isinstance(weights.config, SparseSampleRNNConfig) and chosen is CpuBackend:
            left_out = (INT4, "bfloat16")  # which have no kernels for blocks, so that float32 is faster
        elif _gains_by_four_bits(weights):
            left_out = ()
        return [mode for mode in FASTEST_FIRST if mode in chosen.dtypes and mode not in left_out]
    return [dtype]


def _gains_by_four_bits(weights: Weights) -> bool:
    """Whether int4 is worth its choice of weights, which takes seconds to minutes. A small model, which a cache holds,
    gains little or nothing, by the instruction set; and for one that is still trained the weights would be chosen anew
    after every step."""
    if weights.may_change or not weights.config.packed:
        return False
    matrices = [array for name, array in weights.packed.arrays.items() if is_matrix(name)]
    return sum(array.size for array in matrices) * WEIGHT_BYTES["int8"] >= _LARGE

"""One GPU: what it lacks, and a model's kernels compiled, loaded and sized for it."""

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING

from samplernn_fast import cubin_cache, cuda_plan
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.cuda_compiler import KernelSource, architecture, compile_kernel, open_nvrtc
from samplernn_fast.cuda_stages import Stage, Walk
from samplernn_fast.errors import BackendUnavailable, DeviceError

if TYPE_CHECKING:
    from samplernn_fast._C import CudaDevice, CudaDriver, CudaKernel, CudaStages

THREADS = 256
"""Of a block. With 512, eight streams do not fit into the registers, nor does one in every mode and architecture."""
PERSISTENT = "srnn_generate"
"""The kernel of csrc/cuda/device/persistent.cuh."""
_LEAST_CAPABILITY = (8, 0)


class NotAtOnce(BackendUnavailable):
    """Blocks that wait for each other, but cannot all run at the same time. One kernel for each stage can."""


@dataclass(frozen=True)
class Gpu:
    """A device of the driver and the newest CUDA that it runs (13020 is 13.2)."""

    device: "CudaDevice"
    version: int

    @classmethod
    def open(cls, ordinal: int) -> "Gpu":
        """The GPU of that number. SAMPLERNN_FAST_LIBCUDA names another libcuda than the system's. CudaError."""
        driver: CudaDriver = native().CudaDriver(os.environ.get("SAMPLERNN_FAST_LIBCUDA", ""))
        return cls(native().CudaDevice(driver, ordinal), driver.version)


@dataclass(frozen=True)
class Program:
    """The kernels of one model for one number of streams, loaded, and what a launch of them takes."""

    kernels: "Mapping[str, CudaKernel]"
    stages: "CudaStages | None"
    """Where every stage of a sample is a kernel, their launches; else there is the persistent kernel alone."""
    streams: int  # of a launch, at least as many as were asked for
    blocks: int
    threads: int
    cooperative: bool  # all blocks wait for each other
    cluster: int  # blocks of a cluster, 1 for none
    shared_bytes: int
    weight_bytes: int
    workspace_bytes: int
    profile_bytes: int

    @classmethod
    def build(
        cls, gpu: Gpu, config: SampleRNNConfig, dtype: str, batch: int, exchange: str, profile: bool = False
    ) -> "Program":
        """Compile, load and size it for all multiprocessors. BackendUnavailable tells what does not work, NotAtOnce
        that the GPU has no room for all blocks.

        exchange: one of `cuda_plan.CHOICES`; "auto" is blocks of its own for a model that fits into one, else clusters
        where it fits into one of them, else "tagged"; never "roles", before a GPU has shown that it is faster."""
        device = gpu.device
        machine = (device.multiprocessors, device.shared_bytes)
        group = cuda_plan.grouping(config, dtype, batch, *machine, exchange)
        by_name = exchange in ("cluster", "roles")
        if by_name or (exchange == "auto" and group.exchange != "alone"):
            program = cls._in_clusters(gpu, config, dtype, batch, exchange, profile)
            if program is not None:
                return program
            if by_name:
                what = "the MLP of this model" if exchange == "roles" else "this model"
                raise BackendUnavailable(
                    f"{batch} streams of {what} in {dtype} do not fit into thread block clusters of {device.name}; "
                    'take exchange "auto"'
                )
        walk = Walk.of(config) if group.exchange == "launches" else None
        kernels = _load(gpu, config, dtype, group, profile, walk)
        blocks, cooperative = group.launched, group.blocks > 1 and walk is None
        for name, kernel in kernels.items():
            shared_bytes = kernel.sizes["shared"]
            with driver_errors_as(BackendUnavailable):
                room = kernel.blocks_per_multiprocessor(THREADS, shared_bytes) * device.multiprocessors
            needed = blocks if cooperative else 1
            if room < needed:
                raise (NotAtOnce if cooperative else BackendUnavailable)(
                    f"{name} needs {needed} blocks at once, but {device.name} holds {room} of {THREADS} threads "
                    f"with {kernel.registers} registers and {shared_bytes} bytes of shared memory"
                )
        return cls._of(kernels, group, cooperative, walk)

    @classmethod
    def _in_clusters(
        cls, gpu: Gpu, config: SampleRNNConfig, dtype: str, batch: int, exchange: str, profile: bool
    ) -> "Program | None":
        """In thread block clusters, no more than the GPU holds; None where their memory or its room is too small. With
        "roles" one of them waits for all others, so the launch is cooperative too."""
        shared_bytes, roles = gpu.device.shared_bytes, exchange == "roles"
        machine = (gpu.device.multiprocessors, shared_bytes)
        groupings = cuda_plan.role_groupings if roles else cuda_plan.cluster_groupings
        waiting = groupings(config, dtype, batch, *machine) if gpu.device.clusters else []
        while waiting:
            group, *waiting = waiting
            kernels = _load(gpu, config, dtype, group, profile)
            kernel, sizes = kernels[PERSISTENT], kernels[PERSISTENT].sizes
            kept = sizes["resident"] * group.blocks >= cuda_plan.resident_bytes(config, dtype, group.exchange)
            if sizes["shared"] > shared_bytes or not kept:
                continue
            with driver_errors_as(BackendUnavailable):
                held = kernel.active_clusters(group.blocks, THREADS, sizes["shared"])
            if held * group.blocks >= group.launched:
                return cls._of(kernels, group, cooperative=roles)
            if roles and held > 1:
                waiting.insert(0, cuda_plan.role_grouping(config.dim, batch, group.blocks, held))
            elif not roles and held > 0:  # smaller clusters may now have fewer streams each
                fewer = cuda_plan.cluster_grouping(batch, group.blocks, held)
                waiting = cuda_plan.in_order_of_clusters([*waiting, fewer])
        return None

    @classmethod
    def _of(
        cls,
        kernels: "Mapping[str, CudaKernel]",
        group: cuda_plan.Grouping,
        cooperative: bool,
        walk: Walk | None = None,
    ) -> "Program":
        sizes = next(iter(kernels.values())).sizes
        return cls(
            kernels,
            _stages(kernels, walk) if walk else None,
            streams=group.batch * group.groups,
            blocks=group.launched,
            threads=THREADS,
            cooperative=cooperative,
            cluster=group.blocks if group.exchange in ("cluster", "roles") else 1,
            shared_bytes=sizes["shared"],
            weight_bytes=sizes["weights"],
            workspace_bytes=sizes["workspace"],
            profile_bytes=sizes["profile"],
        )

    def along(self, walk: Walk) -> "Program":
        """The kernels of stages, launched in another order or number; for measurements."""
        return replace(self, stages=_stages(self.kernels, walk))

    def launch(self, stream: int, params: bytes, t: int, steps: int) -> None:
        """Put what makes `steps` samples from time t on into the stream; params: of `_C.cuda_params`. CudaError."""
        if self.stages is not None:
            self.stages.launch(self.blocks, self.threads, self.shared_bytes, stream, params, t, steps)
        else:
            shape = (self.blocks, self.threads, self.shared_bytes, self.cooperative)
            self.kernels[PERSISTENT].launch(*shape, stream, [params], self.cluster)


def _load(
    gpu: Gpu, config: SampleRNNConfig, dtype: str, group: cuda_plan.Grouping, profile: bool, walk: Walk | None = None
) -> "dict[str, CudaKernel]":
    """The kernels for a grouping by their names, compiled and loaded: the persistent one, or those of a walk."""
    device = gpu.device
    nvrtc = open_nvrtc(gpu.version, device.capability)
    arch = architecture(device.capability, nvrtc.archs())
    assert arch is not None  # open_nvrtc gives none that does not know the GPU
    shape = (group.batch, group.blocks, THREADS, device.shared_bytes, group.exchange, group.groups)
    # The first block of a stage knows only its own time.
    defines = cuda_plan.defines(config, dtype, *shape, profile=profile and walk is None, helpers=group.helpers)
    cubin = compile_kernel(nvrtc, KernelSource.read("stages.cuh" if walk else "persistent.cuh"), arch, defines)
    with driver_errors_as(BackendUnavailable):
        first, *others = walk.kernels if walk else [PERSISTENT]
        kernels = {first: native().CudaKernel(device, cubin, first)}
        return kernels | {name: native().CudaKernel(kernels[first], name) for name in others}


def _stages(kernels: "Mapping[str, CudaKernel]", walk: Walk) -> "CudaStages":
    numbers = {name: number for number, name in enumerate(kernels)}

    def rows(stages: list[Stage]) -> list[tuple[int, int, int, bool]]:
        return [(numbers[stage.kernel], stage.tier, stage.layer, stage.begins) for stage in stages]

    period = [rows(sample) for sample in walk.period]
    stages: CudaStages = native().CudaStages(list(kernels.values()), rows(walk.before), period, rows(walk.after))
    return stages


def missing(ordinal: int) -> list[str]:
    """What a machine lacks to run the kernel on its GPU of that number; empty where nothing is."""
    try:
        error = native().CudaError
    except ImportError as reason:
        return [f"the native part is not built ({reason}); install a C++ compiler, then pip install -e ."]
    try:
        gpu = Gpu.open(ordinal)
        name, capability = gpu.device.name, gpu.device.capability
    except error as reason:
        return [str(reason)]
    reasons = []
    if capability < _LEAST_CAPABILITY:
        needed, found = (".".join(map(str, one)) for one in (_LEAST_CAPABILITY, capability))
        reasons.append(f"needs a GPU of compute capability {needed} or newer, {name} has {found}")
    if not reasons:
        try:
            open_nvrtc(gpu.version, capability)
        except BackendUnavailable as reason:
            reasons.append(str(reason))
    return reasons


def describe() -> dict[str, str]:
    """The driver, the compiler and the folder of compiled kernels, or why there is none; for `doctor`."""
    try:
        error = native().CudaError
    except ImportError:
        return {"driver": "not asked: the native part is not built"}
    newest, found = None, {}
    try:
        driver = native().CudaDriver(os.environ.get("SAMPLERNN_FAST_LIBCUDA", ""))
        newest = driver.version
        found["driver"] = f"CUDA {newest // 1000}.{newest % 1000 // 10}, {driver.path}"
    except error as reason:
        found["driver"] = str(reason)
    try:
        nvrtc = open_nvrtc(newest, _LEAST_CAPABILITY)
        found["NVRTC"] = f"{nvrtc.version[0]}.{nvrtc.version[1]}, {nvrtc.path}"
    except BackendUnavailable as reason:
        found["NVRTC"] = str(reason)
    try:
        found["compiled kernels"] = str(cubin_cache.folder())
    except RuntimeError as reason:
        found["compiled kernels"] = f"not kept: {reason}"
    return found


def native() -> ModuleType:
    """samplernn_fast._C. ImportError where no compiler built it."""
    return importlib.import_module("samplernn_fast._C")


@contextmanager
def driver_errors_as(kind: type[DeviceError] | type[BackendUnavailable]) -> Iterator[None]:
    """What the driver refuses, as one of the package's errors."""
    try:
        yield
    except native().CudaError as error:
        raise kind(str(error)) from None

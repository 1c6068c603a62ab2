"""A model's kernels, compiled and loaded on one GPU, and sized for it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from samplernn_fast.backends import cache
from samplernn_fast.backends.cuda import constants, grouping
from samplernn_fast.backends.cuda.compiler import KernelSource, architecture, compile_kernel, open_nvrtc
from samplernn_fast.backends.cuda.gpu import Gpu, driver_errors_as
from samplernn_fast.backends.cuda.stages import Stage, Walk
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.native import native

if TYPE_CHECKING:
    from samplernn_fast._C import CudaKernel, CudaStages

THREADS = 256
"""The threads of a team of a block's warps; a `Grouping` tells how many teams a block has."""
PERSISTENT = "srnn_generate"
"""The kernel of csrc/cuda/device/persistent.cuh."""


class NotAtOnce(BackendUnavailable):
    """A launch whose blocks wait for each other needs all of them to run at once, and this GPU has no room for that.
    One kernel for each stage of a sample needs no such room."""


@dataclass(frozen=True)
class Program:
    """The kernels of one model for one number of streams, loaded, and what a launch of them takes."""

    kernels: "Mapping[str, CudaKernel]"
    stages: "CudaStages | None"
    """The launches of a walk where every stage of a sample is a kernel; None for the persistent kernel."""
    group: grouping.Grouping
    threads: int
    """The threads of a block."""
    shared_bytes: int
    """The shared memory of a block."""
    weight_bytes: int
    workspace_bytes: int
    profile_bytes: int
    waits: bool
    """This says whether the kernel's warps wait before they look for packets."""
    first_look: int
    """The ticks of that wait (`Params::first_look`). A program is built with those that were best on an H200."""
    key: str
    """Tells this program on GPUs of this kind from all others."""

    @classmethod
    def build(
        cls, gpu: Gpu, config: PackedConfig, dtype: str, batch: int, exchange: str, profile: bool = False
    ) -> "Program":
        """Compile and load a model's kernels for `batch` streams, on all multiprocessors.

        exchange: one of `constants.CHOICES`. "auto" takes clusters where the model and the streams fit into them, but
        for one stream of a larger model, else single blocks for a model that fits into one, else "tagged".
        Raises BackendUnavailable where something does not work, NotAtOnce where the GPU has no room for all blocks.
        """
        device = gpu.device
        if exchange == "cluster" or (exchange == "auto" and grouping.tries_clusters(config, batch)):
            program = cls._in_clusters(gpu, config, dtype, batch, profile)
            if program is not None:
                return program
            if exchange == "cluster":
                raise BackendUnavailable(
                    f"{batch} streams of this model in {dtype} do not fit into thread block clusters of {device.name}; "
                    'take exchange "auto"'
                )
        machine = (device.multiprocessors, device.shared_bytes)
        group = grouping.grouping(config, dtype, batch, *machine, exchange)
        walk = Walk.of(config) if group.exchange == "launches" else None
        loaded = _Loaded.of(gpu, config, dtype, group, profile, walk)
        threads, shared_bytes = THREADS * group.teams, loaded.sizes["shared"]
        for name, kernel in loaded.kernels.items():
            with driver_errors_as(BackendUnavailable):
                room = kernel.blocks_per_multiprocessor(threads, shared_bytes) * device.multiprocessors
            needed = group.launched if group.cooperative else 1
            if room < needed:
                raise (NotAtOnce if group.cooperative else BackendUnavailable)(
                    f"{name} needs {needed} blocks at once, but {device.name} holds {room} of {threads} threads "
                    f"with {kernel.registers} registers and {shared_bytes} bytes of shared memory"
                )
        return cls._of(loaded, group, threads, walk)

    @classmethod
    def _in_clusters(cls, gpu: Gpu, config: PackedConfig, dtype: str, batch: int, profile: bool) -> "Program | None":
        """A program in thread block clusters, no more than the GPU holds.

        None where a cluster has too little memory or the GPU too little room.
        """
        shared_bytes = gpu.device.shared_bytes
        machine = (gpu.device.multiprocessors, shared_bytes)
        waiting = grouping.cluster_groupings(config, dtype, batch, *machine) if gpu.device.clusters else []
        while waiting:
            group, *waiting = waiting
            loaded = _Loaded.of(gpu, config, dtype, group, profile)
            sizes = loaded.sizes
            threads = THREADS * group.teams
            room = (sizes["shared"], sizes["resident"], shared_bytes)
            if not grouping.cluster_has_room(group, config, dtype, *room):
                if group.teams > 1:  # a second team takes memory too
                    waiting.insert(0, replace(group, teams=1))
                continue
            with driver_errors_as(BackendUnavailable):
                held = loaded.kernels[PERSISTENT].active_clusters(group.blocks, threads, sizes["shared"])
            if held * group.blocks >= group.launched:
                return cls._of(loaded, group, threads)
            if held > 0:  # smaller clusters may now have fewer streams each
                fewer = grouping.cluster_grouping(batch, group.blocks, held, shared_bytes)
                waiting = grouping.in_order_of_clusters([*waiting, fewer])
        return None

    @classmethod
    def _of(cls, loaded: "_Loaded", group: grouping.Grouping, threads: int, walk: Walk | None = None) -> "Program":
        sizes = loaded.sizes
        return cls(
            loaded.kernels,
            _stages(loaded.kernels, walk) if walk else None,
            group,
            threads,
            shared_bytes=sizes["shared"],
            weight_bytes=sizes["weights"],
            workspace_bytes=sizes["workspace"],
            profile_bytes=sizes["profile"],
            waits=sizes["first_look"] > 0,
            first_look=sizes["first_look"],
            key=loaded.key,
        )

    def along(self, walk: Walk) -> "Program":
        """The same kernels, launched along another walk; for measurements."""
        return replace(self, stages=_stages(self.kernels, walk))

    def launch(self, cuda_stream: int, params: bytes, t: int, steps: int) -> None:
        """Put the kernels that make `steps` samples from time t on into a CUDA stream. Raises CudaError.

        params: the bytes of `_C.cuda_params`.
        """
        shape = (self.group.launched, self.threads, self.shared_bytes)
        if self.stages is not None:
            self.stages.launch(*shape, cuda_stream, params, t, steps)
        else:
            cluster = self.group.blocks if self.group.exchange == "cluster" else 1
            self.kernels[PERSISTENT].launch(*shape, self.group.cooperative, cuda_stream, [params], cluster)


class _Loaded(NamedTuple):
    """The kernels for a grouping, compiled and loaded: the persistent one, or those of a walk."""

    kernels: "dict[str, CudaKernel]"
    """It maps their names to the kernels."""
    sizes: dict[str, int]
    """Every kernel exports these sizes (`SizeIndex` of csrc/cuda/params.h)."""
    key: str
    """It becomes `Program.key`."""

    @classmethod
    def of(
        cls,
        gpu: Gpu,
        config: PackedConfig,
        dtype: str,
        group: grouping.Grouping,
        profile: bool,
        walk: Walk | None = None,
    ) -> "_Loaded":
        """Compile kernels, or find them in the cache, and load them. BackendUnavailable where that does not work, or
        where the native part of the package is of another version."""
        device = gpu.device
        nvrtc = open_nvrtc(gpu.version, device.capability)
        arch = architecture(device.capability, nvrtc.archs())
        assert arch is not None  # open_nvrtc gives none that does not know the GPU
        # A kernel of one stage is not profiled: its first block knows only the time of that stage.
        profile = profile and walk is None
        defines = constants.defines(config, dtype, group, THREADS, device.shared_bytes, profile=profile)
        cubin = compile_kernel(nvrtc, KernelSource.read("stages.cuh" if walk else "persistent.cuh"), arch, defines)
        key = cache.key([device.name, str(device.multiprocessors), hashlib.sha256(cubin).hexdigest()])
        with driver_errors_as(BackendUnavailable):
            first, *others = walk.kernels if walk else [PERSISTENT]
            kernels = {first: native().CudaKernel(device, cubin, first)}
            kernels |= {name: native().CudaKernel(kernels[first], name) for name in others}
            return cls(kernels, kernels[first].sizes, key)


def _stages(kernels: "Mapping[str, CudaKernel]", walk: Walk) -> "CudaStages":
    numbers = {name: number for number, name in enumerate(kernels)}

    def rows(stages: list[Stage]) -> list[tuple[int, int, int, bool]]:
        return [(numbers[stage.kernel], stage.tier, stage.layer, stage.begins) for stage in stages]

    period = [rows(sample) for sample in walk.period]
    stages: CudaStages = native().CudaStages(list(kernels.values()), rows(walk.before), period, rows(walk.after))
    return stages

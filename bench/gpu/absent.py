"""A GPU that is not in this machine, as far as compiling kernels for it needs it.

`Program.build` sizes a model's kernels by what the driver tells of the GPU, and by constants that the machine code
exports. Both are given here without a driver, so that a machine without a GPU fills a kernel cache for one that has it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest import mock

from bench.gpu.cycle_model.machine_code import exported_numbers
from samplernn_fast.backends.cuda import program
from samplernn_fast.backends.cuda.gpu import Gpu

_SIZES = ("params", "weights", "workspace", "shared", "resident", "profile", "first_look")  # SizeIndex of params.h


@dataclass(frozen=True)
class Card:
    """This is what the driver tells of a GPU. The names of the members are those of `_C.CudaDevice`."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    """The most shared memory of a block."""
    at_a_time: dict[int, int] = field(default_factory=dict)
    """It maps the blocks of a thread block cluster to the number of such clusters that run at a time."""
    cooperative: int = 1
    run_time_limit: int = 0

    @property
    def clusters(self) -> int:
        return int(bool(self.at_a_time))


_HOPPER = {"capability": (9, 0), "multiprocessors": 132, "shared_bytes": 227 << 10, "at_a_time": {16: 7, 8: 15, 4: 30}}
CARDS = {
    "a100": Card("NVIDIA A100-SXM4-80GB", (8, 0), 108, 163 << 10),
    "h100": Card("NVIDIA H100 80GB HBM3", **_HOPPER),
    "h200": Card("NVIDIA H200", **_HOPPER),
}
"""The numbers of clusters were measured on one H100 (docs/predictions.md). Where a driver runs other numbers of them at
a time, some kernels that are compiled here are not those that it asks for."""


class AbsentKernel:
    """Stands for `_C.CudaKernel`: machine code that is not loaded."""

    registers = 0

    def __init__(self, of: "Card | AbsentKernel", *cubin_and_name: bytes | str) -> None:
        if isinstance(of, AbsentKernel):
            self.card, self.sizes = of.card, of.sizes
        else:
            numbers = exported_numbers(bytes(cubin_and_name[0]), "srnn_sizes")
            self.card, self.sizes = of, dict(zip(_SIZES, numbers, strict=True))

    def blocks_per_multiprocessor(self, threads: int, shared_bytes: int) -> int:
        return int(shared_bytes <= self.card.shared_bytes)

    def active_clusters(self, cluster: int, threads: int, shared_bytes: int) -> int:
        return self.card.at_a_time.get(cluster, 0) if shared_bytes <= self.card.shared_bytes else 0


@contextlib.contextmanager
def in_place_of_the_driver(card: Card) -> Iterator[Gpu]:
    """Programs that are built inside are compiled for this GPU, which is the one that is given, and not loaded."""
    absent = SimpleNamespace(CudaKernel=AbsentKernel, CudaStages=lambda *lists: None)
    with mock.patch.object(program, "native", lambda: absent):
        yield Gpu(card, version=13000)  # the driver of CUDA 13.0 takes the machine code of every NVRTC of CUDA 13

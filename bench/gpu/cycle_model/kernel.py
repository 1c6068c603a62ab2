"""The persistent kernel as it would be launched on an H100, compiled, and where its packets and parameters lie."""

from dataclasses import dataclass, replace

from bench.gpu.absent import CARDS
from bench.gpu.cycle_model.machine_code import Instruction, decode, exported_numbers
from samplernn_fast.backends.cuda import constants, grouping
from samplernn_fast.backends.cuda.compiler import KernelSource, open_nvrtc
from samplernn_fast.backends.cuda.program import PERSISTENT, THREADS
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.terminal import counted

CLOCK_MHZ = 1980
"""An H100 SXM has this clock."""
_CARD = CARDS["h100"]
_PARAMETERS_AT = 0x210  # sm_90 keeps a kernel's parameters there, in constant bank 0

# These are the members of Params in csrc/cuda/params.h.
_PARAMETERS = (
    *("weights", "hidden", "new_hidden", "history", "forced", "levels", "logits", "temperature", "drawings"),
    *("workspace", "error", "profile", "time_limit", "t", "steps", "first_look"),
)
# These structs of csrc/cuda/device/vectors.cuh stand in the order of their buffers, each with its first place.
_VECTORS = {"UnitVectors": "0", "InputVectors": "kMlpPlace", "LogitVectors": "kLogitPlace"}
_OF_VECTOR = (
    "%(v)s::offset(%(place)s)",
    "exchange_bytes<%(v)s>()",
    "buffer_bytes<%(v)s>()",
    "kSmallPackets ? 16 / packets_of_read<%(v)s>() : 16",
    "%(v)s::kSlice",
    "packets<%(v)s>()",
    "%(v)s::kSpan",
    "spans<%(v)s>()",
)
_OF_BLOCK = (
    *("kResidents.end", "kResidents.whole_end - kArraysBytes", "kOffsets.end"),
    *("kLevels", "kOwnBuffers ? kArrays.exchange : 0", "kExchangeBytes", "kTeams * kThreads"),
    *("kDrawAll", "kFirstLookOfH200"),
)
_PROBE = """%s
using namespace srnn;
extern "C" __constant__ unsigned long long layout_numbers[] = {%s};
"""


@dataclass(frozen=True)
class Vector:
    """One struct of csrc/cuda/device/vectors.cuh says what an exchange carries and where its buffers lie, in bytes."""

    name: str
    offset: int
    """The buffers of its first place begin here."""
    place_bytes: int
    """The buffers of the next place begin so much further."""
    buffer_bytes: int
    packet_bytes: int
    """16: three numbers and a sequence number. 8: a number and one. 4: a number whose sign is its turn."""
    slice: int
    """The numbers of each block."""
    packets_of_slice: int
    """Packets of 16 bytes."""
    span: int
    """Small packets: the neighbouring numbers that a thread reads."""
    spans: int

    def word(self, number: int) -> int:
        """The place of a number in a buffer, in words of 4 bytes."""
        if self.packet_bytes == 16:
            block, at = divmod(number, self.slice)
            return 4 * (block * self.packets_of_slice + at // 3) + at % 3
        packets = 16 // self.packet_bytes  # of a read
        span, at = divmod(number, self.span)
        read, packet = divmod(at, packets)
        return 4 * (read * self.spans + span) + packet * self.packet_bytes // 4

    def own_packet(self, packet: int) -> int:
        """The packet of the first block that holds the same rows of a slice as another block's packet."""
        if self.packet_bytes == 16:
            return packet % self.packets_of_slice
        packets = 16 // self.packet_bytes
        read, span = divmod(packet // packets, self.spans)
        number = span * self.span + read * packets + packet % packets
        return self.word(number % self.slice) * 4 // self.packet_bytes


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel and all that its surroundings must know of it."""

    program: list[Instruction]
    labels: dict[str, int]
    vectors: list[Vector]
    levels: int
    parameters: dict[str, int]
    """Where each member of Params lies in constant bank 0."""
    pushed_at: int | None
    """Where the buffers begin in the block's own shared memory; None where they lie in the workspace."""
    exchange_bytes: int
    """The bytes of all buffers."""
    threads: int
    """A block has so many."""
    weight_bytes: int
    l2_bytes: int
    """About so many of these are read from L2, because no block's shared memory holds them."""
    first_look: int
    """The kernel is launched with this `Params::first_look`, the usual one from the start."""
    nvrtc: str
    """The version of the compiler. Another one may make other code."""


def compiled(config: PackedConfig, dtype: str, streams: int, exchange: str, threads: int | None = None) -> Kernel:
    """Compiles the kernel of a model by NVRTC, for sm_90.

    exchange: "tagged" or "cluster". threads: of a team, None for those that the backend takes. Raises
    BackendUnavailable without NVRTC, SystemExit where no cluster has room, or where blocks exchange levels.
    """
    if exchange == "cluster":
        groups = grouping.cluster_groupings(config, dtype, streams, _CARD.multiprocessors, _CARD.shared_bytes)
        groups = [one for group in groups for one in (group, replace(group, teams=1))]  # a second team takes memory
    else:
        groups = [grouping.grouping(config, dtype, streams, _CARD.multiprocessors, _CARD.shared_bytes, exchange)]
    for group in groups:
        kernel = _compiled(config, dtype, group, threads or THREADS)
        if kernel is not None:
            return kernel
    raise SystemExit(f"no cluster has room for {counted(streams, 'stream')} of {config.dim} units in {dtype}")


def _compiled(config: PackedConfig, dtype: str, group: grouping.Grouping, threads: int) -> Kernel | None:
    """The kernel of one grouping, None where that is a cluster without room (see `Program.build`)."""
    defines = constants.defines(config, dtype, group, threads, _CARD.shared_bytes)
    nvrtc, source = open_nvrtc(None, _CARD.capability), KernelSource.read("persistent.cuh")
    options = ["--gpu-architecture=sm_90", *constants.NVRTC_OPTIONS, "-lineinfo"]
    options += [f"-D{name}={value}" for name, value in defines.items()]
    includes = "\n".join(line for line in source.text.splitlines() if line.startswith("#include"))
    wanted = [text % {"v": v, "place": place} for v, place in _VECTORS.items() for text in _OF_VECTOR]
    wanted += [*_OF_BLOCK, *(f"__INTADDR__(&(((Params*)0)->{name}))" for name in _PARAMETERS)]
    texts = ", ".join(f"static_cast<unsigned long long>({text})" for text in wanted)
    probe, _ = nvrtc.compile("layout.cu", _PROBE % (includes, texts), source.headers, options)
    numbers = iter(exported_numbers(probe, "layout_numbers"))

    def take(count: int) -> list[int]:
        return [next(numbers) for _ in range(count)]

    vectors = [Vector(name, *take(len(_OF_VECTOR))) for name in _VECTORS]
    shared, kept, weight_bytes, levels, pushed_at, exchange_bytes, all_threads, *others = take(len(_OF_BLOCK))
    draws_all, first_look = others
    in_cluster = group.exchange == "cluster"
    if in_cluster and not grouping.cluster_has_room(group, config, dtype, shared, kept, _CARD.shared_bytes):
        return None
    if not draws_all:
        raise SystemExit(f"{group.batch} streams are too many: the model is of blocks that draw all streams themselves")
    parameters = {name: _PARAMETERS_AT + next(numbers) for name in _PARAMETERS}
    cubin, _ = nvrtc.compile(source.name, source.text, source.headers, options)
    program, labels = decode(cubin, PERSISTENT)
    where = pushed_at if in_cluster else None
    return Kernel(
        *(program, labels, vectors, levels, parameters, where, exchange_bytes, all_threads, weight_bytes),
        l2_bytes=max(0, weight_bytes - group.blocks * shared),
        first_look=first_look,
        nvrtc=".".join(map(str, nvrtc.version)),
    )

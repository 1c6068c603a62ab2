"""A GPU as `predict` sees it: its size, which the driver tells, and the times of a kernel's steps, with their sources.

This project measured none of these times. "Luo et al." measured an H800 (arXiv 2402.13499 and 2501.12084). "The guide"
is the table of throughput for compute capability 9.0 in NVIDIA's CUDA C++ programming guide. "Estimate" marks our own
guesses.
"""

import argparse
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samplernn_fast._C import CudaDevice


@dataclass(frozen=True)
class Machine:
    """A GPU. Times are cycles of a multiprocessor, and rates are amounts that one multiprocessor does in a cycle."""

    name: str = "H100 or H200"
    multiprocessors: int = 132
    shared_bytes: int = 227 << 10
    """The largest number of bytes of shared memory that a block may use."""
    clusters: bool = True
    """Whether the GPU has thread block clusters."""

    clock_ghz: float = 1.98
    """The highest clock of an H100 and an H200 in GHz; an H200 was seen to keep it."""
    l2_hop: float = 700.0
    """Cycles from the store of a packet until all blocks have read it (estimate: two trips to L2, each of 263 cycles
    to its near part or 414 to its far part)."""
    counter_hop: float = 1900.0
    """The same cycles by counters (estimate: 0.95 us, because a barrier of the whole grid takes 1.1 us on an H100)."""
    l2_latency: float = 263.0
    """Cycles of a load that L2 answers (Luo et al.)."""
    l2_rate: float = 3942.0
    """Bytes that all multiprocessors together get from L2 in a cycle (Luo et al.)."""
    l2_port: float = 64.0
    """The largest number of bytes that one multiprocessor gets from L2 in a cycle (estimate: two sectors of 32)."""
    cluster_hop: float = 230.0
    """Cycles from a push into another block's shared memory until that block has read it (180 to 213 until it arrives,
    Luo et al.; the read is an estimate)."""
    push_rate: float = 11.0
    """Bytes that a block pushes within a cluster in a cycle (Luo et al.: 11 to 16, fewer in larger clusters)."""
    shared_latency: float = 29.0
    """Cycles of a load from shared memory (Luo et al.)."""
    shared_rate: float = 128.0
    """Bytes of shared memory in a cycle (the guide: 32 banks of 4 bytes)."""
    fma_rate: float = 128.0
    """Multiply-adds of float32 in a cycle (the guide)."""
    dp4a_rate: float = 64.0
    """Sums of four products of bytes in a cycle (the guide)."""
    mma_latency: float = 24.0
    """Cycles of a tensor core's m16n8k16 in bfloat16 or m16n8k32 in int8 (Luo et al.)."""
    shuffle: float = 25.0
    """Cycles of one step of a sum over a warp (estimate: the latency of a shuffle and an addition)."""
    barrier: float = 40.0
    """Cycles of a barrier of a block of 256 threads (estimate)."""
    unpack: float = 60.0
    """Cycles to store the numbers of a packet in shared memory, in the format of the numeric mode (estimate: 40
    instructions of each of two warps on a scheduler)."""
    cell: float = 300.0
    """Cycles of a cell's activation functions, two of sigmoid and tanh one after the other (estimate: 70 dependent
    instructions)."""
    divide: float = 60.0
    """Cycles of a correctly rounded division (estimate)."""
    draw: float = 240.0
    """Cycles in which one warp draws one of 256 levels (estimate: two maxima, a power for each level, a sum, and a
    prefix sum)."""

    def microseconds(self, cycles: float) -> float:
        return cycles / self.clock_ghz / 1e3

    def l2_share(self, blocks: int) -> float:
        """Bytes that each block gets from L2 in a cycle, while that many blocks read at once."""
        return min(self.l2_port, self.l2_rate / blocks)


CONSTANTS = tuple(field.name for field in dataclasses.fields(Machine) if field.type in ("float", float))
"""The names of the times and rates, which measured ones may replace."""


def machine_of(device: "CudaDevice") -> Machine:
    """The GPU of that device, with the times and rates above."""
    return Machine(device.name, device.multiprocessors, device.shared_bytes, bool(device.clusters))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that replace constants by measured ones."""
    parser.add_argument("--constant", nargs="+", default=[], metavar="NAME=NUMBER", help=", ".join(CONSTANTS))
    parser.add_argument(
        "--constants", type=Path, help="a JSON file: {name: number}, or rows of hops; see with_measured"
    )


def with_options(machine: Machine, args: argparse.Namespace) -> Machine:
    """The machine with the constants of the command line. SystemExit for an unknown name, or a number that is not
    positive."""
    if args.constants:
        content = json.loads(args.constants.read_text())
        if not isinstance(content, dict):
            raise SystemExit(f"{args.constants} must hold an object of names and numbers, or one with rows")
        machine = with_measured(machine, content)
    named = {}
    for text in args.constant:
        name, _, number = text.partition("=")
        try:
            named[name] = float(number)
        except ValueError:
            raise SystemExit(f"--constant takes NAME=NUMBER, such as l2_hop=800, got {text!r}") from None
    return _replaced(machine, named)


def with_measured(machine: Machine, content: dict[str, Any]) -> Machine:
    """The machine with measured constants.

    content: constants by their names, or under "rows" the rows of a benchmark. A row counts if its "ok" is true. Those
    of part hop_l2 (rows counter and tagged, by "ctas" and "payload" bytes) and hop_cluster (row push) have the cycles
    of one hop, and those of part ceilings (row read) have a rate of reads. The hop of the smallest payload in the
    largest group counts, because the prediction adds the time to read larger ones.
    """
    if "rows" not in content:
        return _replaced(machine, content)
    rows = [row for row in content["rows"] if row.get("ok")]

    def hop(part: str, name: str) -> float | None:
        found = [row for row in rows if (row.get("part"), row.get("row")) == (part, name) and row.get("cycles")]
        most = max((row.get("ctas") or row.get("cluster") or 0 for row in found), default=0)
        largest = [row for row in found if most in (row.get("ctas"), row.get("cluster"))]
        return min(((row.get("payload", 0), row["cycles"]) for row in largest), default=(0, None))[1]

    reads = [
        row for row in rows if (row.get("part"), row.get("row")) == ("ceilings", "read") and row.get("mb", 0) <= 40
    ]
    rates = [row["bytes_per_cycle_per_sm_at_1980mhz"] * machine.multiprocessors for row in reads]
    found = {
        "l2_hop": hop("hop_l2", "tagged"),
        "counter_hop": hop("hop_l2", "counter"),
        "cluster_hop": hop("hop_cluster", "push"),
        "l2_rate": max(rates, default=None),
    }
    return _replaced(machine, {name: number for name, number in found.items() if number is not None})


def _replaced(machine: Machine, numbers: dict[str, Any]) -> Machine:
    """The machine with constants by their names. SystemExit for an unknown name, or a number that is not positive."""
    for name, number in numbers.items():
        if name not in CONSTANTS or not isinstance(number, (int, float)) or not number > 0:
            raise SystemExit(f"constants must be positive numbers called {', '.join(CONSTANTS)}; got {name}={number!r}")
    return dataclasses.replace(machine, **{name: float(number) for name, number in numbers.items()})

"""A GPU as `predict` sees it: what its driver says, and what one step of a kernel takes, each with its source.

None of these numbers was measured by this project. Luo et al. measured an H800: arXiv 2402.13499 and 2501.12084. The
guide is NVIDIA's CUDA C++ programming guide, its table of throughput for compute capability 9.0.
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
    """Times are in cycles of a multiprocessor, rates in a cycle of one multiprocessor."""

    name: str = "H100 or H200"
    multiprocessors: int = 132
    shared_bytes: int = 227 << 10
    """The most that a block may have."""
    clusters: bool = True

    clock_ghz: float = 1.98
    """The highest of an H100 and an H200; an H200 was seen to keep it."""
    l2_hop: float = 700.0
    """From a packet's store to its being read by all blocks. Estimate: two trips to L2, 263 to 414 each (near, far)."""
    counter_hop: float = 1900.0
    """The same by counters. Estimate: 0.95 us, a little below a barrier of the whole grid (1.1 us on an H100)."""
    l2_latency: float = 263.0
    """Of a load that L2 answers. Luo et al."""
    l2_rate: float = 3942.0
    """Bytes from L2 for all multiprocessors together. Luo et al."""
    l2_port: float = 64.0
    """Bytes from L2 for one that reads alone, at most. Estimate: two sectors of 32."""
    cluster_hop: float = 230.0
    """From a push to another block's shared memory to its being read there. 180 to 213 for the way (Luo et al.), and
    a look."""
    push_rate: float = 11.0
    """Bytes pushed within a cluster: 11 to 16, the fewer the larger the cluster. Luo et al."""
    shared_latency: float = 29.0
    """Luo et al."""
    shared_rate: float = 128.0
    """Bytes: 32 banks of 4. The guide."""
    fma_rate: float = 128.0
    """float32 multiply-adds. The guide."""
    dp4a_rate: float = 64.0
    """Sums of four products of bytes. The guide."""
    mma_latency: float = 24.0
    """Of an m16n8k16 in bfloat16 or an m16n8k32 in int8. Luo et al."""
    shuffle: float = 25.0
    """A step of a sum over a warp. Estimate: its latency and an addition."""
    barrier: float = 40.0
    """Of a block of 256 threads. Estimate."""
    unpack: float = 60.0
    """A packet's numbers to shared memory, in the mode's format. Estimate: 40 instructions of two warps a scheduler."""
    cell: float = 300.0
    """Two of sigmoid and tanh, one after the other. Estimate: 70 dependent instructions."""
    divide: float = 60.0
    """A rounded division. Estimate."""
    draw: float = 240.0
    """A level of 256 by one warp. Estimate: two maxima, a power a level, a sum, a scan."""

    def microseconds(self, cycles: float) -> float:
        return cycles / self.clock_ghz / 1e3

    def l2_share(self, blocks: int) -> float:
        """Bytes from L2 for each of so many blocks that read at once."""
        return min(self.l2_port, self.l2_rate / blocks)


CONSTANTS = tuple(field.name for field in dataclasses.fields(Machine) if field.type in ("float", float))
"""Names of what a measurement may replace."""


def machine_of(device: "CudaDevice") -> Machine:
    """The GPU at hand, with the constants above."""
    return Machine(device.name, device.multiprocessors, device.shared_bytes, bool(device.clusters))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options that replace constants by measured ones."""
    parser.add_argument("--constant", nargs="+", default=[], metavar="NAME=NUMBER", help=", ".join(CONSTANTS))
    parser.add_argument(
        "--constants", type=Path, help="a JSON file: {name: number}, or rows of hops; see with_measured"
    )


def with_options(machine: Machine, args: argparse.Namespace) -> Machine:
    """The machine with the constants of the command line. SystemExit for a name or number that is none."""
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
    """With measured constants: by their names, or from "rows" of a hop benchmark, each with part, row, ok and cycles
    of one hop (hop_l2: counter, tagged, by ctas and payload bytes; hop_cluster: push), or a rate of reads (ceilings:
    read). The smallest payload of the largest group counts, because the model adds the reading of larger ones."""
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
    for name, number in numbers.items():
        if name not in CONSTANTS or not isinstance(number, (int, float)) or not number > 0:
            raise SystemExit(f"constants must be positive numbers called {', '.join(CONSTANTS)}; got {name}={number!r}")
    return dataclasses.replace(machine, **{name: float(number) for name, number in numbers.items()})

"""What the parts of a stage take in one block of the persistent CUDA kernel; `predict` puts them together."""

from collections import Counter
from dataclasses import dataclass, field

from bench.gpu.prediction.layout import TENSOR_ROWS, Layout
from bench.gpu.prediction.machine import Machine
from samplernn_fast.backends.cuda import constants

LOADING = "loading and saving"
# Of one thread, on their way at the same time: loads in a loop over global memory, packets of an exchange, and of these
# such as have not come; units of the MLP's whole input.
LOADS_AHEAD, READS_AHEAD, ASKED_AGAIN, UNITS_AHEAD = 4, 8, 2, 4


@dataclass
class Predicted:
    """Cycles of a stage in one sample."""

    cycles: float = 0.0
    exchange: float = 0.0
    """Of them in exchanges: waiting for other blocks and reading what they gave."""
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def bound(self) -> str:
        """What takes most of it."""
        return self.causes.most_common(1)[0][0] if self.causes else "-"


class BlockTime:
    """The clock of one block, in cycles, and where its time goes. All blocks are taken to be equally fast, so a result
    arrives one hop after this block gave its own."""

    def __init__(self, layout: Layout, machine: Machine) -> None:
        self.layout, self.machine, self.config = layout, machine, layout.config
        self.now, self.stage, self.in_gather = 0.0, LOADING, False
        self.given: dict[str, float] = {}  # when results arrive
        self.unread: set[str] = set()
        self.staged: set[str] = set()  # outputs of tiers that stay staged
        self.forget()

    def forget(self) -> None:
        """Count from now on."""
        self.waits = 0  # for results of other blocks that were needed at once
        self.stages = {name: Predicted() for name in constants.phase_names(self.config)}

    @property
    def l2_share(self) -> float:
        """Bytes from L2 in a cycle, while all blocks of all groups read."""
        return self.machine.l2_share(self.layout.group.blocks * self.layout.group.groups)

    def spend(self, cycles: float, cause: str) -> None:
        stage = self.stages[self.stage]
        self.now += cycles
        stage.cycles += cycles
        stage.causes[cause] += cycles
        stage.exchange += cycles if self.in_gather else 0.0

    def tiles(self) -> list[int]:
        """Streams whose vectors are in shared memory at once, one tile after the other."""
        batch, tile = self.layout.group.batch, self.layout.tile
        return [min(tile, batch - first) for first in range(0, batch, tile)]

    def turns(self, rows: int, most: int) -> tuple[int, int]:
        """How often a warp takes another of so many rows, of which there are at most so many, and the threads that
        share one out."""
        together = max(1, self.layout.warps // most)
        return -(-rows // (self.layout.warps // together)), 32 * together

    def rounds(self, outputs: int) -> int:
        """How often a warp takes another one of so many."""
        return -(-outputs // self.layout.warps)

    def barrier(self) -> None:
        self.spend(self.machine.barrier, "barriers")

    def publish(self, place: str, chunk: int, rows: int = 0) -> None:
        """Gives this block's chunk of every vector; it arrives a hop later."""
        layout, machine, rows = self.layout, self.machine, rows or self.layout.group.batch
        self.barrier()
        hop = {"tagged": machine.l2_hop, "cluster": machine.cluster_hop, "counters": machine.counter_hop, "alone": 0.0}
        pushed = 16 * rows * layout.packets_of(chunk) if layout.group.exchange == "cluster" else 0
        if layout.group.exchange == "counters":
            self.barrier()
        self.unread.add(place)
        self.staged.discard(place)
        self.given[place] = self.now + hop[layout.group.exchange] + pushed / machine.push_rate

    def gather(self, place: str, chunk: int, rows: int, needed: bool = False, most: int = 0) -> None:
        """Waits for vectors and reads them, some reads of a thread at a time. needed: by what is made next, not only
        later; most: rows that there may be at a time, by default a tile."""
        layout, machine = self.layout, self.machine
        self.in_gather = True
        self.barrier()
        near = layout.group.exchange in ("alone", "cluster")
        row = layout.packets_of(chunk) if layout.packets else -(-layout.group.blocks * chunk // 4)
        turns, threads = self.turns(rows, min(most or layout.tile, layout.tile))
        reads = -(-row // threads)  # of a thread, of one row
        trips = -(-reads // READS_AHEAD) if layout.packets else reads
        latency = machine.shared_latency if near else machine.l2_latency
        rate = machine.shared_rate if near else self.l2_share
        left = turns * trips
        late = self.given.get(place, 0.0) - self.now
        if late > 0:
            self.spend(late, "waiting for other blocks")
            # The last look at the first packets is part of the hop; of many the others are read after it.
            left -= 1 if -(-reads // trips) <= ASKED_AGAIN else 0
        reading = max(left * latency, 16 * rows * row / rate)
        self.spend(reading, f"activations from {'shared memory' if near else 'L2'}")
        self.spend(turns * reads * machine.unpack, "arithmetic")
        self.barrier()
        self.in_gather = False
        self.waits += needed and place in self.unread and layout.group.exchange != "alone"
        self.unread.discard(place)

    def stage_vector(self, place: str, rows: int, needed: bool = True) -> None:
        """A vector of dim D of some streams, in the format of products."""
        self.gather(place, self.layout.units, rows, needed)
        self.to_codes(rows, self.config.dim)

    def stage_output(self, place: str, rows: int, needed: bool = True) -> None:
        """The same for what a tier gives from, which may be there still."""
        if place in self.staged:
            return
        self.stage_vector(place, rows, needed)
        if self.layout.keeps_outputs:
            self.staged.add(place)

    def to_codes(self, rows: int, cols: int) -> None:
        """int8: codes of every row, whose largest magnitude has been found while its numbers came; else rows are as
        they should be."""
        if self.layout.dtype != "int8":
            return
        machine = self.machine
        turns, threads = self.turns(rows, self.layout.tile)
        quads = -(-cols // (4 * threads))  # of a thread, of one row
        peak = machine.shuffle + machine.shared_latency + machine.divide
        codes = -(-quads // LOADS_AHEAD) * machine.shared_latency + quads * machine.unpack
        self.spend(turns * (peak + codes), "finding codes")
        self.barrier()

    def product(self, name: str, rows: int, units: int, cols: int = 0) -> None:
        """Own rows of a matrix, those of all gates together, times the staged vectors of a tile of streams."""
        layout, machine, cols = self.layout, self.machine, cols or self.config.dim
        row = layout.row_bytes(cols)
        stays = name in layout.resident
        times = {"weights from L2": 0.0 if stays else machine.l2_latency + rows * row / self.l2_share}
        if layout.tensor:
            tiles, pieces, planes = -(-rows // TENSOR_ROWS), -(-row // 64), 2 if layout.dtype == "int8" else 1
            reads = pieces * ((-(-rows // 8) if stays else 0) + tiles * planes)
            times["arithmetic"] = tiles * -(-pieces // layout.warps) * 2 * machine.mma_latency
            after = tiles * (layout.warps * machine.shared_latency / 4 + 2 * machine.barrier)
        else:
            number, planes = (1, 2) if layout.dtype == "int8" else (4, 1)
            reads = -(-(rows * row * stays + units * layout.tile * planes * cols * number) // 512)
            work = rows * cols * layout.tile
            times["arithmetic"] = work / 2 / machine.dp4a_rate if layout.dtype == "int8" else work / machine.fma_rate
            sums = 5 * layout.tile * rows * 1.0  # a warp's shuffle a cycle
            after = max(sums, self.rounds(units) * 5 * machine.shuffle)
        times["weights and activations from shared memory"] = machine.shared_latency + reads * 512 / machine.shared_rate
        cause = max(times, key=lambda name: times[name])
        self.spend(times[cause], cause)
        self.spend(after, "sums over threads")

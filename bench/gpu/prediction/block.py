"""How long one block of the persistent CUDA kernel takes for each part of a phase; `predict` adds the parts up."""

from collections import Counter
from dataclasses import dataclass, field

from bench.gpu.prediction.layout import TENSOR_ROWS, Layout
from bench.gpu.prediction.machine import Machine
from samplernn_fast.backends.cuda import constants

LOADING = "loading and saving"
# The largest number of accesses that one thread has under way: loads of an unrolled loop, first reads of packets,
# repeated reads of packets, and units of the MLP's input.
LOADS_AHEAD, READS_AHEAD, REPEATED_READS, UNITS_AHEAD = 4, 8, 2, 4


@dataclass
class Predicted:
    """The predicted time of one phase in one sample."""

    cycles: float = 0.0
    exchange: float = 0.0
    """Cycles of `cycles` that the block spends in exchanges, waiting or reading."""
    causes: Counter[str] = field(default_factory=Counter)
    """They are the same cycles, divided by what the block does in them."""

    @property
    def bound(self) -> str:
        """The cause that takes most of the cycles."""
        return self.causes.most_common(1)[0][0] if self.causes else "-"


class BlockTime:
    """The clock of one block, in cycles, and the phases and causes that its time goes to.

    The model takes all blocks to be equally fast, so a result arrives one hop after this block has published its own.
    """

    def __init__(self, layout: Layout, machine: Machine) -> None:
        self.layout, self.machine, self.config = layout, machine, layout.config
        self.now, self.phase, self.in_gather = 0.0, LOADING, False
        self.arrivals: dict[str, float] = {}
        """The cycle at which the last result of each exchange arrives."""
        self.unread: set[str] = set()
        """The exchanges whose last result this block has not read yet."""
        self.held_outputs: set[str] = set()
        """The exchanges of tiers' outputs whose last result the output rows hold."""
        self.forget()

    def forget(self) -> None:
        """Sets the counts of waits and of cycles to 0, while the clock goes on."""
        self.waits = 0
        """How often the block needed a result of other blocks at once."""
        self.phases = {name: Predicted() for name in constants.phase_names(self.config)}

    @property
    def l2_share(self) -> float:
        """Bytes that this block gets from L2 in a cycle, while all blocks of all groups read."""
        return self.machine.l2_share(self.layout.group.blocks * self.layout.group.groups)

    def spend(self, cycles: float, cause: str) -> None:
        phase = self.phases[self.phase]
        self.now += cycles
        phase.cycles += cycles
        phase.causes[cause] += cycles
        phase.exchange += cycles if self.in_gather else 0.0

    def tiles(self) -> list[int]:
        """Lists how many streams each tile has; the rows of one tile at a time are in shared memory."""
        batch, tile = self.layout.group.batch, self.layout.tile
        return [min(tile, batch - first) for first in range(0, batch, tile)]

    def turns(self, rows: int, most: int) -> tuple[int, int]:
        """Counts the turns that a warp needs for `rows` rows, and says how many threads share a row.

        most: the largest number of rows that the block works on at a time.
        """
        together = max(1, self.layout.warps // most)
        return -(-rows // (self.layout.warps // together)), 32 * together

    def rounds(self, units: int) -> int:
        """Counts the turns that a warp needs for that many units, where each warp computes one of them in a turn."""
        return -(-units // self.layout.warps)

    def barrier(self) -> None:
        self.spend(self.machine.barrier, "barriers")

    def publish(self, place: str, own: int, rows: int = 0) -> None:
        """Publishes this block's part of every vector of an exchange; it arrives a hop later.

        own: the numbers of a vector that a block owns. rows: the number of vectors, 0 for one for each stream.
        """
        layout, machine, rows = self.layout, self.machine, rows or self.layout.group.batch
        self.barrier()
        hop = {"tagged": machine.l2_hop, "cluster": machine.cluster_hop, "counters": machine.counter_hop, "alone": 0.0}
        pushed = 16 * rows * layout.packets_of(own) if layout.group.exchange == "cluster" else 0
        if layout.group.exchange == "counters":
            self.barrier()
        self.unread.add(place)
        self.held_outputs.discard(place)
        self.arrivals[place] = self.now + hop[layout.group.exchange] + pushed / machine.push_rate

    def gather(self, place: str, own: int, rows: int, needed: bool = False, most: int = 0) -> None:
        """Waits for the vectors of an exchange and reads `rows` of them.

        own: the numbers of a vector that a block owns. needed: whether the next result needs the vectors, and not only
        a later one. most: the largest number of vectors that the block reads at a time, 0 for those of a tile.
        """
        layout, machine = self.layout, self.machine
        self.in_gather = True
        self.barrier()
        near = layout.group.exchange in ("alone", "cluster")
        row = layout.packets_of(own) if layout.packets else -(-layout.group.blocks * own // 4)
        turns, threads = self.turns(rows, min(most or layout.tile, layout.tile))
        reads = -(-row // threads)  # how often a thread reads 16 bytes of one row
        trips = -(-reads // READS_AHEAD) if layout.packets else reads  # how often it waits for reads
        latency = machine.shared_latency if near else machine.l2_latency
        rate = machine.shared_rate if near else self.l2_share
        left = turns * trips
        late = self.arrivals.get(place, 0.0) - self.now
        if late > 0:
            self.spend(late, "waiting for other blocks")
            # A hop includes the read that finds the first packets. Where a thread has many, it reads the others after.
            left -= 1 if -(-reads // trips) <= REPEATED_READS else 0
        reading = max(left * latency, 16 * rows * row / rate)
        self.spend(reading, f"activations from {'shared memory' if near else 'L2'}")
        self.spend(turns * reads * machine.unpack, "arithmetic")
        self.barrier()
        self.in_gather = False
        self.waits += needed and place in self.unread and layout.group.exchange != "alone"
        self.unread.discard(place)

    def fill_rows(self, place: str, rows: int, needed: bool = True) -> None:
        """Fills rows with vectors of width D from an exchange, in the format of the numeric mode."""
        self.gather(place, self.layout.units, rows, needed)
        self.finish_rows(rows, self.config.dim)

    def fill_output_rows(self, place: str, rows: int, needed: bool = True) -> None:
        """Fills the rows of a tier's output, unless they already hold it."""
        if place in self.held_outputs:
            return
        self.fill_rows(place, rows, needed)
        if self.layout.keeps_output_rows:
            self.held_outputs.add(place)

    def finish_rows(self, rows: int, cols: int) -> None:
        """Quantizes rows in int8. Each row's largest magnitude was found while its numbers were read."""
        if self.layout.dtype != "int8":
            return
        machine = self.machine
        turns, threads = self.turns(rows, self.layout.tile)
        quads = -(-cols // (4 * threads))  # how often a thread reads four numbers of one row
        peak = machine.shuffle + machine.shared_latency + machine.divide
        codes = -(-quads // LOADS_AHEAD) * machine.shared_latency + quads * machine.unpack
        self.spend(turns * (peak + codes), "finding codes")
        self.barrier()

    def product(self, name: str, rows: int, units: int, cols: int = 0) -> None:
        """Multiplies the block's own rows of a matrix, for all gates, with the rows of a tile of streams.

        name: that of `Layout.matrices`. rows: how many of the matrix, with all gates. units: how many outputs a gate
        has. cols: the columns of the matrix, 0 for D.
        """
        layout, machine, cols = self.layout, self.machine, cols or self.config.dim
        row = layout.row_bytes(cols)
        stays = name in layout.resident
        times = {"weights from L2": 0.0 if stays else machine.l2_latency + rows * row / self.l2_share}
        if layout.tensor:
            tiles, steps, planes = -(-rows // TENSOR_ROWS), -(-row // 64), 2 if layout.dtype == "int8" else 1
            reads = steps * ((-(-rows // 8) if stays else 0) + tiles * planes)
            times["arithmetic"] = tiles * -(-steps // layout.warps) * 2 * machine.mma_latency
            after = tiles * (layout.warps * machine.shared_latency / 4 + 2 * machine.barrier)
        else:
            # A number of a row has `size` bytes in each of `planes` planes.
            size, planes = (1, 2) if layout.dtype == "int8" else (4, 1)
            reads = -(-(rows * row * stays + units * layout.tile * planes * cols * size) // 512)
            work = rows * cols * layout.tile
            times["arithmetic"] = work / 2 / machine.dp4a_rate if layout.dtype == "int8" else work / machine.fma_rate
            sums = 5 * layout.tile * rows * 1.0  # a warp starts one shuffle in a cycle
            after = max(sums, self.rounds(units) * 5 * machine.shuffle)
        times["weights and activations from shared memory"] = machine.shared_latency + reads * 512 / machine.shared_rate
        cause = max(times, key=lambda name: times[name])
        self.spend(times[cause], cause)
        self.spend(after, "sums over threads")

"""The bytes that a block of the persistent CUDA kernel keeps in shared memory, on a machine without compiler or GPU.

It repeats the arithmetic of csrc/cuda/device/{shape,vectors,memory}.cuh, and tests/bench/test_prediction.py compares it
with the kernel's own numbers.
"""

import functools
from dataclasses import dataclass

from samplernn_fast.backends.cuda import grouping
from samplernn_fast.backends.cuda.grouping import Grouping
from samplernn_fast.backends.cuda.program import THREADS
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.layout import packed_hidden
from samplernn_fast.reference.modes import WEIGHT_BYTES

STREAMS_AT_ONCE = 8
"""The largest number of streams of a tile, whose rows are in shared memory at once."""
TENSOR_STREAMS, TENSOR_ROWS = 8, 32
"""The streams, and the rows of a matrix, that a warp multiplies together on tensor cores."""
PACKET_NUMBERS = 3
"""The numbers of a packet of 16 bytes."""


def round_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `size`."""
    return -(-size // unit) * unit


@dataclass(frozen=True)
class Matrix:
    """A block's own rows of a matrix that products read."""

    name: str
    """The name of the matrix in `models.layout.layout`."""
    rows: int
    """It counts the rows of the matrix that the block owns."""
    cols: int


@dataclass(frozen=True)
class Layout:
    """A model in a numeric mode on a grouping of blocks.

    Most properties are constants of the kernel and have their names, such as `units` for kUnits.
    """

    config: SampleRNNConfig
    dtype: str
    group: Grouping
    shared_bytes: int
    """The largest number of bytes of shared memory that a block may use."""
    threads: int = THREADS
    """The threads of a block."""

    @property
    def warps(self) -> int:
        return self.threads // 32

    @property
    def units(self) -> int:
        """The largest number of units of a vector that one block owns."""
        return -(-self.config.dim // self.group.blocks)

    @property
    def logit_rows(self) -> int:
        """The largest number of logits that one block owns."""
        return -(-self.config.q_levels // self.group.blocks)

    @property
    def tile(self) -> int:
        """The streams whose rows are in shared memory at once."""
        return min(self.group.batch, STREAMS_AT_ONCE)

    @property
    def warps_of_row(self) -> int:
        """The warps that share one row, where a block works on the rows of one tile at a time."""
        return max(1, self.warps // self.tile)

    @property
    def tensor(self) -> bool:
        """Says whether tensor cores make the products."""
        return self.dtype == "bfloat16" or (self.dtype == "int8" and self.group.batch >= 4)

    @property
    def packets(self) -> bool:
        """Says whether results travel in packets."""
        return self.group.exchange in ("tagged", "cluster")

    @property
    def draw_all(self) -> bool:
        """Says whether every block draws the levels of all streams."""
        return self.group.batch <= self.tile

    @property
    def draw_streams(self) -> int:
        """The largest number of streams whose levels one block draws."""
        return self.group.batch if self.draw_all else -(-self.group.batch // self.group.blocks)

    @property
    def whole_input(self) -> bool:
        """Says whether every block computes the MLP's whole input."""
        return self.packets and self.draw_all

    @property
    def gates(self) -> int:
        return self.config.gates

    @property
    def recurrent_gates(self) -> int:
        """The gates whose recurrent product is made ahead of the next frame."""
        return self.gates if self.config.rnn == "lstm" or self.config.reset_after else 2

    @property
    def skips(self) -> bool:
        return self.config.skip != "none"

    def upsampled_gates(self, tier: int) -> int:
        """The gates, of D rows each, that a tier upsamples for one unit below it."""
        return 1 if tier == 0 else self.config.readers * self.gates

    def row_bytes(self, cols: int) -> int:
        """The bytes of one row of weights."""
        return round_up(cols * WEIGHT_BYTES[self.dtype], 16)

    def resident_row_bytes(self, cols: int) -> int:
        """The bytes of one row of weights in shared memory."""
        return round_up(self.row_bytes(cols), 128) + 64 if self.tensor else self.row_bytes(cols)

    @functools.cached_property
    def matrices(self) -> dict[str, Matrix]:
        """The matrices that may stay in shared memory, in the order in which they get room."""
        dim, layers = self.config.dim, self.config.n_rnn
        found = [Matrix("mlp.output", self.logit_rows, dim)]
        found += [Matrix(f"mlp.hidden{layer}", self.units, dim) for layer in range(packed_hidden(self.config))]
        for tier, ratio in enumerate(self.config.ratios):
            found += [
                Matrix(f"tier{tier}.up", ratio * self.upsampled_gates(tier) * self.units, dim),
                Matrix(f"tier{tier}.recurrent", layers * self.gates * self.units, dim),
                Matrix(f"tier{tier}.stack", (layers - 1) * self.gates * self.units, dim),
            ]
        return {matrix.name: matrix for matrix in found}

    @functools.cached_property
    def resident(self) -> dict[str, int]:
        """The bytes of each matrix that stays in shared memory."""
        found, at = {}, self.array_bytes
        for matrix in self.matrices.values():
            size = matrix.rows * self.resident_row_bytes(matrix.cols)
            if size and at + size <= self.shared_bytes:
                found[matrix.name] = size
                at += size
        return found

    @property
    def resident_bytes(self) -> int:
        """The bytes of all matrices that stay in shared memory."""
        return sum(self.resident.values())

    @property
    def used_bytes(self) -> int:
        """The bytes of shared memory in use; a cluster may need more than there are."""
        return self.array_bytes + self.resident_bytes

    @property
    def fits_a_cluster(self) -> bool:
        """Says whether a cluster keeps all that it must keep, as `Program.build` checks."""
        kept = self.resident_bytes * self.group.blocks >= grouping.resident_bytes(self.config, self.dtype)
        return kept and self.used_bytes <= self.shared_bytes

    @property
    def array_bytes(self) -> int:
        """The bytes of shared memory that hold no weights."""
        if self.group.exchange != "cluster" and self.work_bytes > self.shared_bytes:
            return 0
        both = self.work_bytes + self.kept_bytes
        return both if both <= self.shared_bytes else self.work_bytes

    @property
    def work_bytes(self) -> int:
        """The bytes of the arrays that a block works on."""
        config, batch, tile = self.config, self.group.batch, self.tile
        peaks = round_up(4 * tile * self.warps_of_row, 16) if self.dtype == "int8" else 0
        size = round_up(tile * 4, 16) + peaks + round_up(2 * batch * 12, 16) + 4 * tile * self.raw_cols
        size += self.rows_bytes if self.dtype != "float32" else 0
        size += len(config.ratios) * self.output_rows_bytes if self.keeps_output_rows else 0
        if self.tensor:
            size += 4 * self.warps * TENSOR_ROWS * TENSOR_STREAMS
            size += 4 * max(self.gates * self.units, self.logit_rows) * TENSOR_STREAMS
        size += round_up(4 * batch * max(self.units, self.logit_rows), 16)
        size += self.exchange_bytes if self.group.exchange in ("alone", "cluster") else 0
        return size + 4 * tile * round_up(config.q_levels, 16)

    @property
    def kept_bytes(self) -> int:
        """The bytes of the arrays that a block keeps from one sample to the next."""
        config, batch, tiers = self.config, self.group.batch, range(len(self.config.ratios))
        owned, layers = 4 * self.units * batch, len(self.config.ratios) * self.config.n_rnn
        size = round_up(4 * batch * config.dim, 16) if self.whole_input else 0
        size += round_up(layers * (2 if config.rnn == "lstm" else 1) * owned, 16)
        size += round_up(layers * self.recurrent_gates * owned, 16)
        size += round_up(sum(self.upsampled_gates(tier) for tier in tiers) * owned, 16)
        return size + round_up(2 * owned, 16) + round_up(4 * batch * config.lookback, 16)

    @property
    def most_cols(self) -> int:
        """The numbers of the longest vector that a product reads."""
        return self.config.dim * (self.config.n_rnn if self.skips else 1)

    @property
    def raw_cols(self) -> int:
        """The numbers of a row in float32: logits for the draw, and in int8 the vectors that are quantized."""
        levels = self.config.q_levels
        return round_up(levels if self.dtype == "bfloat16" else max(self.most_cols, levels), 16)

    @property
    def rows_bytes(self) -> int:
        """The bytes of the rows of a tile, in the format of the numeric mode."""
        if self.dtype == "float32":
            return self.tile * 4 * self.raw_cols
        row = round_up(self.row_bytes(self.most_cols), 128) + (64 if self.tensor else 0)
        return (2 if self.dtype == "int8" else 1) * self.tile * row

    @property
    def output_rows_bytes(self) -> int:
        """The bytes of a tile of a tier's output rows, with their scales."""
        return self.rows_bytes + round_up(4 * self.tile, 16)

    @property
    def keeps_output_rows(self) -> bool:
        """Says whether each tier has rows of its own for its output, which stay for all products of its frame."""
        fits = len(self.config.ratios) * self.output_rows_bytes <= self.shared_bytes // 3
        return fits and self.group.batch <= self.tile and self.group.exchange != "launches"

    def packets_of(self, own: int) -> int:
        """The packets of one vector of which each block owns that many numbers."""
        return self.group.blocks * -(-own // PACKET_NUMBERS)

    @property
    def exchange_bytes(self) -> int:
        """The bytes of the buffers of all exchanges, for one copy."""
        config, batch = self.config, self.group.batch

        def buffers(rows: int, cols: int, own: int) -> int:
            vector = 16 * self.packets_of(own) if self.packets else round_up(4 * cols, 16)
            return round_up(2 * rows * vector, 256)

        places = 2 * len(config.ratios) * config.n_rnn + len(config.ratios) + packed_hidden(config) + 1
        size = places * buffers(batch, config.dim, self.units) + buffers(batch, config.q_levels, self.logit_rows)
        return size + (0 if self.draw_all else buffers(1, batch, self.draw_streams))

"""What a block of the persistent CUDA kernel keeps in shared memory: the arithmetic of csrc/cuda/device/shape.cuh, for
a machine without a compiler or a GPU. tests/bench/test_prediction.py compares it with the kernel's own numbers."""

import functools
from dataclasses import dataclass

from samplernn_fast.backends.cuda import grouping
from samplernn_fast.backends.cuda.grouping import Grouping
from samplernn_fast.backends.cuda.program import THREADS
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.modes import WEIGHT_BYTES
from samplernn_fast.reference.weights import packed_hidden

STREAMS_AT_ONCE, TENSOR_STREAMS, TENSOR_ROWS, PACKET_NUMBERS = 8, 8, 32, 3


def up_to(size: int, unit: int) -> int:
    """The next multiple of the unit."""
    return -(-size // unit) * unit


@dataclass(frozen=True)
class Matrix:
    """A block's own rows of a matrix of products; `name` is that of weights.layout."""

    name: str
    rows: int
    cols: int


@dataclass(frozen=True)
class Layout:
    """A model in a numeric mode on a grouping of blocks, each with at most `shared_bytes`."""

    config: SampleRNNConfig
    dtype: str
    group: Grouping
    shared_bytes: int
    threads: int = THREADS

    @property
    def warps(self) -> int:
        return self.threads // 32

    @property
    def units(self) -> int:
        return -(-self.config.dim // self.group.blocks)

    @property
    def logit_rows(self) -> int:
        return -(-self.config.q_levels // self.group.blocks)

    @property
    def tile(self) -> int:
        return min(self.group.batch, STREAMS_AT_ONCE)

    @property
    def warps_of_row(self) -> int:
        """Warps that have a row together, where a block has a tile of streams at a time."""
        return max(1, self.warps // self.tile)

    @property
    def tensor(self) -> bool:
        return self.dtype == "bfloat16" or (self.dtype == "int8" and self.group.batch >= 4)

    @property
    def packets(self) -> bool:
        return self.group.exchange in ("tagged", "cluster")

    @property
    def draw_all(self) -> bool:
        return self.group.batch <= self.tile

    @property
    def draw_streams(self) -> int:
        return self.group.batch if self.draw_all else -(-self.group.batch // self.group.blocks)

    @property
    def whole_input(self) -> bool:
        return self.packets and self.draw_all

    @property
    def gates(self) -> int:
        return 4 if self.config.rnn == "lstm" else 3

    @property
    def early_gates(self) -> int:
        return self.gates if self.config.rnn == "lstm" or self.config.reset_after else 2

    @property
    def skips(self) -> bool:
        return self.config.skip != "none"

    def below_blocks(self, tier: int) -> int:
        """Blocks of D outputs that a tier gives to the unit below it."""
        return 1 if tier == 0 else (self.config.n_rnn if self.config.skip == "full" else 1) * self.gates

    def row_bytes(self, cols: int) -> int:
        """Of a row of weights."""
        return up_to(cols * WEIGHT_BYTES[self.dtype], 16)

    def resident_row_bytes(self, cols: int) -> int:
        """Of a row in shared memory."""
        return up_to(self.row_bytes(cols), 128) + 64 if self.tensor else self.row_bytes(cols)

    @functools.cached_property
    def matrices(self) -> dict[str, Matrix]:
        """Those that may stay in shared memory, in the order of their turn; and sums of skips, which may not."""
        dim, layers = self.config.dim, self.config.n_rnn
        found = [Matrix("mlp.output", self.logit_rows, dim)]
        found += [Matrix(f"mlp.hidden{layer}", self.units, dim) for layer in range(packed_hidden(self.config))]
        for tier, ratio in enumerate(self.config.ratios):
            found += [
                Matrix(f"tier{tier}.up", ratio * self.below_blocks(tier) * self.units, dim),
                Matrix(f"tier{tier}.recurrent", layers * self.gates * self.units, dim),
                Matrix(f"tier{tier}.stack", (layers - 1) * self.gates * self.units, dim),
            ]
        return {matrix.name: matrix for matrix in found}

    @functools.cached_property
    def resident(self) -> dict[str, int]:
        """Bytes in shared memory of each matrix that stays there."""
        found, at = {}, self.array_bytes
        for matrix in self.matrices.values():
            size = matrix.rows * self.resident_row_bytes(matrix.cols)
            if size and at + size <= self.shared_bytes:
                found[matrix.name] = size
                at += size
        return found

    @property
    def resident_bytes(self) -> int:
        return sum(self.resident.values())

    @property
    def used_bytes(self) -> int:
        """Of shared memory; in a cluster it may be more than there is."""
        return self.array_bytes + self.resident_bytes

    @property
    def fits_a_cluster(self) -> bool:
        """As `Program.build` asks: whether all that a cluster must keep is kept."""
        kept = self.resident_bytes * self.group.blocks >= grouping.resident_bytes(self.config, self.dtype)
        return kept and self.used_bytes <= self.shared_bytes

    @property
    def array_bytes(self) -> int:
        """Of shared memory that is not for weights."""
        if self.group.exchange != "cluster" and self.work_bytes > self.shared_bytes:
            return 0
        both = self.work_bytes + self.kept_bytes
        return both if both <= self.shared_bytes else self.work_bytes

    @property
    def work_bytes(self) -> int:
        """Arrays that a block works on at the moment."""
        config, batch, tile = self.config, self.group.batch, self.tile
        peaks = up_to(4 * tile * self.warps_of_row, 16) if self.dtype == "int8" else 0
        size = up_to(tile * 4, 16) + peaks + up_to(2 * batch * 12, 16) + 4 * tile * self.raw_cols
        size += self.staged_bytes if self.dtype != "float32" else 0
        size += len(config.ratios) * self.output_bytes if self.keeps_outputs else 0
        if self.tensor:
            size += 4 * self.warps * TENSOR_ROWS * TENSOR_STREAMS
            size += 4 * max(self.gates * self.units, self.logit_rows) * TENSOR_STREAMS
        size += up_to(4 * batch * max(self.units, self.logit_rows), 16)
        size += self.exchange_bytes if self.group.exchange in ("alone", "cluster") else 0
        return size + 4 * tile * up_to(config.q_levels, 16)

    @property
    def kept_bytes(self) -> int:
        """Arrays that a block keeps from one sample to a later one."""
        config, batch, tiers = self.config, self.group.batch, range(len(self.config.ratios))
        cell, layers = 4 * self.units * batch, len(self.config.ratios) * self.config.n_rnn
        size = up_to(4 * batch * config.dim, 16) if self.whole_input else 0
        size += up_to(layers * (2 if config.rnn == "lstm" else 1) * cell, 16)
        size += up_to(layers * self.early_gates * cell, 16)
        size += up_to(sum(self.below_blocks(tier) for tier in tiers) * cell, 16)
        return size + up_to(2 * cell, 16) + up_to(4 * batch * config.lookback, 16)

    @property
    def most_cols(self) -> int:
        """The longest vector of products."""
        return self.config.dim * (self.config.n_rnn if self.skips else 1)

    @property
    def raw_cols(self) -> int:
        """Numbers of a row as they come, in int8 those that codes are made from."""
        levels = self.config.q_levels
        return up_to(levels if self.dtype == "bfloat16" else max(self.most_cols, levels), 16)

    @property
    def staged_bytes(self) -> int:
        """A tile of vectors in the format of products."""
        if self.dtype == "float32":
            return self.tile * 4 * self.raw_cols
        row = up_to(self.row_bytes(self.most_cols), 128) + (64 if self.tensor else 0)
        return (2 if self.dtype == "int8" else 1) * self.tile * row

    @property
    def output_bytes(self) -> int:
        """What a tier gives from, staged with its scales."""
        return self.staged_bytes + up_to(4 * self.tile, 16)

    @property
    def keeps_outputs(self) -> bool:
        """Whether each tier's output stays staged for all products of its frame."""
        few = self.group.batch <= self.tile and len(self.config.ratios) * self.output_bytes <= self.shared_bytes // 3
        return few and self.group.exchange != "launches"

    def packets_of(self, numbers: int) -> int:
        """Packets of 16 bytes of a vector of which each block gives so many."""
        return self.group.blocks * -(-numbers // PACKET_NUMBERS)

    @property
    def exchange_bytes(self) -> int:
        """Of the buffers of all exchanges, one copy."""
        config, batch = self.config, self.group.batch

        def buffers(rows: int, cols: int, chunk: int) -> int:
            vector = 16 * self.packets_of(chunk) if self.packets else up_to(4 * cols, 16)
            return up_to(2 * rows * vector, 256)

        places = 2 * len(config.ratios) * config.n_rnn + len(config.ratios) + packed_hidden(config) + 1
        size = places * buffers(batch, config.dim, self.units) + buffers(batch, config.q_levels, self.logit_rows)
        return size + (0 if self.draw_all else buffers(1, batch, self.draw_streams))

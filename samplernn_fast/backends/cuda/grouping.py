"""How the streams of a call are shared out among the thread blocks of a launch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import is_matrix, layout
from samplernn_fast.reference.modes import WEIGHT_BYTES

_CLUSTER_BLOCKS = (16, 8, 4)  # the sizes of thread block clusters that are tried, in blocks
# The largest number of streams of a cluster. Every block keeps the buffers of exchanges in its shared memory, and they
# grow with the streams.
_STREAMS_OF_A_CLUSTER = 8
_STREAMS_WITH_TEAMS = 8  # the largest number of streams of a block with two teams, where its shared memory is large
_UNITS_ALONE = 16  # the most units of a block with which a cluster makes one stream faster than the whole GPU does
LARGE = 200 << 10
"""Bytes of shared memory from which a block keeps most weights; compute capability 9.0 has 227 KB."""


def grid_blocks(dim: int, most: int) -> int:
    """The largest number of blocks, at most `most`, that share `dim` units so that none of them is idle."""
    return -(-dim // -(-dim // most))


def block_teams(batch: int, exchange: str, shared_bytes: int) -> int:
    """The most teams of warps that a block may have: a second one works ahead where blocks wait for packets, as long as
    every block draws all streams. On GPUs with less than LARGE bytes a thread has registers for that with one stream
    only."""
    most = _STREAMS_WITH_TEAMS if shared_bytes >= LARGE else 1
    return 2 if exchange in ("tagged", "cluster") and batch <= most else 1


@dataclass(frozen=True)
class Grouping:
    """How streams and blocks are shared out: `groups` groups of `blocks` blocks each, which make `batch` streams."""

    batch: int
    groups: int
    blocks: int
    """The blocks of a group, a number of `grid_blocks`."""
    exchange: str
    teams: int
    """The teams of a block."""

    @property
    def streams(self) -> int:
        """The streams of a launch, at least as many as were asked for."""
        return self.groups * self.batch

    @property
    def launched(self) -> int:
        """The number of blocks of a launch."""
        return self.groups * self.blocks

    @property
    def cooperative(self) -> bool:
        """This says whether all blocks wait for each other, so that all of them must run at once."""
        return self.exchange == "tagged" and self.blocks > 1


def grouping(
    config: PackedConfig, dtype: str, streams: int, multiprocessors: int, shared_bytes: int, exchange: str
) -> Grouping:
    """The grouping without clusters: all blocks make all streams together, by the exchange that is asked for.

    "auto" is "tagged" here. But where the matrices of a model fit into the shared memory of one block, "auto" makes
    groups of one block, which wait for nobody, one on each multiprocessor; together they may make more streams than
    are asked for. `cluster_groupings` has groups of 4 to 16 blocks; `Program.build` tries those first where the GPU has
    clusters.
    """
    if exchange != "auto" or product_bytes(config, dtype) > shared_bytes:
        shared_out = "tagged" if exchange == "auto" else exchange
        blocks, teams = grid_blocks(config.dim, multiprocessors), block_teams(streams, shared_out, shared_bytes)
        return Grouping(streams, 1, blocks, shared_out, teams)
    together = -(-streams // multiprocessors)
    return Grouping(together, -(-streams // together), 1, "alone", teams=1)


def tries_clusters(config: PackedConfig, streams: int) -> bool:
    """Whether "auto" looks for clusters. One stream of a model that gives a block of the largest cluster more than 16
    units is faster on all multiprocessors."""
    return streams > 1 or config.dim <= _UNITS_ALONE * _CLUSTER_BLOCKS[0]


def cluster_grouping(streams: int, blocks: int, clusters: int, shared_bytes: int) -> Grouping:
    """Groups that are clusters of `blocks` blocks, on a GPU that holds `clusters` of them at a time."""
    together = -(-streams // clusters)
    teams = block_teams(together, "cluster", shared_bytes)
    return Grouping(together, -(-streams // together), blocks, "cluster", teams)


def cluster_groupings(
    config: PackedConfig, dtype: str, streams: int, multiprocessors: int, shared_bytes: int
) -> list[Grouping]:
    """The ways to make streams by thread block clusters side by side, as `in_order_of_clusters` sorts them.

    There is none where the matrices that every sample or frame reads do not fit into a cluster's shared memory. How
    many clusters a GPU has room for, and whether the other arrays fit too, only the compiled kernel tells.
    """
    found = [
        cluster_grouping(streams, blocks, multiprocessors // blocks, shared_bytes)
        for blocks in _cluster_sizes(config, dtype, shared_bytes)
        if blocks <= multiprocessors
    ]
    return in_order_of_clusters(found)


def _cluster_sizes(config: PackedConfig, dtype: str, shared_bytes: int) -> list[int]:
    """The sizes of clusters whose blocks share the units evenly and can hold what must stay, the largest first."""
    return [
        blocks
        for blocks in _CLUSTER_BLOCKS
        if blocks == grid_blocks(config.dim, blocks) and resident_bytes(config, dtype) <= blocks * shared_bytes
    ]


def in_order_of_clusters(groups: list[Grouping]) -> list[Grouping]:
    """Sorts by the streams of a cluster, fewest first, then by its size, largest first; leaves out too many streams."""
    fitting = [group for group in groups if group.batch <= _STREAMS_OF_A_CLUSTER]
    return sorted(fitting, key=lambda group: (group.batch, -group.blocks))


def resident_bytes(config: PackedConfig, dtype: str) -> int:
    """The bytes of matrices that a cluster must hold: those of the MLP, the recurrent ones and the lowest upsampling.

    csrc/cuda/device/memory.cuh decides which other matrices of the tiers stay in shared memory.
    """
    kept = ("mlp.", "tier0.up")
    return _bytes_of(config, dtype, lambda name: name.startswith(kept) or name.endswith(".recurrent"))


def cluster_has_room(
    group: Grouping, config: PackedConfig, dtype: str, needed: int, kept: int, shared_bytes: int
) -> bool:
    """Returns whether the blocks of a cluster have room for all their arrays, and for the matrices that must stay.

    needed, kept: the shared memory of a block and what it keeps of whole matrices, as its compiled kernel tells.
    """
    return needed <= shared_bytes and kept * group.blocks >= resident_bytes(config, dtype)


def product_bytes(config: PackedConfig, dtype: str) -> int:
    """The bytes of all matrices in a numeric mode."""
    return _bytes_of(config, dtype, lambda name: True)


def _bytes_of(config: PackedConfig, dtype: str, wanted: Callable[[str], bool]) -> int:
    matrices = [field for field in layout(config) if is_matrix(field.name) and wanted(field.name)]
    return int(WEIGHT_BYTES[dtype] * sum(math.prod(field.shape) for field in matrices))

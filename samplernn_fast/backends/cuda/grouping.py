"""How streams and blocks of a launch are shared out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.modes import WEIGHT_BYTES
from samplernn_fast.reference.weights import is_matrix, layout

_CLUSTER_BLOCKS = (16, 8, 4)
_STREAMS_OF_A_CLUSTER = 8  # the buffers of exchanges, in every block's shared memory, grow with them


def grid_blocks(dim: int, most: int) -> int:
    """Blocks that share out `dim` units evenly, at most `most` and none of them idle."""
    return -(-dim // -(-dim // most))


@dataclass(frozen=True)
class Grouping:
    """How streams and blocks are shared out: each of `groups` has `blocks` blocks, which make `batch` streams. With
    "roles" those of the one group are heads, for which `helpers` more make products."""

    batch: int
    groups: int
    blocks: int
    exchange: str
    helpers: int = 0

    @property
    def launched(self) -> int:
        """Blocks of a launch: as many as clusters of `blocks` blocks have."""
        return (self.groups + -(-self.helpers // self.blocks)) * self.blocks


def grouping(
    config: SampleRNNConfig, dtype: str, streams: int, multiprocessors: int, shared_bytes: int, exchange: str
) -> Grouping:
    """All blocks make all streams together, by the exchange that is asked for. By "auto" that is "tagged"; but a model
    whose matrices fit into the shared memory of one block then has groups of one, which wait for nobody, as many as
    there are multiprocessors. Together they may make streams more than are asked for. See `cluster_groupings` for what
    lies between."""
    if exchange != "auto" or product_bytes(config, dtype) > shared_bytes:
        shared_out = "tagged" if exchange == "auto" else exchange
        return Grouping(streams, 1, grid_blocks(config.dim, multiprocessors), shared_out)
    together = -(-streams // multiprocessors)
    return Grouping(together, -(-streams // together), 1, "alone")


def cluster_grouping(streams: int, blocks: int, clusters: int) -> Grouping:
    """Groups that are clusters of `blocks` blocks, of which a GPU holds so many at a time."""
    together = -(-streams // clusters)
    return Grouping(together, -(-streams // together), blocks, "cluster")


def cluster_groupings(
    config: SampleRNNConfig, dtype: str, streams: int, multiprocessors: int, shared_bytes: int
) -> list[Grouping]:
    """Ways to make streams by thread block clusters side by side, `in_order_of_clusters`. None where the matrices that
    every sample or frame reads do not fit into a cluster's shared memory.

    How many clusters there is room for, and whether the other arrays fit beside the matrices, the kernel tells."""
    found = [
        cluster_grouping(streams, blocks, multiprocessors // blocks)
        for blocks in _cluster_sizes(config, dtype, shared_bytes, "cluster")
        if blocks <= multiprocessors
    ]
    return in_order_of_clusters(found)


def _cluster_sizes(config: SampleRNNConfig, dtype: str, shared_bytes: int, exchange: str) -> list[int]:
    """Blocks of a cluster that share out the units evenly and have room for what must stay, the largest first."""
    return [
        blocks
        for blocks in _CLUSTER_BLOCKS
        if blocks == grid_blocks(config.dim, blocks)
        and resident_bytes(config, dtype, exchange) <= blocks * shared_bytes
    ]


def in_order_of_clusters(groups: list[Grouping]) -> list[Grouping]:
    """The fewest streams of one cluster first, then the largest cluster; without those of too many streams."""
    fitting = [group for group in groups if group.batch <= _STREAMS_OF_A_CLUSTER]
    return sorted(fitting, key=lambda group: (group.batch, -group.blocks))


def role_grouping(dim: int, streams: int, heads: int, clusters: int) -> Grouping:
    """One cluster of heads, and helpers in the other clusters of a GPU that holds so many, 2 or more."""
    return Grouping(streams, 1, heads, "roles", grid_blocks(dim, (clusters - 1) * heads))


def role_groupings(
    config: SampleRNNConfig, dtype: str, streams: int, multiprocessors: int, shared_bytes: int
) -> list[Grouping]:
    """Ways to have roles (csrc/cuda/device/roles.cuh), the most heads first. None for many streams or where the heads'
    shared memory cannot hold the MLP."""
    return [
        role_grouping(config.dim, streams, heads, multiprocessors // heads)
        for heads in _cluster_sizes(config, dtype, shared_bytes, "roles")
        if multiprocessors // heads > 1 and streams <= _STREAMS_OF_A_CLUSTER
    ]


def resident_bytes(config: SampleRNNConfig, dtype: str, exchange: str = "cluster") -> int:
    """Bytes of matrices that a cluster must keep: as many as the MLP has, and unless others make their products the
    recurrent ones and the lowest upsampling. Which of the tiers' stay, csrc/cuda/device/memory.cuh decides."""
    if exchange == "roles":
        return _bytes_of(config, dtype, lambda name: name.startswith("mlp."))
    kept = ("mlp.", "tier0.up")
    return _bytes_of(config, dtype, lambda name: name.startswith(kept) or name.endswith(".recurrent"))


def product_bytes(config: SampleRNNConfig, dtype: str) -> int:
    """Bytes of all matrices of products in a numeric mode."""
    return _bytes_of(config, dtype, lambda name: True)


def _bytes_of(config: SampleRNNConfig, dtype: str, wanted: Callable[[str], bool]) -> int:
    matrices = [field for field in layout(config) if is_matrix(field.name) and wanted(field.name)]
    return WEIGHT_BYTES[dtype] * sum(math.prod(field.shape) for field in matrices)

"""What the persistent CUDA kernel is built from: its defines, and the block of weights it reads.

`csrc/cuda/params.h` is the contract; sizes of buffers are worked out by the compiled text and exported with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.weights import PackedWeights, is_matrix, layout, packed_hidden

MODES: tuple[str, ...] = ("float32", "bfloat16", "int8")
"""Numeric modes, by SRNN_MODE."""
EXCHANGES: tuple[str, ...] = ("counters", "tagged", "alone", "cluster", "launches", "roles")
"""How blocks tell each other their results, by SRNN_EXCHANGE; "alone" is for groups of one block, "cluster" for groups
that are thread block clusters, "launches" for one kernel a stage (`cuda_stages`), "roles" for one cluster that makes
samples while all other blocks make the tiers' products."""
CHOICES: tuple[str, ...] = ("auto", *(name for name in EXCHANGES if name != "alone"))
"""What may be asked for: "auto", which knows when blocks are better "alone", or an exchange by its name."""
COMPILE_OPTIONS: tuple[str, ...] = ("--std=c++17", "--fmad=false")
"""Without `--fmad=false` the numbers that must be equal on every machine are not."""
MAX_STEPS = 1 << 24
"""Samples of one launch at most."""

_ALIGNMENT = 256
_ROW_BYTES = 16
_CODE_LIMIT = 127
_READERS_OF_A_COPY = 16
_STREAMS_WITH_COPIES = 8
_CLUSTER_BLOCKS = (16, 8, 4)
_STREAMS_OF_A_CLUSTER = 8  # the buffers of exchanges, in every block's shared memory, grow with them


def grid_blocks(dim: int, most: int) -> int:
    """Blocks that share out `dim` units evenly, at most `most` and none of them idle."""
    return -(-dim // -(-dim // most))


def packet_copies(batch: int, readers: int) -> int:
    """Copies of every packet: many blocks that read one cache line at once wait for each other, and with few streams
    copies cost little. Not yet measured on a GPU."""
    return -(-readers // _READERS_OF_A_COPY) if batch <= _STREAMS_WITH_COPIES else 1


def defines(
    config: SampleRNNConfig,
    dtype: str,
    batch: int,
    blocks: int,
    threads: int,
    shared_bytes: int,
    exchange: str,
    groups: int = 1,
    copies: int | None = None,
    profile: bool = False,
    helpers: int = 0,
) -> dict[str, str]:
    """The compile-time constants of params.h.

    batch: streams of one group; blocks: of a group, as `grid_blocks` gives it; threads: of a block, a multiple of 32;
    shared_bytes: what a block may have at most, as the device says; groups: that one launch makes side by side;
    copies: of every packet, None for what suits the number of readers; profile: whether the first block adds up the
    time of its stages; helpers: blocks beside the group that make products, as `grid_blocks` gives it, for "roles".
    """
    assert blocks == grid_blocks(config.dim, blocks) and threads % 32 == 0, (blocks, threads)
    assert blocks == 1 or exchange != "alone", blocks
    assert (helpers > 0) == (exchange == "roles"), helpers
    readers = {"tagged": blocks, "roles": helpers}.get(exchange, 0)
    numbers = {
        "DIM": config.dim,
        "Q": config.q_levels,
        "N_RNN": config.n_rnn,
        "TAPS": config.frame_sizes[0],
        "TIERS": len(config.ratios),
        "HIDDEN": packed_hidden(config),
        "LSTM": int(config.rnn == "lstm"),
        "RESET_AFTER": int(config.reset_after),
        "SKIPS": int(config.skip != "none"),
        "READERS_ALL": int(config.skip == "full"),
        "MODE": MODES.index(dtype),
        "BATCH": batch,
        "GROUPS": groups,
        "THREADS": threads,
        "BLOCKS": blocks,
        "SHARED_BYTES": shared_bytes,
        "EXCHANGE": EXCHANGES.index(exchange),
        "PROFILE": int(profile),
        "HELPERS": helpers,
        "COPIES": copies or (packet_copies(batch, readers) if readers else 1),
    }
    texts = {name: str(number) for name, number in numbers.items()}
    texts["FRAME_SIZES"] = ",".join(map(str, config.frame_sizes[1:]))
    return {f"SRNN_{name}": text for name, text in texts.items()}


def exchange_names(config: SampleRNNConfig) -> list[str]:
    """The exchanges by the number that an error word gives them."""
    tiers, layers = range(len(config.ratios)), range(config.n_rnn)
    names = [f"hidden state of tier {tier}, layer {layer}" for tier in tiers for layer in layers]
    names += [f"reset state of tier {tier}, layer {layer}" for tier in tiers for layer in layers]
    names += [f"output of tier {tier}" for tier in tiers]
    names += [f"input of MLP layer {layer}" for layer in range(packed_hidden(config) + 1)]
    names += ["logits", "levels"]
    for product in ("recurrent product", "candidate product", "product with the layer below"):
        names += [f"{product} of tier {tier}, layer {layer}" for tier in tiers for layer in layers]
    return names + [f"{product} of tier {tier}" for product in ("skip product", "upsampling") for tier in tiers]


def stage_names(config: SampleRNNConfig) -> list[str]:
    """The stages of a launch by their row in `Params::profile`; the row behind them is of the whole launch."""
    tiers = range(len(config.ratios))
    names = [f"layers of tier {tier}" for tier in tiers] + [f"what tier {tier} gives" for tier in tiers]
    names += ["made ahead", "input of the MLP", *(f"hidden layer {layer}" for layer in range(packed_hidden(config)))]
    return names + ["output layer", "draw", "loading and saving"]


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
    size = {"float32": 4, "bfloat16": 2, "int8": 1}[dtype]
    matrices = [field for field in layout(config) if is_matrix(field.name) and wanted(field.name)]
    return size * sum(math.prod(field.shape) for field in matrices)


def pack_weights(weights: PackedWeights, dtype: str) -> Tensor:
    """The block of weights in a numeric mode: (bytes,) uint8 on the CPU, as `Params::weights` describes it."""
    parts: list[Tensor] = []
    for field in layout(weights.config):
        tensor = weights[field.name].float()
        if is_matrix(field.name):
            parts += _matrix(tensor.flatten(0, -2), dtype)
        else:
            parts.append(tensor)
    return torch.cat([_padded(part.contiguous().view(-1).view(torch.uint8), _ALIGNMENT) for part in parts])


def _padded(x: Tensor, unit: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % unit))


def _matrix(rows: Tensor, dtype: str) -> list[Tensor]:
    """A matrix in the mode's format, and in int8 the scale of every row."""
    if dtype == "float32":
        return [_padded(rows, _ROW_BYTES // 4)]
    if dtype == "bfloat16":
        return [_padded(rows.bfloat16(), _ROW_BYTES // 2)]
    codes, scales = quantise_rows(rows)
    return [_padded(codes, _ROW_BYTES), scales]


def quantise_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes -127, ..., 127 (rows, cols) int8 and a scale (rows,) for each row, by the float32 steps of
    csrc/cpu/int8.h, so that both engines have the same ones. A row that is not finite has codes 0 and the scale NaN."""
    peak = rows.abs().amax(dim=1)
    finite = torch.isfinite(rows).all(dim=1)
    peak = torch.where(finite, peak, 0.0)
    limit = torch.tensor(float(_CODE_LIMIT), dtype=torch.float32)
    per_unit = torch.where(peak > 1e-30, limit / peak, 0.0)
    scaled = torch.where(finite[:, None], rows, 0.0) * per_unit[:, None]
    codes = (scaled + torch.where(scaled < 0, -0.5, 0.5)).trunc().to(torch.int8)
    return codes, torch.where(finite, peak / limit, torch.nan)

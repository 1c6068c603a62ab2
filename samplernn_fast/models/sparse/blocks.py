"""Block-sparse matrices: which matrices of a sparse model have blocks, and how many of them stay.

A block is 8 outputs by 4 inputs of a packed matrix, which is one vector of the processor in int8. A matrix (..., O, K)
is a stack of units of D outputs each, one for each gate of a layer or of an upsampling, and the outputs of a unit form
groups of eight. Every group of a unit keeps the same number of blocks, so that threads which own groups have equal
work. Blocks reach over the edge of a matrix whose sizes they do not divide; what lies outside is zero.

Letters: D dim, O outputs, K inputs, U units, R groups of a unit, C blocks of a group. This is NumPy.
"""

import math
from collections.abc import Mapping

import numpy as np

from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layout import OUTPUT, Field, is_matrix, layout

OUTPUTS, INPUTS = 8, 4
"""The size of a block."""
CANDIDATE = 2
"""The gate that proposes new values: n of a GRU, g of an LSTM. The other gates are sigmoids, and need fewer weights."""
CANDIDATE_SHARE = 2.0
"""How many times as many blocks the candidate has as another gate. LPCNet has four times as many; here four times was a
little worse than as many."""


def sparse_fields(config: SparseSampleRNNConfig) -> list[Field]:
    """The packed matrices that have blocks: all but the output layer."""
    return [one for one in layout(config) if is_matrix(one.name) and one.name != OUTPUT]


def grid(shape: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """(U, R, C) of a packed matrix of this shape."""
    return math.prod(shape[:-1]) // dim, -(-dim // OUTPUTS), -(-shape[-1] // INPUTS)


def to_blocks(matrix: np.ndarray, dim: int) -> np.ndarray:
    """A packed matrix as blocks (U, R, C, 8, 4), with zeros outside."""
    units, groups, columns = grid(matrix.shape, dim)
    rows = matrix.reshape(units, dim, -1)
    padding = ((0, 0), (0, groups * OUTPUTS - dim), (0, columns * INPUTS - matrix.shape[-1]))
    return np.pad(rows, padding).reshape(units, groups, OUTPUTS, columns, INPUTS).swapaxes(2, 3)


def from_blocks(blocks: np.ndarray, shape: tuple[int, ...], dim: int) -> np.ndarray:
    """The packed matrix of this shape that has these blocks (U, R, C, 8, 4)."""
    units, groups, columns = blocks.shape[:3]
    rows = blocks.swapaxes(2, 3).reshape(units, groups * OUTPUTS, columns * INPUTS)
    return np.ascontiguousarray(rows[:, :dim, : shape[-1]]).reshape(shape)


def block_share(config: SparseSampleRNNConfig, arrays: Mapping[str, np.ndarray]) -> float:
    """The share of blocks that are not zero, of all matrices together. A model whose pruning ended early has more of
    them than its density says."""
    present = total = 0
    for one in sparse_fields(config):
        left = (to_blocks(arrays[one.name], config.dim) != 0).any(axis=(3, 4))
        present, total = present + int(left.sum()), total + left.size
    return present / total


def is_gated(name: str) -> bool:
    """Whether the units of a packed matrix are gates; otherwise each of them is a map of its own."""
    field = name.split(".")[-1]
    return field in ("recurrent", "stack") or (field == "up" and not name.startswith("tier0."))


def kept(config: SparseSampleRNNConfig, field: Field, density: float) -> np.ndarray:
    """How many blocks each group of a unit keeps, (U,), where a share of `density` of the matrix's blocks stays.

    The candidate keeps more than the other gates, as in LPCNet. There is at least one block, and a recurrent matrix has
    at least its diagonal.
    """
    units, _, columns = grid(field.shape, config.dim)
    shares = np.full(units, density)
    if is_gated(field.name):
        gates = config.gates
        other = gates * density / (gates - 1 + CANDIDATE_SHARE)
        candidate = min(1.0, CANDIDATE_SHARE * other)
        shares[:] = (gates * density - candidate) / (gates - 1)
        shares[CANDIDATE::gates] = candidate
    least = -(-min(OUTPUTS, config.dim) // INPUTS) if _is_recurrent(field) else 1
    return np.clip(np.rint(shares * columns).astype(int), min(least, columns), columns)


def on_diagonal(config: SparseSampleRNNConfig, field: Field) -> np.ndarray:
    """Which blocks (U, R, C) of a recurrent matrix hold a unit's weight to itself; none of another matrix."""
    units, groups, columns = grid(field.shape, config.dim)
    diagonal = np.zeros((groups, columns), bool)
    if _is_recurrent(field):
        at = np.arange(config.dim)
        diagonal[at // OUTPUTS, at // INPUTS] = True
    return np.broadcast_to(diagonal, (units, groups, columns))


def _is_recurrent(field: Field) -> bool:
    return field.name.endswith(".recurrent")

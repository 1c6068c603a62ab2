"""How a file stores block-sparse matrices: the blocks that are not zero, and where they lie.

A matrix NAME becomes three arrays. `NAME.counts` (U R,) says how many blocks each group of eight outputs has, one group
behind the other; `NAME.columns` (N,) where they lie among the group's blocks, ascending; `NAME.blocks` (N, 8, 4) what
they hold. Every group has at least as many blocks as the model's density means, so that the size of a file bounds the
memory that its model takes, at some hundred times as much where the density is a hundredth. The letters are those of
`models.sparse.blocks`. This is NumPy.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.config import SparseSampleRNNConfig
from samplernn_fast.models.layout import Field
from samplernn_fast.models.sparse.blocks import INPUTS, OUTPUTS, from_blocks, grid, kept, sparse_fields, to_blocks

INDEX_TYPE = "I32"
"""How safetensors names the type of counts and columns."""


class Names(NamedTuple):
    """The names of a matrix's three arrays."""

    counts: str
    columns: str
    blocks: str

    @classmethod
    def of(cls, name: str) -> "Names":
        """Those of the matrix `name`."""
        return cls(*(f"{name}.{part}" for part in cls._fields))


def encoded(config: SparseSampleRNNConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A sparse model's arrays as a file has them, its matrices as blocks."""
    found = dict(arrays)
    for one in sparse_fields(config):
        blocks, names = to_blocks(found.pop(one.name), config.dim), Names.of(one.name)
        present = (blocks != 0).any(axis=(3, 4))
        # A group that has fewer blocks than its share, because one came to be zero, is filled up with its first ones.
        counts = np.maximum(present.sum(axis=2), kept(config, one, config.density)[:, None])
        rank = np.argsort(np.argsort(~present, axis=2, kind="stable"), axis=2)
        stored = rank < counts[..., None]
        found[names.counts] = counts.astype(np.int32).ravel()
        found[names.columns] = np.nonzero(stored)[2].astype(np.int32)
        found[names.blocks] = blocks[stored]
    return found


def whole_shapes(
    config: SparseSampleRNNConfig, stored: Mapping[str, tuple[int, ...]], source: object
) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's arrays, from those of the arrays in a file, of which no values were read yet.

    Raises CheckpointError, which begins with `source`, for blocks that are none of the model's, or too few of them.
    """
    found = dict(stored)
    for one in sparse_fields(config):
        names = Names.of(one.name)
        shapes = [found.pop(name, None) for name in names]
        if all(shape is None for shape in shapes):
            continue
        if one.name in found:
            raise CheckpointError(f"{source}: tensor {one.name} is stored twice, whole and as blocks")
        counts, columns, blocks = shapes
        units, groups, _ = grid(one.shape, config.dim)
        if counts != (units * groups,):
            raise CheckpointError(f"{source}: tensor {names.counts} must be {(units * groups,)}, found {counts}")
        if columns is None or len(columns) != 1 or blocks != (*columns, OUTPUTS, INPUTS):
            raise CheckpointError(f"{source}: tensor {names.blocks} must have a block for each of {names.columns}")
        least = groups * int(kept(config, one, config.density).sum())
        if columns[0] < least:
            raise CheckpointError(
                f"{source}: tensor {one.name} must have at least {least} blocks at its density, found {columns[0]}"
            )
        found[one.name] = one.shape
    return found


def decoded(config: SparseSampleRNNConfig, arrays: Mapping[str, np.ndarray], source: object) -> dict[str, np.ndarray]:
    """A model's arrays, from what a file has, whose shapes `whole_shapes` has seen. Matrices that are stored whole, as
    training checkpoints have them, stay as they are. Raises CheckpointError as `whole_shapes`."""
    found = dict(arrays)
    for one in sparse_fields(config):
        if one.name not in found:
            parts = [found.pop(name) for name in Names.of(one.name)]
            found[one.name] = _matrix(config, one, parts, source)
    return found


def _matrix(config: SparseSampleRNNConfig, field: Field, parts: Sequence[np.ndarray], source: object) -> np.ndarray:
    """A matrix from its counts, columns and blocks. Raises CheckpointError for values that no matrix has."""
    names, (counts, columns, values) = Names.of(field.name), parts
    units, groups, width = grid(field.shape, config.dim)
    for name, array in ((names.counts, counts), (names.columns, columns)):
        if array.dtype != np.int32:
            raise CheckpointError(f"{source}: tensor {name} must hold 32-bit whole numbers")
    least = np.repeat(kept(config, field, config.density), groups)
    if (counts < least).any() or counts.sum(dtype=np.int64) != len(columns):
        raise CheckpointError(f"{source}: tensor {names.counts} says other numbers of blocks than there are")
    group = np.repeat(np.arange(len(counts)), counts)
    ascending = (np.diff(columns) > 0) | (np.diff(group) > 0)
    if ((columns < 0) | (columns >= width)).any() or not ascending.all():
        raise CheckpointError(f"{source}: tensor {names.columns} must ascend below {width} in every group")
    blocks = np.zeros((units * groups, width, OUTPUTS, INPUTS), values.dtype)
    blocks[group, columns] = values
    return from_blocks(blocks.reshape(units, groups, width, OUTPUTS, INPUTS), field.shape, config.dim)

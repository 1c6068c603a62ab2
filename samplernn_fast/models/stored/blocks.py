"""How a file stores block-sparse matrices: the blocks that are not zero, and where they lie.

A matrix NAME becomes three arrays. `NAME.counts` (U R,) says how many blocks each group of eight outputs has, one group
behind the other; `NAME.columns` (N,) where they lie among the group's blocks, ascending; `NAME.blocks` (N, 8, 4) what
they hold. The letters are those of `models.sparse.blocks`. This is NumPy.
"""

from collections.abc import Mapping

import numpy as np

from samplernn_fast.errors import CheckpointError
from samplernn_fast.models.config import AudioConfig, SparseSampleRNNConfig
from samplernn_fast.models.sparse.blocks import INPUTS, OUTPUTS, from_blocks, grid, sparse_fields, to_blocks

_COUNTS, _COLUMNS, _BLOCKS = "counts", "columns", "blocks"
INDEX_TYPE = "I32"
"""How safetensors names the type of counts and columns."""


def encoded(config: SparseSampleRNNConfig, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A sparse model's arrays as a file has them, its matrices as blocks."""
    found = dict(arrays)
    for one in sparse_fields(config):
        blocks = to_blocks(found.pop(one.name), config.dim)
        present = (blocks != 0).any(axis=(3, 4))
        _, _, columns = np.nonzero(present)
        found[f"{one.name}.{_COUNTS}"] = present.sum(axis=2, dtype=np.int32).ravel()
        found[f"{one.name}.{_COLUMNS}"] = columns.astype(np.int32)
        found[f"{one.name}.{_BLOCKS}"] = blocks[present]
    return found


def decoded(config: AudioConfig, arrays: Mapping[str, np.ndarray], source: object) -> dict[str, np.ndarray]:
    """A model's arrays, from what a file has. Matrices that are stored whole, as training checkpoints have them, stay
    as they are. Raises CheckpointError, which begins with `source`, for blocks that are none of the model's."""
    found = dict(arrays)
    if not isinstance(config, SparseSampleRNNConfig):
        return found
    for one in sparse_fields(config):
        names = [f"{one.name}.{part}" for part in (_COUNTS, _COLUMNS, _BLOCKS)]
        if not all(name in found for name in names):
            continue
        counts, places, values = (found.pop(name) for name in names)
        units, groups, columns = grid(one.shape, config.dim)
        if counts.shape != (units * groups,) or counts.dtype != np.int32 or places.dtype != np.int32:
            raise CheckpointError(f"{source}: tensor {names[0]} must be ({units * groups},) of 32-bit whole numbers")
        total = int(counts.sum(dtype=np.int64)) if (counts >= 0).all() else -1
        if places.shape != (total,) or values.shape != (total, OUTPUTS, INPUTS):
            raise CheckpointError(f"{source}: tensor {one.name} has other blocks than its counts say")
        group = np.repeat(np.arange(len(counts)), counts)
        later = np.diff(places) > 0
        if ((places < 0) | (places >= columns)).any() or not (later | (np.diff(group) > 0)).all():
            raise CheckpointError(f"{source}: tensor {names[1]} must ascend below {columns} in every group")
        blocks = np.zeros((units * groups, columns, OUTPUTS, INPUTS), values.dtype)
        blocks[group, places] = values
        matrix = from_blocks(blocks.reshape(units, groups, columns, OUTPUTS, INPUTS), one.shape, config.dim)
        found[one.name] = matrix
    return found

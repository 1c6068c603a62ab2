"""The weights as the CUDA kernels read them: one block of bytes in a numeric mode."""

import torch
from torch import Tensor

from samplernn_fast.models.layout import is_matrix, layout
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import quantize_rows

_ALIGNMENT = 256  # the bytes to which every part of the block is padded
_ROW_BYTES = 16  # the bytes to which every row of a matrix is padded: one access of a thread


def pack_weights(weights: PackedWeights, dtype: str) -> Tensor:
    """The block of weights in a numeric mode: (bytes,) uint8 on the CPU, as `Params::weights` describes it."""
    parts: list[Tensor] = []
    arrays = weights.float32()
    for field in layout(weights.config):
        tensor = torch.from_numpy(arrays[field.name])
        if is_matrix(field.name):
            parts += _matrix(tensor.flatten(0, -2), dtype)
        else:
            parts.append(tensor)
    return torch.cat([_padded(part.contiguous().view(-1).view(torch.uint8), _ALIGNMENT) for part in parts])


def _padded(x: Tensor, unit: int) -> Tensor:
    """Pads the last dimension with zeros to a multiple of `unit`."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % unit))


def _matrix(rows: Tensor, dtype: str) -> list[Tensor]:
    """A matrix in the mode's format, and in int8 the scale of every row."""
    if dtype == "float32":
        return [_padded(rows, _ROW_BYTES // 4)]
    if dtype == "bfloat16":
        return [_padded(rows.bfloat16(), _ROW_BYTES // 2)]
    codes, scales = (torch.from_numpy(part) for part in quantize_rows(rows.numpy()))
    return [_padded(codes, _ROW_BYTES), scales]

"""What the numeric modes of the cpu backend compute, said a second time: the reference in float64, step by step, with
the matrix products of the mode. An engine gives these logits but for its own rounding in float32; a number that this
moves over the edge between two codes of an input is the only larger difference."""

from collections.abc import Mapping
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from samplernn_fast.importing.parity import step_logits
from samplernn_fast.reference import backend as reference_backend
from samplernn_fast.reference import cells
from samplernn_fast.reference.backend import ReferenceBackend
from samplernn_fast.reference.folding import PackedWeights
from samplernn_fast.reference.modes import FourBits
from samplernn_fast.reference.weights import DeviceWeights

WEIGHT_LIMIT, INPUT_LIMIT, SUM_LIMIT = 127, 8191, 2**31 - 1


def mode_logits(
    weights: PackedWeights, mode: str, levels: Tensor, four_bits: Mapping[str, FourBits] | None = None
) -> Tensor:
    """Teacher-forced logits (B, T, Q) of levels (B, L + T), in float64, as `mode` defines them. four_bits: for int4."""
    backend = ReferenceBackend(_rounded(weights), "cpu", "float64")
    product = _Product(backend.weights, mode, four_bits or {})
    with mock.patch.object(reference_backend, "linear", product), mock.patch.object(cells, "linear", product):
        with torch.inference_mode():
            return step_logits(backend, levels)


def _rounded(weights: PackedWeights) -> PackedWeights:
    """The weights as an engine has them, every part of which is rounded once to float32."""
    arrays = {name: array.astype(np.float32) for name, array in weights.arrays.items()}
    sums = {name: (own.astype(np.float32), added.astype(np.float32)) for name, (own, added) in weights.sums.items()}
    return PackedWeights(weights.config, arrays, sums)


def codes(x: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Rows (..., n) -> whole numbers up to +-limit, halves away from 0, and the scale (..., 1) of each row."""
    x = x.float()
    peak = x.abs().amax(dim=-1, keepdim=True)
    scaled = x * torch.where(peak > 1e-30, limit / peak, 0)
    return torch.trunc(scaled + torch.copysign(torch.tensor(0.5), scaled)).double(), (peak / limit).double()


class _Product:
    """`linear` of a numeric mode. What the samples of a frame add is float in every mode."""

    def __init__(self, weights: DeviceWeights, mode: str, four_bits: Mapping[str, FourBits]) -> None:
        self.mode = mode
        self.four_bits = [(weights[name].data_ptr(), one) for name, one in four_bits.items()]
        self.plain = {tensor.data_ptr() for name, tensor in weights.tensors.items() if name.endswith(".frame")}
        self.rounded: dict[tuple[int, torch.Size], tuple[Tensor, Tensor]] = {}

    def __call__(self, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.mode == "float32" or w.data_ptr() in self.plain:
            return linear(x, w, bias)
        key = (w.data_ptr(), w.shape)
        if key not in self.rounded:
            self.rounded[key] = self._of_four_bits(w) or self._round(w, WEIGHT_LIMIT)
        rounded, scale = self.rounded[key]
        inputs, input_scale = self._round(x, min(INPUT_LIMIT, SUM_LIMIT // WEIGHT_LIMIT // w.shape[1]))
        y = linear(inputs, rounded) * input_scale * scale.T
        return y if bias is None else y + bias

    def _of_four_bits(self, w: Tensor) -> tuple[Tensor, Tensor] | None:
        """The whole numbers and scales of a matrix, or of some of its rows, that has four bits."""
        for first, one in self.four_bits:
            row, beyond = divmod(w.data_ptr() - first, w.element_size() * w.shape[1])
            if 0 <= row < len(one.codes) and one.codes.shape[1] == w.shape[1]:
                assert beyond == 0 and row + len(w) <= len(one.codes)
                rows = slice(row, row + len(w))
                numbers = one.codes.astype(np.float64) * np.repeat(one.factors, 32, axis=1)[:, : w.shape[1]]
                return torch.from_numpy(numbers[rows]), torch.from_numpy(one.scales[rows, None].astype(np.float64))
        return None

    def _round(self, x: Tensor, limit: int) -> tuple[Tensor, Tensor]:
        if self.mode in ("int8", "int4"):
            return codes(x, limit)
        return x.float().bfloat16().double(), torch.ones(x.shape[0], 1, dtype=torch.float64)

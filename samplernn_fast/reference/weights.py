"""Packed weights and other arrays as torch has them: on a device, in a dtype. `folding` makes the weights, `layout` has
their names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samplernn_fast.models.checkpoint import arrays_of
from samplernn_fast.models.config import PackedConfig
from samplernn_fast.models.layout import Hidden
from samplernn_fast.models.registry import PackedModel
from samplernn_fast.reference.folding import PackedWeights, fold


def pack(model: PackedModel) -> PackedWeights:
    """Fold a torch model's weights. Errors as `fold`."""
    return fold(arrays_of(model))


@dataclass(frozen=True)
class DeviceWeights:
    """Read-only and shareable between threads. `tensors` follow `layout(config)`."""

    config: PackedConfig
    tensors: dict[str, Tensor]
    sums: dict[str, tuple[Tensor, Tensor]]
    """The two parts of each `input_bias` of a tier, as in `PackedWeights`."""

    @classmethod
    def of(cls, weights: PackedWeights, device: torch.device | str, dtype: torch.dtype) -> "DeviceWeights":
        """The weights on a device, rounded once to a dtype; a sum of biases is taken of its rounded parts, as in
        `PackedWeights.float32`."""
        tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in weights.arrays.items()}
        sums = {
            name: (torch.tensor(own, dtype=dtype, device=device), torch.tensor(added, dtype=dtype, device=device))
            for name, (own, added) in weights.sums.items()
        }
        tensors |= {name: own + added for name, (own, added) in sums.items()}
        return cls(weights.config, tensors, sums)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def gate_bias(self, tier: int) -> Tensor:
        """(n, G D): the bias of a tier's gates without what the tier above adds."""
        return self._parts(tier)[0][0]

    def upsample_bias(self, tier: int) -> Tensor:
        """(r, O): the bias with which a tier is upsampled (Eq. 6), through what reads it below."""
        if tier == 0:
            return self.tensors["mlp.input_bias"]
        return self._parts(tier - 1)[1][:, : self.config.readers].flatten(1)

    def _parts(self, tier: int) -> tuple[Tensor, Tensor]:
        """The two parts of a tier's `input_bias`."""
        return self.sums[f"tier{tier}.input_bias"]


def as_tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    """An array as a tensor on a device. On the CPU it is the same memory, or a copy where the array is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


@contextmanager
def moved(hidden: Hidden, device: torch.device | str) -> Iterator[list[Tensor]]:
    """The hidden state as tensors on a device, which calls advance in place or exchange; afterwards `hidden` has what
    they hold."""
    states = [as_tensor(array, device) for array in hidden]
    yield states
    for array, state in zip(hidden, states, strict=True):
        advanced = state.detach().cpu().numpy()
        if not np.shares_memory(array, advanced):
            array[...] = advanced

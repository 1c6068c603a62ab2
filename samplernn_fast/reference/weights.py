"""Packed weights and other arrays as torch has them: on a device, in a dtype. `folding` makes the weights, `layout` has
their names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

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
    """An array as a tensor on a device. On the CPU it is the same memory, or a copy where the array is read-only.

    Where every row repeats one number (`np.broadcast_to`), only that number is copied, and the tensor repeats it too.
    """
    if array.ndim > 1 and array.shape[-1] > 1 and array.strides[-1] == 0:
        return as_tensor(array[..., :1], device).expand(array.shape)
    return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)


def as_tensors(hidden: Hidden, device: torch.device | str, dtype: type[np.floating]) -> list[Tensor]:
    """A hidden state as tensors on a device. Those that are there are taken as they are."""
    entries = cast("list[np.ndarray | Tensor]", hidden)
    tensors = (one if isinstance(one, Tensor) else as_tensor(np.ascontiguousarray(one), device) for one in entries)
    return [one.to(device, getattr(torch, np.dtype(dtype).name)) for one in tensors]


@contextmanager
def moved(hidden: Hidden, device: torch.device | str) -> Iterator[list[Tensor]]:
    """The hidden state as tensors on a device, which calls advance in place or exchange; afterwards `hidden` has what
    they hold: its arrays are changed, its tensors replaced."""
    entries = cast("list[np.ndarray | Tensor]", hidden)
    states = [one.to(device, copy=True) if isinstance(one, Tensor) else as_tensor(one, device) for one in entries]
    yield states
    if any(state.is_cuda for state in states):  # Whoever goes on from them may do so on another CUDA stream.
        torch.cuda.current_stream(device).synchronize()
    for tier, (one, state) in enumerate(zip(list(entries), states, strict=True)):
        if isinstance(one, Tensor):
            entries[tier] = state
            continue
        advanced = state.detach().cpu().numpy()
        if not np.shares_memory(one, advanced):
            one[...] = advanced

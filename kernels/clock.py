"""What kernels read from device memory, so that one CUDA graph serves every call: the time, a seed, settings."""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.reference import draw

# Fields of the clock, an int64 array: the time and the column (of the array of levels) of a period's first sample, the
# seed, top-k, top-p as a fraction of 2^32, and a flag that a logit was not finite.
TIME, COLUMN, SEED, TOP_K, TOP_P, BAD = (tl.constexpr(field) for field in range(6))
FIELDS = 6


class Place(NamedTuple):
    """The sample that a launch is for: `offset` samples after the clock (FIELDS,), in the array levels (B, columns),
    whose rows are levels_stride apart. A launch that needs no time or no levels has None there.

    Kernels take the four as plain arguments, because offset and levels_stride must not be compiled in.
    """

    clock: Any = None
    offset: Any = 0
    levels: Any = None
    levels_stride: Any = 0


def clock_values(t: int, column: int, seed: int = 0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """The clock of time t as a tensor on the CPU: (FIELDS,) int64."""
    signed = seed - (1 << 64) if seed >= 1 << 63 else seed  # the same 64 bits as a signed number
    return torch.tensor([t, column, signed, top_k, draw.fraction_of(top_p), 0])


@triton.jit
def column_of(place):
    """The column of this sample in the array of levels."""
    return tl.load(place.clock + COLUMN) + place.offset


@triton.jit(do_not_specialize=["steps"])
def advance_kernel(clock_ptr, steps):
    """Add `steps` to time and column. This is a launch of its own because the launches before it still read both."""
    tl.store(clock_ptr + TIME, tl.load(clock_ptr + TIME) + steps)
    tl.store(clock_ptr + COLUMN, tl.load(clock_ptr + COLUMN) + steps)

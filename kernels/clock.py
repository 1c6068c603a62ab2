"""What kernels read from device memory, so that a captured graph serves every call: time, place, seed, settings."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.reference import draw

# Fields of the clock, an int64 array: time and column of the period's first sample, settings of the draw (top-p as a
# fraction of 2^32), and a mark that a logit was not finite.
TIME, COLUMN, SEED, TOP_K, TOP_P, BAD = (tl.constexpr(field) for field in range(6))
FIELDS = 6


def clock_values(t: int, column: int, seed: int = 0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """A clock as it stands on the host: (FIELDS,) int64."""
    signed = seed - (1 << 64) if seed >= 1 << 63 else seed  # the same 64 bits
    return torch.tensor([t, column, signed, top_k, draw.fraction_of(top_p), 0])


@triton.jit(do_not_specialize=["steps"])
def advance_kernel(clock_ptr, steps):
    """Move time and column on; a launch of its own, because others still read them."""
    tl.store(clock_ptr + TIME, tl.load(clock_ptr + TIME) + steps)
    tl.store(clock_ptr + COLUMN, tl.load(clock_ptr + COLUMN) + steps)

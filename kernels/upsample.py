"""What a tier hands down (Eq. 6): the sum of maps of its layers' outputs where it has skips, and the products of its
output with all r upsampling matrices, side by side."""

import triton
import triton.language as tl

from samplernn_fast.kernels.cell_input import sides_at
from samplernn_fast.kernels.products import product


@triton.jit(do_not_specialize=["offset", "batch"])
def upsample_kernel(
    clock_ptr,
    offset,
    feed_ptr,
    feed_side,
    feed_layer,
    w_ptr,
    bias_ptr,
    y_ptr,
    batch,
    N,
    K: tl.constexpr,
    LAYERS: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    CLOCKED: tl.constexpr,
    BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STYLE: tl.constexpr,
):
    """y (B, N) = bias (N,) + the states of LAYERS layers, side by side, times w (N, LAYERS K).

    feed (B, K) is the first layer's state, the next one `feed_layer` behind it; the side is the one that the tier's
    newest step has written.
    """
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < N
    _, side = sides_at(clock_ptr, offset, FRAME_SIZE, CLOCKED)
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        y = tl.zeros((ROWS, UNITS), tl.float32)
        if BIAS:
            y += tl.load(bias_ptr + units, mask=in_units, other=0.0)[None, :]
        for layer in range(LAYERS):
            x_ptr = feed_ptr + side * feed_side + layer * feed_layer
            y += product(
                x_ptr, K, w_ptr + layer * K, LAYERS * K, y_ptr, N, rows, in_rows, units, in_units, K, BLOCK_K, STYLE
            )
        inside = in_rows[:, None] & in_units[None, :]
        tl.store(y_ptr + rows[:, None] * N + units[None, :], y, mask=inside)

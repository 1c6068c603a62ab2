"""What a memory cell reads besides its own state: the frame, the tier above, the layer below (Eq. 4-6)."""

import triton
import triton.language as tl

from samplernn_fast.kernels.clock import COLUMN, TIME
from samplernn_fast.kernels.products import product


@triton.jit
def sides_at(clock_ptr, offset, FRAME_SIZE: tl.constexpr, CLOCKED: tl.constexpr):
    """(side read, side written) of the states of a tier that steps every FRAME_SIZE samples: they alternate, because
    other programs of a launch still read the old state while it writes the new one."""
    side = tl.full((), 0, tl.int64)
    if CLOCKED:
        side = (tl.load(clock_ptr + TIME) + offset) // FRAME_SIZE % 2
    return side, 1 - side


@triton.jit
def cell_input(
    GATE: tl.constexpr,
    clock_ptr,
    offset,
    levels_ptr,
    levels_row,
    values_ptr,
    frame_ptr,
    read_ptr,
    read_row,
    bias_ptr,
    below_ptr,
    stack_ptr,
    stack_sums_ptr,
    rows,
    in_rows,
    units,
    in_units,
    D: tl.constexpr,
    GATES: tl.constexpr,
    FRAME: tl.constexpr,
    READ: tl.constexpr,
    BIAS: tl.constexpr,
    STACK: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STYLE: tl.constexpr,
):
    """(rows, units) float32 of one gate. FRAME samples are read, or none where it is 0; READ, BIAS and STACK say
    whether the tier above, the bias and the layer below add something."""
    columns = GATE * D + units
    inside = in_rows[:, None] & in_units[None, :]
    total = tl.zeros((rows.shape[0], units.shape[0]), tl.float32)
    if BIAS:
        total += tl.load(bias_ptr + columns, mask=in_units, other=0.0)[None, :]
    if READ:
        total += tl.load(read_ptr + rows[:, None] * read_row + columns[None, :], mask=inside, other=0.0)
    if FRAME > 0:
        newest = levels_ptr + rows * levels_row + tl.load(clock_ptr + COLUMN) + offset - FRAME
        for i in range(FRAME):
            value = tl.load(values_ptr + tl.load(newest + i, mask=in_rows, other=0))
            total += value[:, None] * tl.load(frame_ptr + columns * FRAME + i, mask=in_units, other=0.0)[None, :]
    if STACK:
        sums_ptr = stack_sums_ptr + GATE * D
        w_ptr = stack_ptr + GATE * D * D
        total += product(below_ptr, D, w_ptr, D, sums_ptr, GATES * D, rows, in_rows, units, in_units, D, BLOCK_K, STYLE)
    return total

"""One LSTM step of a tier's layer (Eq. 5) in one launch. The twin of `reference.lstm_cell_ref`."""

import triton
import triton.language as tl

from samplernn_fast.kernels.cell_input import cell_input, sides_at
from samplernn_fast.kernels.products import product


@triton.jit(do_not_specialize=["offset", "levels_row", "batch"])
def lstm_cell_kernel(
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
    feed_ptr,
    next_ptr,
    feed_side,
    recurrent_ptr,
    sums_ptr,
    state_ptr,
    new_state_ptr,
    batch,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    CLOCKED: tl.constexpr,
    FRAME: tl.constexpr,
    READ: tl.constexpr,
    BIAS: tl.constexpr,
    STACK: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STYLE: tl.constexpr,
):
    """state, new_state (B, 2D) float32 = [h | c]; recurrent (4D, D), order i, f, g, o; sums (B, 4D). The other
    arguments are those of `gru_cell.gru_cell_kernel`."""
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < D
    side, other = sides_at(clock_ptr, offset, FRAME_SIZE, CLOCKED)
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        inside = in_rows[:, None] & in_units[None, :]
        for gate in tl.static_range(4):
            given = cell_input(
                gate, clock_ptr, offset, levels_ptr, levels_row, values_ptr, frame_ptr, read_ptr, read_row, bias_ptr,
                below_ptr + other * feed_side, stack_ptr, stack_sums_ptr, rows, in_rows, units, in_units,
                D, 4, FRAME, READ, BIAS, STACK, BLOCK_K, STYLE,
            )  # fmt: skip
            total = given + product(
                feed_ptr + side * feed_side, D, recurrent_ptr + gate * D * D, D, sums_ptr + gate * D, 4 * D,
                rows, in_rows, units, in_units, D, BLOCK_K, STYLE,
            )  # fmt: skip
            if gate == 0:
                i = 1 / (1 + tl.exp(-total))
            elif gate == 1:
                f = 1 / (1 + tl.exp(-total))
            elif gate == 2:
                g = 2 / (1 + tl.exp(-2 * total)) - 1  # tanh
            else:
                o = 1 / (1 + tl.exp(-total))
        at = rows[:, None] * (2 * D) + units[None, :]
        c = f * tl.load(state_ptr + at + D, mask=inside, other=0.0).to(tl.float32) + i * g
        new = o * (2 / (1 + tl.exp(-2 * c)) - 1)
        tl.store(new_state_ptr + at, new, mask=inside)
        tl.store(new_state_ptr + at + D, c, mask=inside)
        tl.store(next_ptr - side * feed_side + rows[:, None] * D + units[None, :], new, mask=inside)

"""One GRU step of a tier's layer (Eq. 5), both forms: input, recurrent product and gates in one launch, or in two where
the reset gate comes before the product. The twin of `reference.gru_cell_ref`."""

import triton
import triton.language as tl

from samplernn_fast.kernels.cell_input import cell_input, sides_at
from samplernn_fast.kernels.products import product


@triton.jit(do_not_specialize=["offset", "levels_row", "batch"])
def gru_cell_kernel(
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
    bias_n_ptr,
    h_ptr,
    new_h_ptr,
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
    """h, new_h (B, D) float32. feed, next (B, D) are copies of the state in the weights' type, on two sides
    `feed_side` apart, which products read; recurrent (3D, D); sums (B, 3D) its product where a library made it."""
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < D
    side, other = sides_at(clock_ptr, offset, FRAME_SIZE, CLOCKED)
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        inside = in_rows[:, None] & in_units[None, :]
        for gate in tl.static_range(3):
            given = cell_input(
                gate, clock_ptr, offset, levels_ptr, levels_row, values_ptr, frame_ptr, read_ptr, read_row, bias_ptr,
                below_ptr + other * feed_side, stack_ptr, stack_sums_ptr, rows, in_rows, units, in_units,
                D, 3, FRAME, READ, BIAS, STACK, BLOCK_K, STYLE,
            )  # fmt: skip
            recurrent = product(
                feed_ptr + side * feed_side, D, recurrent_ptr + gate * D * D, D, sums_ptr + gate * D, 3 * D,
                rows, in_rows, units, in_units, D, BLOCK_K, STYLE,
            )  # fmt: skip
            if gate == 0:
                r = 1 / (1 + tl.exp(-(given + recurrent)))
            elif gate == 1:
                z = 1 / (1 + tl.exp(-(given + recurrent)))
            else:
                inner = recurrent + tl.load(bias_n_ptr + units, mask=in_units, other=0.0)[None, :]
                n = 2 / (1 + tl.exp(-2 * (given + r * inner))) - 1  # tanh
        at = rows[:, None] * D + units[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        new = n + z * (h - n)
        tl.store(new_h_ptr + at, new, mask=inside)
        tl.store(next_ptr - side * feed_side + at, new, mask=inside)


@triton.jit(do_not_specialize=["offset", "levels_row", "batch"])
def gru_reset_kernel(
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
    h_ptr,
    update_ptr,
    reset_h_ptr,
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
    """First half of the form that resets before the product: update = z (B, D) float32 and reset_h = r h (B, D) in the
    weights' type. The other arguments are those of `gru_cell_kernel`; sums (B, 2D)."""
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < D
    side, other = sides_at(clock_ptr, offset, FRAME_SIZE, CLOCKED)
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        inside = in_rows[:, None] & in_units[None, :]
        for gate in tl.static_range(2):
            given = cell_input(
                gate, clock_ptr, offset, levels_ptr, levels_row, values_ptr, frame_ptr, read_ptr, read_row, bias_ptr,
                below_ptr + other * feed_side, stack_ptr, stack_sums_ptr, rows, in_rows, units, in_units,
                D, 3, FRAME, READ, BIAS, STACK, BLOCK_K, STYLE,
            )  # fmt: skip
            recurrent = product(
                feed_ptr + side * feed_side, D, recurrent_ptr + gate * D * D, D, sums_ptr + gate * D, 2 * D,
                rows, in_rows, units, in_units, D, BLOCK_K, STYLE,
            )  # fmt: skip
            if gate == 0:
                r = 1 / (1 + tl.exp(-(given + recurrent)))
            else:
                z = 1 / (1 + tl.exp(-(given + recurrent)))
        at = rows[:, None] * D + units[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(update_ptr + at, z, mask=inside)
        tl.store(reset_h_ptr + at, r * h, mask=inside)


@triton.jit(do_not_specialize=["offset", "levels_row", "batch"])
def gru_update_kernel(
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
    h_ptr,
    new_h_ptr,
    update_ptr,
    reset_h_ptr,
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
    """Second half: n from r h, then the new state. recurrent (D, D) is n's part; sums (B, D)."""
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < D
    side, other = sides_at(clock_ptr, offset, FRAME_SIZE, CLOCKED)
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        inside = in_rows[:, None] & in_units[None, :]
        given = cell_input(
            2, clock_ptr, offset, levels_ptr, levels_row, values_ptr, frame_ptr, read_ptr, read_row, bias_ptr,
            below_ptr + other * feed_side, stack_ptr, stack_sums_ptr, rows, in_rows, units, in_units,
            D, 3, FRAME, READ, BIAS, STACK, BLOCK_K, STYLE,
        )  # fmt: skip
        inner = product(
            reset_h_ptr, D, recurrent_ptr, D, sums_ptr, D, rows, in_rows, units, in_units, D, BLOCK_K, STYLE
        )
        n = 2 / (1 + tl.exp(-2 * (given + inner))) - 1  # tanh
        at = rows[:, None] * D + units[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        z = tl.load(update_ptr + at, mask=inside, other=0.0)
        new = n + z * (h - n)
        tl.store(new_h_ptr + at, new, mask=inside)
        tl.store(next_ptr - side * feed_side + at, new, mask=inside)

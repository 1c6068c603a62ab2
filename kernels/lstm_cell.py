"""One LSTM step of a layer (Eq. 5) in one launch. Its plain torch is `reference.cells.lstm_cell_ref`."""

import triton
import triton.language as tl

from samplernn_fast.kernels.cell_input import cell_input, halves_at, recurrent_product, sigmoid, tanh
from samplernn_fast.kernels.clock import Place
from samplernn_fast.kernels.product import outputs_of, tile_from


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams"])
def lstm_cell_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    recurrent,
    state_ptr,
    new_state_ptr,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """state -> new_state (B, 2D) float32 = [h | c], and a copy of the new h to recurrent.new_hidden.

    given: a CellInput. recurrent: a Recurrent with a matrix (4D, D), order i, f, g, o.
    """
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    old, new = halves_at(place, FRAME_SIZE)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, D, blocks)
        inside = outputs_of(tile)
        for gate in tl.static_range(4):
            added = cell_input(gate, 4, place, given, new * recurrent.half_stride, tile, D, FRAME_SIZE, blocks)
            total = added + recurrent_product(gate, 4, recurrent, old, tile, D, blocks)
            if gate == 0:
                i = sigmoid(total)
            elif gate == 1:
                f = sigmoid(total)
            elif gate == 2:
                g = tanh(total)
            else:
                o = sigmoid(total)
        at = tile.stream[:, None] * (2 * D) + tile.unit[None, :]
        c = f * tl.load(state_ptr + at + D, mask=inside, other=0.0).to(tl.float32) + i * g
        h = o * tanh(c)
        tl.store(new_state_ptr + at, h, mask=inside)
        tl.store(new_state_ptr + at + D, c, mask=inside)
        hidden_ptr = recurrent.new_hidden - old * recurrent.half_stride
        tl.store(hidden_ptr + tile.stream[:, None] * D + tile.unit[None, :], h, mask=inside)

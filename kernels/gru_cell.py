"""One GRU step of a layer (Eq. 5), in both forms: the form that resets after the product takes one launch, the form
that resets before it takes two. The plain torch of both is `reference.cells.gru_cell_ref`."""

import triton
import triton.language as tl

from samplernn_fast.kernels.cell_input import cell_input, halves_at, recurrent_product, sigmoid, tanh
from samplernn_fast.kernels.clock import Place
from samplernn_fast.kernels.product import outputs_of, product, tile_from


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams"])
def gru_cell_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    recurrent,
    h_ptr,
    new_h_ptr,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """The form that resets after the product: h -> new_h (B, D) float32, and its copy to recurrent.new_hidden.

    given: a CellInput. recurrent: a Recurrent with a matrix (3D, D), order r, z, n.
    """
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    old, new = halves_at(place, FRAME_SIZE)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, D, blocks)
        inside = outputs_of(tile)
        for gate in tl.static_range(3):
            added = cell_input(gate, 3, place, given, new * recurrent.half_stride, tile, D, FRAME_SIZE, blocks)
            summed = recurrent_product(gate, 3, recurrent, old, tile, D, blocks)
            if gate == 0:
                r = sigmoid(added + summed)
            elif gate == 1:
                z = sigmoid(added + summed)
            else:
                inner = summed + tl.load(recurrent.bias_n + tile.unit, mask=tile.has_unit, other=0.0)[None, :]
                n = tanh(added + r * inner)
        at = tile.stream[:, None] * D + tile.unit[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        new_h = n + z * (h - n)
        tl.store(new_h_ptr + at, new_h, mask=inside)
        tl.store(recurrent.new_hidden - old * recurrent.half_stride + at, new_h, mask=inside)


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams"])
def gru_reset_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    recurrent,
    h_ptr,
    update_ptr,
    reset_h_ptr,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """First launch of the form that resets before the product: update = z (B, D) float32, and reset_h = r h (B, D) in
    the weights' type. recurrent: a Recurrent with a matrix (2D, D), order r, z."""
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    old, new = halves_at(place, FRAME_SIZE)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, D, blocks)
        inside = outputs_of(tile)
        for gate in tl.static_range(2):
            added = cell_input(gate, 3, place, given, new * recurrent.half_stride, tile, D, FRAME_SIZE, blocks)
            summed = recurrent_product(gate, 2, recurrent, old, tile, D, blocks)
            if gate == 0:
                r = sigmoid(added + summed)
            else:
                z = sigmoid(added + summed)
        at = tile.stream[:, None] * D + tile.unit[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(update_ptr + at, z, mask=inside)
        tl.store(reset_h_ptr + at, r * h, mask=inside)


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams"])
def gru_update_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    recurrent,
    h_ptr,
    new_h_ptr,
    update_ptr,
    reset_h_ptr,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """Second launch: n from reset_h, then h -> new_h. recurrent: a Recurrent with the matrix (D, D) of n."""
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    old, new = halves_at(place, FRAME_SIZE)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, D, blocks)
        inside = outputs_of(tile)
        added = cell_input(2, 3, place, given, new * recurrent.half_stride, tile, D, FRAME_SIZE, blocks)
        n = tanh(added + product(reset_h_ptr, D, recurrent.matrix, D, recurrent.sums, D, tile, D, blocks))
        at = tile.stream[:, None] * D + tile.unit[None, :]
        h = tl.load(h_ptr + at, mask=inside, other=0.0).to(tl.float32)
        z = tl.load(update_ptr + at, mask=inside, other=0.0)
        new_h = n + z * (h - n)
        tl.store(new_h_ptr + at, new_h, mask=inside)
        tl.store(recurrent.new_hidden - old * recurrent.half_stride + at, new_h, mask=inside)

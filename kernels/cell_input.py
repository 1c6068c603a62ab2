"""What the gates of a cell add up: bias, conditioning, frame, layer below (Eq. 4-6), and the recurrent product. Also
here: the activations of the cells, and the two halves of a hidden state."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from samplernn_fast.kernels.clock import TIME, column_of
from samplernn_fast.kernels.product import outputs_of, product


class CellInput(NamedTuple):
    """Pointers of what one step adds to the gates; None where a layer has no such input.

    bias (G D,). conditioning (B, >= G D), rows conditioning_stride apart. frame_values (Q,) and frame (G D, F): the
    last F levels are turned into frame values and multiplied by `frame`. below (B, D) and stack (G D, D): the hidden
    state of the layer below and its matrix, whose product (B, G D) is `stack_sums` in style "library".
    """

    bias: Any
    conditioning: Any
    conditioning_stride: Any
    frame_values: Any
    frame: Any
    below: Any
    stack: Any
    stack_sums: Any


class Recurrent(NamedTuple):
    """Pointers of the recurrent product.

    hidden and new_hidden (B, D): the hidden state in the weights' type, as products read it, before and after an even
    step of the tier. At odd steps the two are swapped: each is half of a double buffer, and half_stride is the distance
    between the halves. half_stride is 0 where nothing is swapped. matrix (gates D, D). sums (B, gates D): the product
    in style "library". bias_n (D,): the bias inside the reset gate's product, or None.
    """

    hidden: Any
    new_hidden: Any
    half_stride: Any
    matrix: Any
    sums: Any
    bias_n: Any = None


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + tl.exp(-x))


@triton.jit
def tanh(x):
    """2 sigmoid(2 x) - 1."""
    return 2 / (1 + tl.exp(-2 * x)) - 1


@triton.jit
def halves_at(place, FRAME_SIZE: tl.constexpr):
    """(half read, half written), 0 or 1, at the step of a tier that steps every FRAME_SIZE samples. The two swap at
    every step, because other programs of a launch still read the old hidden state while one writes the new one."""
    half = tl.full((), 0, tl.int64)
    if place.clock is not None:
        half = (tl.load(place.clock + TIME) + place.offset) // FRAME_SIZE % 2
    return half, 1 - half


@triton.jit
def cell_input(
    gate: tl.constexpr,
    GATES: tl.constexpr,
    place,
    given,
    below_offset,
    tile,
    D: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """(streams, units) float32: all that one gate adds up but the recurrent product. given: a CellInput; below_offset:
    the distance from given.below to the newest hidden state of the layer below."""
    column = gate * D + tile.unit
    inside = outputs_of(tile)
    total = tl.full((blocks.streams, blocks.units), 0.0, tl.float32)
    if given.bias is not None:
        total += tl.load(given.bias + column, mask=tile.has_unit, other=0.0)[None, :]
    if given.conditioning is not None:
        row_ptr = given.conditioning + tile.stream[:, None] * given.conditioning_stride
        total += tl.load(row_ptr + column[None, :], mask=inside, other=0.0)
    if given.frame is not None:
        oldest = place.levels + tile.stream * place.levels_stride + column_of(place) - FRAME_SIZE
        for i in range(FRAME_SIZE):
            value = tl.load(given.frame_values + tl.load(oldest + i, mask=tile.has_stream, other=0))
            weight = tl.load(given.frame + column * FRAME_SIZE + i, mask=tile.has_unit, other=0.0)
            total += value[:, None] * weight[None, :]
    if given.stack is not None:
        below_ptr, w_ptr, sums_ptr = given.below + below_offset, given.stack + gate * D * D, given.stack_sums + gate * D
        total += product(below_ptr, D, w_ptr, D, sums_ptr, GATES * D, tile, D, blocks)
    return total


@triton.jit
def recurrent_product(
    gate: tl.constexpr,
    GATES: tl.constexpr,
    recurrent,
    half,
    tile,
    D: tl.constexpr,
    blocks: tl.constexpr,
):
    """(streams, units) float32 of one gate: the hidden state of a half times the part of the matrix of GATES gates."""
    x_ptr, w_ptr = recurrent.hidden + half * recurrent.half_stride, recurrent.matrix + gate * D * D
    return product(x_ptr, D, w_ptr, D, recurrent.sums + gate * D, GATES * D, tile, D, blocks)

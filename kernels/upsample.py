"""Upsampling (Eq. 6): the products of a tier's output with all r upsampling matrices, side by side. Where a tier has
skips, its output is itself such a product: the sum of maps of its layers' outputs."""

import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.kernels.cell_input import halves_at
from samplernn_fast.kernels.clock import Place
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.product import Blocks, outputs_of, product, tile_from


@triton.jit(do_not_specialize=["offset", "streams"])
def upsample_kernel(
    clock_ptr,
    offset,
    streams,
    hidden_ptr,
    half_stride,
    layer_stride,
    w_ptr,
    bias_ptr,
    y_ptr,
    N,
    D: tl.constexpr,
    LAYERS: tl.constexpr,
    FRAME_SIZE: tl.constexpr,
    blocks: tl.constexpr,
):
    """y (B, N) = bias (N,) + w (N, LAYERS D) times the hidden states of LAYERS layers, put one after another.

    hidden (B, D) is the first layer's, and the next layer's lies layer_stride behind it. Read is the half that the
    tier's newest step has written. bias may be None.
    """
    _, half = halves_at(Place(clock_ptr, offset), FRAME_SIZE)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, N, blocks)
        y = tl.full((blocks.streams, blocks.units), 0.0, tl.float32)
        if bias_ptr is not None:
            y += tl.load(bias_ptr + tile.unit, mask=tile.has_unit, other=0.0)[None, :]
        for layer in range(LAYERS):
            x_ptr = hidden_ptr + half * half_stride + layer * layer_stride
            y += product(x_ptr, D, w_ptr + layer * D, LAYERS * D, y_ptr, N, tile, D, blocks)
        tl.store(y_ptr + tile.stream[:, None] * N + tile.unit[None, :], y, mask=outputs_of(tile))


def launch_upsample(
    place: Place,
    hidden: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    y: Tensor,
    blocks: Blocks,
    frame_size: int = 1,
    half_stride: int = 0,
    layers: int = 1,
    layer_stride: int = 0,
) -> None:
    """y (B, N) = bias (N,) + matrix (N, layers D) times the hidden states of `layers` layers, the first being `hidden`
    (B, D).

    frame_size is the tier's. Without a double buffer half_stride is 0, and place.clock may be None.
    """
    streams, outputs = y.shape
    launch(
        upsample_kernel,
        blocks.grid(streams, outputs),
        place.clock,
        place.offset,
        streams,
        hidden,
        half_stride,
        layer_stride,
        matrix,
        bias,
        y,
        outputs,
        D=hidden.shape[1],
        LAYERS=layers,
        FRAME_SIZE=frame_size,
        blocks=blocks,
        warps=blocks.warps,
        stages=blocks.stages,
    )

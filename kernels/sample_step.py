"""The sample-level MLP (Eq. 7-9): from the last levels and the conditioning of one sample to its logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.kernels.clock import Place, column_of
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.product import blocks_for, library_product, outputs_of, product, tile_from

# Most tables whose rows every program of the first product adds up for itself; more are added up once, by a launch of
# their own.
_FUSED_TAPS = 4


class SampleInput(NamedTuple):
    """What the first layer reads beside levels: conditioning (B, D) float32, rows conditioning_stride apart; input_bias
    (D,), which is added to it; tables (I, Q, D) of the last I levels."""

    conditioning: Any
    conditioning_stride: Any
    input_bias: Any
    tables: Any


@triton.jit
def relu(x):
    """max(x, 0); a NaN stays one."""
    return tl.where(x > 0, x, tl.where(x == x, 0.0, x))


@triton.jit
def embedded(place, given, stream, has_stream, k, Q, D: tl.constexpr, TAPS: tl.constexpr):
    """relu(conditioning + a row of every table): (streams, k) float32. given: a SampleInput with TAPS tables."""
    inside = has_stream[:, None] & (k < D)[None, :]
    conditioning_ptr = given.conditioning + stream[:, None] * given.conditioning_stride
    x = tl.load(conditioning_ptr + k[None, :], mask=inside, other=0.0)
    x += tl.load(given.input_bias + k, mask=k < D, other=0.0)[None, :]
    oldest = place.levels + column_of(place) - TAPS
    for tap in range(TAPS):
        level = tl.load(oldest + stream * place.levels_stride + tap, mask=has_stream, other=0).to(tl.int64)
        row_ptr = given.tables + (tap * Q + level) * D
        x += tl.load(row_ptr[:, None] + k[None, :], mask=inside, other=0.0)
    return relu(x)


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams", "Q"])
def embed_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    y_ptr,
    Q,
    D: tl.constexpr,
    TAPS: tl.constexpr,
    STREAMS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """y (B, D) in the weights' type = `embedded`, by tiles of STREAMS x UNITS."""
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    k = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    stream = (tl.program_id(1) * STREAMS + tl.arange(0, STREAMS)).to(tl.int64)
    has_stream = stream < streams
    x = embedded(place, given, stream, has_stream, k, Q, D, TAPS)
    tl.store(y_ptr + stream[:, None] * D + k[None, :], x, mask=has_stream[:, None] & (k < D)[None, :])


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams", "Q"])
def mlp_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    given,
    x_ptr,
    w_ptr,
    bias_ptr,
    sums_ptr,
    y_ptr,
    N,
    Q,
    D: tl.constexpr,
    TAPS: tl.constexpr,
    blocks: tl.constexpr,
):
    """One layer, y (B, N): a hidden layer has a bias and a ReLU; the output layer has bias None here, because the draw
    adds it.

    Its input is x (B, D). Where TAPS > 0 (in style "vector" only) it is `embedded`, which every program computes anew.
    """
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    for first in range(tl.program_id(1) * blocks.streams, streams, tl.num_programs(1) * blocks.streams):
        tile = tile_from(first, streams, N, blocks)
        if TAPS > 0:
            sums = tl.full((blocks.units, blocks.inputs), 0.0, tl.float32)
            for start in range(0, D, blocks.inputs):
                k = start + tl.arange(0, blocks.inputs)
                x = embedded(place, given, tile.stream, tile.has_stream, k, Q, D, TAPS)
                inside = tile.has_unit[:, None] & (k < D)[None, :]
                w = tl.load(w_ptr + tile.unit[:, None].to(tl.int64) * D + k[None, :], mask=inside, other=0.0)
                sums += x.to(w.dtype).to(tl.float32) * w.to(tl.float32)
            y = tl.sum(sums, axis=1)[None, :]
        else:
            y = product(x_ptr, D, w_ptr, D, sums_ptr, N, tile, D, blocks)
        if bias_ptr is not None:
            y += tl.load(bias_ptr + tile.unit, mask=tile.has_unit, other=0.0)[None, :]
            y = relu(y)
        tl.store(y_ptr + tile.stream[:, None] * N + tile.unit[None, :], y, mask=outputs_of(tile))


@dataclass(frozen=True)
class SampleScratch:
    """Memory for the results of layers. x and y (B, D) in the weights' type take turns as a layer's input and output;
    sums (B, D) is a library's product; logits (B, Q) are those without a bias."""

    x: Tensor
    y: Tensor
    sums: Tensor
    logits: Tensor

    @classmethod
    def make(cls, streams: int, dim: int, q_levels: int, like: Tensor) -> "SampleScratch":
        x, y = (torch.empty(streams, dim, dtype=like.dtype, device=like.device) for _ in range(2))
        sums, logits = (torch.empty(streams, width, device=like.device) for width in (dim, q_levels))
        return cls(x, y, sums, logits)


def launch_logits(
    place: Place,
    given: SampleInput,
    hidden: Sequence[tuple[Tensor, Tensor]],
    output: Tensor,
    scratch: SampleScratch,
    style: str,
) -> None:
    """Eq. 7-9 at a place: scratch.logits from hidden layers (matrix (D, D), bias (D,)) and the output layer (Q, D)."""
    taps = given.tables.shape[0]
    fused = style == "vector" and taps <= _FUSED_TAPS
    x, y = scratch.x, scratch.y
    if not fused:
        _launch_embed(place, given, x)
    for layer, (matrix, bias) in enumerate(hidden):
        _launch_layer(place, given, taps if fused and layer == 0 else 0, x, matrix, bias, scratch.sums, y, style)
        x, y = y, x
    taps = taps if fused and not hidden else 0
    _launch_layer(place, given, taps, x, output, None, scratch.sums, scratch.logits, style)


def _launch_embed(place: Place, given: SampleInput, y: Tensor) -> None:
    (streams, dim), (taps, q_levels, _) = y.shape, given.tables.shape
    each, units = min(8, triton.next_power_of_2(streams)), 128
    grid = (triton.cdiv(dim, units), triton.cdiv(streams, each))
    constants = {"D": dim, "TAPS": taps, "STREAMS": each, "UNITS": units}
    launch(embed_kernel, grid, *place, streams, given, y, q_levels, **constants)


def _launch_layer(
    place: Place,
    given: SampleInput,
    taps: int,
    x: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    sums: Tensor,
    y: Tensor,
    style: str,
) -> None:
    """y = relu(x matrix + bias), or x matrix where bias is None. Where taps > 0, x is not read but made from levels."""
    (streams, dim), units = x.shape, matrix.shape[0]
    if style == "library":
        library_product(x, matrix, y if bias is None else sums)
        if bias is None:
            return
    blocks = blocks_for(style, units, dim, matrix.dtype, x.device)
    launch(
        mlp_kernel,
        blocks.grid(streams, units),
        *place,
        streams,
        given,
        x,
        matrix,
        bias,
        sums,
        y,
        units,
        given.tables.shape[1],
        D=dim,
        TAPS=taps,
        blocks=blocks,
        warps=blocks.warps,
        stages=blocks.stages,
    )

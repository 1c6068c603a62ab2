"""The logits of one sample of every stream (Eq. 7-9): table rows and conditioning, hidden layers, output layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.kernels.clock import COLUMN
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.products import blocks_for, library_product, product

# With more table rows than that, a launch of its own adds them up once, instead of every program of the first product.
_FUSED_TAPS = 4


@triton.jit
def embedded(
    recent_ptr, recent_row, conditioning_ptr, conditioning_row, up_bias_ptr, tables_ptr, rows, in_rows, k,
    Q, D: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """relu(c + the rows of all tables): (rows, k) float32. recent: the oldest of the TAPS levels before this sample."""
    inside = in_rows[:, None] & (k < D)[None, :]
    x = tl.load(conditioning_ptr + rows[:, None] * conditioning_row + k[None, :], mask=inside, other=0.0)
    x += tl.load(up_bias_ptr + k, mask=k < D, other=0.0)[None, :]
    for tap in range(TAPS):
        level = tl.load(recent_ptr + rows * recent_row + tap, mask=in_rows, other=0).to(tl.int64)
        row_ptr = tables_ptr + (tap * Q + level) * D
        x += tl.load(row_ptr[:, None] + k[None, :], mask=inside, other=0.0)
    return tl.where(x > 0, x, tl.where(x == x, 0.0, x))  # a NaN stays one


@triton.jit(do_not_specialize=["offset", "levels_row", "batch", "Q"])
def embed_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_row,
    conditioning_ptr,
    conditioning_row,
    up_bias_ptr,
    tables_ptr,
    y_ptr,
    batch,
    Q,
    D: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
):
    """y (B, D) in the weights' type = relu(c + table rows): a launch of its own where the next one has many rows."""
    k = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    rows = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    in_rows = rows < batch
    recent_ptr = levels_ptr + tl.load(clock_ptr + COLUMN) + offset - TAPS
    x = embedded(
        recent_ptr,
        levels_row,
        conditioning_ptr,
        conditioning_row,
        up_bias_ptr,
        tables_ptr,
        rows,
        in_rows,
        k,
        Q,
        D,
        TAPS,
    )
    tl.store(y_ptr + rows[:, None] * D + k[None, :], x, mask=in_rows[:, None] & (k < D)[None, :])


@triton.jit(do_not_specialize=["offset", "levels_row", "batch", "Q"])
def mlp_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_row,
    conditioning_ptr,
    conditioning_row,
    up_bias_ptr,
    tables_ptr,
    x_ptr,
    w_ptr,
    bias_ptr,
    sums_ptr,
    y_ptr,
    batch,
    N,
    Q,
    D: tl.constexpr,
    TAPS: tl.constexpr,
    HIDDEN: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STYLE: tl.constexpr,
):
    """One layer, y (B, N): a HIDDEN one adds its bias and has a ReLU, the output layer gives bare sums, for the draw.

    x (B, D), or, where TAPS > 0 (style "vector" only), what `embedded` gives, made anew by every program.
    """
    units = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
    in_units = units < N
    for first in range(tl.program_id(1) * ROWS, batch, tl.num_programs(1) * ROWS):
        rows = (first + tl.arange(0, ROWS)).to(tl.int64)
        in_rows = rows < batch
        if TAPS > 0:
            recent_ptr = levels_ptr + tl.load(clock_ptr + COLUMN) + offset - TAPS
            sums = tl.zeros((UNITS, BLOCK_K), tl.float32)
            for start in range(0, D, BLOCK_K):
                k = start + tl.arange(0, BLOCK_K)
                x = embedded(
                    recent_ptr, levels_row, conditioning_ptr, conditioning_row, up_bias_ptr, tables_ptr,
                    rows, in_rows, k, Q, D, TAPS,
                )  # fmt: skip
                inside = in_units[:, None] & (k < D)[None, :]
                w = tl.load(w_ptr + units[:, None].to(tl.int64) * D + k[None, :], mask=inside, other=0.0)
                sums += x.to(w.dtype).to(tl.float32) * w.to(tl.float32)
            y = tl.sum(sums, axis=1)[None, :]
        else:
            y = product(x_ptr, D, w_ptr, D, sums_ptr, N, rows, in_rows, units, in_units, D, BLOCK_K, STYLE)
        if HIDDEN:
            y += tl.load(bias_ptr + units, mask=in_units, other=0.0)[None, :]
            y = tl.where(y > 0, y, tl.where(y == y, 0.0, y))
        tl.store(y_ptr + rows[:, None] * N + units[None, :], y, mask=in_rows[:, None] & in_units[None, :])


@dataclass(frozen=True)
class SampleInput:
    """What the sample level reads at `offset` behind the clock: levels (B, columns) up to there, conditioning (B, D)
    float32 of any row stride, what is added to it (D,), tables (I, Q, D)."""

    clock: Tensor
    offset: int
    levels: Tensor
    conditioning: Tensor
    up_bias: Tensor
    tables: Tensor

    def arguments(self) -> tuple[Any, ...]:
        """In the order of the kernels."""
        levels, conditioning = self.levels, self.conditioning
        placed = (self.clock, self.offset, levels, levels.stride(0), conditioning, conditioning.stride(0))
        return (*placed, self.up_bias, self.tables)


@dataclass(frozen=True)
class SampleScratch:
    """Outputs of layers x, other (B, D) in the weights' type, a library's sums (B, D), logits (B, Q) without a bias."""

    x: Tensor
    other: Tensor
    sums: Tensor
    logits: Tensor

    @classmethod
    def make(cls, batch: int, dim: int, q_levels: int, like: Tensor) -> "SampleScratch":
        x, other = (torch.empty(batch, dim, dtype=like.dtype, device=like.device) for _ in range(2))
        sums, logits = (torch.empty(batch, width, device=like.device) for width in (dim, q_levels))
        return cls(x, other, sums, logits)


def launch_logits(
    given: SampleInput, hidden: Sequence[tuple[Tensor, Tensor]], output: Tensor, scratch: SampleScratch, style: str
) -> None:
    """Eq. 7-9: scratch.logits from hidden layers (matrix (D, D), bias (D,)) and the output layer (Q, D)."""
    taps = given.tables.shape[0]
    fused = style == "vector" and taps <= _FUSED_TAPS
    x, other = scratch.x, scratch.other
    if not fused:
        _launch_embed(given, x)
    for layer, (matrix, bias) in enumerate(hidden):
        _launch_layer(given, taps if fused and layer == 0 else 0, x, matrix, bias, scratch, other, style)
        x, other = other, x
    _launch_layer(given, taps if fused and not hidden else 0, x, output, None, scratch, scratch.logits, style)


def _launch_embed(given: SampleInput, x: Tensor) -> None:
    (batch, dim), (taps, q_levels, _) = x.shape, given.tables.shape
    rows, units = min(8, triton.next_power_of_2(batch)), 128
    grid = (triton.cdiv(dim, units), triton.cdiv(batch, rows))
    constants = {"D": dim, "TAPS": taps, "ROWS": rows, "UNITS": units}
    launch(embed_kernel, grid, *given.arguments(), x, batch, q_levels, **constants)


def _launch_layer(
    given: SampleInput,
    taps: int,
    x: Tensor,
    matrix: Tensor,
    bias: Tensor | None,
    scratch: SampleScratch,
    y: Tensor,
    style: str,
) -> None:
    """y = relu(x matrix + bias), or without a bias the bare product; x is made from the levels where taps > 0."""
    (batch, dim), units = x.shape, matrix.shape[0]
    if style == "library":
        library_product(x, matrix, y if bias is None else scratch.sums)
        if bias is None:
            return
    blocks = blocks_for(style, units, dim, matrix.dtype, x.device)
    launch(
        mlp_kernel,
        blocks.grid(batch, units),
        *given.arguments(),
        x,
        matrix,
        y if bias is None else bias,
        scratch.sums,
        y,
        batch,
        units,
        given.tables.shape[1],
        D=dim,
        TAPS=taps,
        HIDDEN=bias is not None,
        ROWS=blocks.rows,
        UNITS=blocks.units,
        BLOCK_K=blocks.k,
        STYLE=blocks.style,
        warps=blocks.warps,
        stages=blocks.stages,
    )

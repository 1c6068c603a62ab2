"""Launches of the memory cells: which kernel a layer takes, and what it is handed."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.kernels.gru_cell import gru_cell_kernel, gru_reset_kernel, gru_update_kernel
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.lstm_cell import lstm_cell_kernel
from samplernn_fast.kernels.products import Blocks, library_product


@dataclass(frozen=True)
class CellWeights:
    """One layer. recurrent (G D, D), G = 3 for the GRU and 4 for the LSTM; bias_n (D,) of the GRU that resets after the
    product; frame (G D, F) of a layer that reads samples; stack (G D, D) of one that reads the layer below."""

    recurrent: Tensor
    bias_n: Tensor | None
    frame: Tensor | None = None
    stack: Tensor | None = None

    @property
    def dim(self) -> int:
        return self.recurrent.shape[1]

    @property
    def gates(self) -> int:
        return self.recurrent.shape[0] // self.dim


@dataclass(frozen=True)
class CellScratch:
    """What a step leaves behind for its own second launch, or a library's product for the step."""

    update: Tensor
    """(B, D) float32."""
    reset_h: Tensor
    """(B, D) in the weights' type."""
    sums: Tensor
    """(B, G D) float32."""
    stack_sums: Tensor
    """(B, G D) float32."""

    @classmethod
    def make(cls, batch: int, weights: CellWeights) -> "CellScratch":
        like, wide = weights.recurrent, batch * weights.gates * weights.dim
        update, sums, stack_sums = (
            torch.empty(size, dtype=torch.float32, device=like.device)
            for size in (batch * weights.dim, wide, wide)  # flat: a second launch needs them narrower
        )
        return cls(update, torch.empty(batch, weights.dim, dtype=like.dtype, device=like.device), sums, stack_sums)


@dataclass(frozen=True)
class CellInput:
    """What one step reads. read (B, >= G D) what the tier above adds; bias (G D,); below (B, D) the layer below's feed.

    clock, levels (B, columns) int32 and values (Q,) are needed where the layer reads samples or where feeds have two
    sides; `offset` is the step's place behind the clock, frame_size its tier's.
    """

    read: Tensor | None = None
    bias: Tensor | None = None
    below: Tensor | None = None
    clock: Tensor | None = None
    offset: int = 0
    frame_size: int = 1
    levels: Tensor | None = None
    values: Tensor | None = None


def launch_cell(
    weights: CellWeights,
    given: CellInput,
    feed: Tensor,
    next_feed: Tensor,
    feed_side: int,
    state: Tensor,
    new_state: Tensor,
    scratch: CellScratch,
    blocks: Blocks,
) -> None:
    """One step: state (B, H) float32 -> new_state, which may be the same; H = D, or 2 D for the LSTM's [h | c].

    feed, next_feed (B, D) in the weights' type: the state as products read it, and where the new one goes; two sides
    `feed_side` apart that alternate with the clock, or 0.
    """
    batch, dim, gates = state.shape[0], weights.dim, weights.gates
    reset_before = gates == 3 and weights.bias_n is None
    first = weights.recurrent[: 2 * dim] if reset_before else weights.recurrent
    if blocks.style == "library":
        library_product(feed, first, scratch.sums[: batch * first.shape[0]].view(batch, -1))
        if weights.stack is not None and given.below is not None:
            library_product(given.below, weights.stack, scratch.stack_sums.view(batch, -1))
    common, constants = _arguments(weights, given, state, scratch, blocks)
    grid = blocks.grid(batch, dim)
    feeds = (feed, next_feed, feed_side)
    if gates == 4:
        launch(lstm_cell_kernel, grid, *common, *feeds, first, scratch.sums, state, new_state, batch, **constants)
    elif not reset_before:
        inner = (first, scratch.sums, weights.bias_n)
        launch(gru_cell_kernel, grid, *common, *feeds, *inner, state, new_state, batch, **constants)
    else:
        second = weights.recurrent[2 * dim :]
        kept = (scratch.update, scratch.reset_h)
        launch(gru_reset_kernel, grid, *common, *feeds, first, scratch.sums, state, *kept, batch, **constants)
        if blocks.style == "library":
            library_product(scratch.reset_h, second, scratch.sums[: batch * dim].view(batch, -1))
        product = (second, scratch.sums)
        launch(gru_update_kernel, grid, *common, *feeds, *product, state, new_state, *kept, batch, **constants)


def _arguments(
    weights: CellWeights, given: CellInput, state: Tensor, scratch: CellScratch, blocks: Blocks
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that all cell kernels begin with, and their constants. What a layer does not read stands in for any
    address: the constants say so."""
    unread = state
    frame = weights.frame
    clocked = given.clock is not None
    common = (
        given.clock if clocked else unread,
        given.offset,
        unread if given.levels is None else given.levels,
        0 if given.levels is None else given.levels.stride(0),
        unread if given.values is None else given.values,
        unread if frame is None else frame,
        unread if given.read is None else given.read,
        0 if given.read is None else given.read.stride(0),
        unread if given.bias is None else given.bias,
        unread if given.below is None else given.below,
        unread if weights.stack is None else weights.stack,
        scratch.stack_sums,
    )
    constants = {
        "D": weights.dim,
        "FRAME_SIZE": given.frame_size,
        "CLOCKED": clocked,
        "FRAME": 0 if frame is None else frame.shape[1],
        "READ": given.read is not None,
        "BIAS": given.bias is not None,
        "STACK": weights.stack is not None,
        "ROWS": blocks.rows,
        "UNITS": blocks.units,
        "BLOCK_K": blocks.k,
        "STYLE": blocks.style,
        "warps": blocks.warps,
        "stages": blocks.stages,
    }
    return common, constants

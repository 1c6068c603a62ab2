"""Launches of the cells: which kernels a layer takes, and with what."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samplernn_fast.kernels.cell_input import CellInput, Recurrent
from samplernn_fast.kernels.clock import Place
from samplernn_fast.kernels.gru_cell import gru_cell_kernel, gru_reset_kernel, gru_update_kernel
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.lstm_cell import lstm_cell_kernel
from samplernn_fast.kernels.product import Blocks, library_product


@dataclass(frozen=True)
class CellWeights:
    """One layer. recurrent (G D, D); bias_n (D,) of the GRU that resets after the product; frame (G D, F) of a layer
    that reads samples; stack (G D, D) of a layer that reads the layer below."""

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
    """Memory in which a step keeps results between two of its own launches. Sums are products that a library makes."""

    update: Tensor
    """(B, D) float32."""
    reset_h: Tensor
    """(B, D) in the weights' type."""
    sums: Tensor
    """(B G D,) float32."""
    stack_sums: Tensor
    """(B G D,) float32."""

    @classmethod
    def make(cls, streams: int, weights: CellWeights) -> "CellScratch":
        like, wide = weights.recurrent, streams * weights.gates * weights.dim
        update, sums, stack_sums = (
            torch.empty(size, dtype=torch.float32, device=like.device)
            for size in (streams * weights.dim, wide, wide)  # flat, because fewer gates than G may use a part of them
        )
        return cls(update, torch.empty(streams, weights.dim, dtype=like.dtype, device=like.device), sums, stack_sums)


@dataclass(frozen=True)
class CellStep:
    """What one step of a layer reads and writes.

    state (B, H) float32 -> new_state, which may be the same tensor. hidden (B, D) in the weights' type is the hidden
    state as products read it, and new_hidden the new one; `Recurrent` explains half_stride. conditioning (B, >= G D),
    bias (G D,), and `below` (B, D), the hidden state of the layer below, are added unless they are None. A layer that
    reads samples needs place.levels and frame_values (Q,). A double buffer needs place.clock. frame_size is the tier's.
    """

    state: Tensor
    new_state: Tensor
    hidden: Tensor
    new_hidden: Tensor
    half_stride: int = 0
    conditioning: Tensor | None = None
    bias: Tensor | None = None
    below: Tensor | None = None
    frame_values: Tensor | None = None
    place: Place = Place()  # noqa: RUF009 (a named tuple cannot be changed)
    frame_size: int = 1

    def input(self, weights: CellWeights, scratch: CellScratch) -> CellInput:
        """The pointers that all cell kernels take."""
        return CellInput(
            bias=self.bias,
            conditioning=self.conditioning,
            conditioning_stride=0 if self.conditioning is None else self.conditioning.stride(0),
            frame_values=None if weights.frame is None else self.frame_values,
            frame=weights.frame,
            below=None if weights.stack is None else self.below,
            stack=weights.stack,
            stack_sums=None if weights.stack is None else scratch.stack_sums,
        )

    def recurrent(self, matrix: Tensor, scratch: CellScratch, bias_n: Tensor | None = None) -> Recurrent:
        """The recurrent product with the whole matrix of a layer, or with the part for some of its gates."""
        return Recurrent(self.hidden, self.new_hidden, self.half_stride, matrix, scratch.sums, bias_n)


def launch_cell(weights: CellWeights, step: CellStep, scratch: CellScratch, blocks: Blocks) -> None:
    """One step of one layer, by one launch or two."""
    streams, dim = step.state.shape[0], weights.dim
    reset_before = weights.gates == 3 and weights.bias_n is None
    matrix = weights.recurrent[: 2 * dim] if reset_before else weights.recurrent
    if blocks.style == "library":
        library_product(step.hidden, matrix, scratch.sums[: streams * matrix.shape[0]].view(streams, -1))
        if weights.stack is not None and step.below is not None:
            library_product(step.below, weights.stack, scratch.stack_sums.view(streams, -1))
    recurrent = step.recurrent(matrix, scratch, weights.bias_n)
    states = (step.state, step.new_state)
    if weights.gates == 4:
        _launch(lstm_cell_kernel, weights, step, scratch, blocks, recurrent, *states)
    elif not reset_before:
        _launch(gru_cell_kernel, weights, step, scratch, blocks, recurrent, *states)
    else:
        kept = (scratch.update, scratch.reset_h)
        _launch(gru_reset_kernel, weights, step, scratch, blocks, recurrent, step.state, *kept)
        matrix = weights.recurrent[2 * dim :]
        if blocks.style == "library":
            library_product(scratch.reset_h, matrix, scratch.sums[: streams * dim].view(streams, -1))
        recurrent = step.recurrent(matrix, scratch)
        _launch(gru_update_kernel, weights, step, scratch, blocks, recurrent, *states, *kept)


def _launch(
    kernel: Any,
    weights: CellWeights,
    step: CellStep,
    scratch: CellScratch,
    blocks: Blocks,
    recurrent: Recurrent,
    *tensors: Tensor,
) -> None:
    streams = step.state.shape[0]
    launch(
        kernel,
        blocks.grid(streams, weights.dim),
        *step.place,
        streams,
        step.input(weights, scratch),
        recurrent,
        *tensors,
        D=weights.dim,
        FRAME_SIZE=step.frame_size,
        blocks=blocks,
        warps=blocks.warps,
        stages=blocks.stages,
    )

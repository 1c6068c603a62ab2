"""The CUDA implementations of `samplernn_fast.ops`."""

import torch
from torch import Tensor

from samplernn_fast.kernels.cells import CellScratch, CellStep, CellWeights, launch_cell
from samplernn_fast.kernels.clock import FIELDS, TOP_K, TOP_P, Place
from samplernn_fast.kernels.draw import launch_draw
from samplernn_fast.kernels.product import blocks_for, style_for
from samplernn_fast.kernels.sample_step import SampleInput, SampleScratch, launch_logits
from samplernn_fast.reference.draw import fraction_of, scales


def gru_cell(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    """One GRU step; `ops.gru_cell` says what the arguments are."""
    h, new_h = h.contiguous(), torch.empty_like(h, memory_format=torch.contiguous_format)
    streams, dim = h.shape
    weights = CellWeights(w_hh.contiguous(), None if b_n is None else b_n.contiguous())
    step = CellStep(state=h, new_state=new_h, hidden=h, new_hidden=new_h, conditioning=gates.contiguous())
    blocks = blocks_for(style_for(streams, w_hh.dtype), dim, dim, h.dtype, h.device, weights.gates)
    with torch.cuda.device_of(h):
        launch_cell(weights, step, CellScratch.make(streams, weights), blocks)
    return new_h


def sample_step(
    conditioning: Tensor,
    recent: Tensor,
    tables: Tensor,
    hidden: Tensor,
    hidden_bias: Tensor,
    output: Tensor,
    output_bias: Tensor,
    draw: Tensor,
    temperature: Tensor,
    top_k: int,
    top_p: float,
) -> Tensor:
    """One level of every stream; `ops.sample_step` says what the arguments are."""
    (streams, dim), (taps, q_levels, _) = conditioning.shape, tables.shape
    # Filled on the device, because a copy from the CPU could not be captured in a caller's CUDA graph.
    clock = torch.zeros(FIELDS, dtype=torch.int64, device=output.device)
    clock[TOP_K.value] = top_k
    clock[TOP_P.value] = fraction_of(top_p)
    conditioning, recent = conditioning.contiguous(), recent.contiguous()
    given = SampleInput(conditioning, conditioning.stride(0), conditioning.new_zeros(dim), tables.contiguous())
    scratch = SampleScratch.make(streams, dim, q_levels, output)
    layers = list(zip(hidden.contiguous(), hidden_bias.contiguous(), strict=True))
    levels = torch.full((streams, 1), -1, dtype=torch.int64, device=output.device)
    behind, here = Place(clock, taps, recent, recent.stride(0)), Place(clock, 0, levels, levels.stride(0))
    truncate = 0 < top_k < q_levels or top_p < 1
    with torch.cuda.device_of(output):
        launch_logits(behind, given, layers, output.contiguous(), scratch, style_for(streams, output.dtype))
        bias, draws = output_bias.contiguous(), draw.contiguous()
        launch_draw(here, scratch.logits, bias, draws, None, scales(temperature)[:, None], truncate)
    return levels[:, 0]

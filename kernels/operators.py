"""The CUDA implementations of `samplernn_fast.ops`."""

import torch
from torch import Tensor

from samplernn_fast.kernels.cells import CellInput, CellScratch, CellWeights, launch_cell
from samplernn_fast.kernels.clock import FIELDS, TOP_K, TOP_P
from samplernn_fast.kernels.draw import launch_draw
from samplernn_fast.kernels.products import blocks_for, style_for
from samplernn_fast.kernels.sample_step import SampleInput, SampleScratch, launch_logits


def gru_cell(gates: Tensor, h: Tensor, w_hh: Tensor, b_n: Tensor | None) -> Tensor:
    """As `ops.gru_cell`."""
    h, new = h.contiguous(), torch.empty_like(h, memory_format=torch.contiguous_format)
    weights = CellWeights(w_hh.contiguous(), None if b_n is None else b_n.contiguous())
    scratch = CellScratch.make(h.shape[0], weights)
    blocks = blocks_for(style_for(h.shape[0]), h.shape[1], h.shape[1], h.dtype, h.device, weights.gates)
    with torch.cuda.device_of(h):
        launch_cell(weights, CellInput(read=gates.contiguous()), h, new, 0, h, new, scratch, blocks)
    return new


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
    """As `ops.sample_step`."""
    (batch, dim), (taps, q_levels, _) = conditioning.shape, tables.shape
    clock = torch.zeros(FIELDS, dtype=torch.int64, device=output.device)
    clock[TOP_K.value] = top_k
    clock[TOP_P.value] = draw.fraction_of(top_p)
    given = SampleInput(
        clock=clock,
        offset=taps,
        levels=recent.contiguous(),
        conditioning=conditioning.contiguous(),
        up_bias=conditioning.new_zeros(dim),
        tables=tables.contiguous(),
    )
    scratch = SampleScratch.make(batch, dim, q_levels, output)
    layers = list(zip(hidden.contiguous(), hidden_bias.contiguous(), strict=True))
    levels = torch.full((batch, 1), -1, dtype=torch.int64, device=output.device)
    scales = draw.scales(temperature)[:, None]
    truncate = 0 < top_k < q_levels or top_p < 1
    with torch.cuda.device_of(output):
        launch_logits(given, layers, output.contiguous(), scratch, style_for(batch))
        bias, draw = output_bias.contiguous(), draw.contiguous()
        launch_draw(clock, 0, scratch.logits, bias, draw, draw, scales, levels, truncate)
    return levels[:, 0]

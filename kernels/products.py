"""The matrix product of every kernel here, in three styles, and how a launch is cut into blocks.

"vector"   one row of x at a time: each program reads its rows of W once from memory, then from its cache.
"tiles"    `tl.dot` on blocks of streams.
"library"  torch's product (cuBLAS) has been made before the launch, and the kernel is its epilogue.

In the first two a row's sums have one order, whatever stands beside it.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

STYLES = ("vector", "tiles", "library")
# Streams from which a style is used. Not yet measured on a GPU.
TILES_FROM, LIBRARY_FROM = 16, 128
# The interpreter walks programs one after another; two are enough to test that they do not disturb each other.
_INTERPRETED_PROGRAMS = 2


@dataclass(frozen=True)
class Blocks:
    """How one launch is cut: each program makes `rows` x `units` outputs, `k` inputs at a time, by `warps` warps that
    read up to `stages` blocks of inputs ahead."""

    style: str
    rows: int
    units: int
    k: int
    warps: int
    stages: int = 3

    def grid(self, batch: int, units: int) -> tuple[int, int]:
        """Programs along the units and along the streams; in style "vector" a program walks all streams."""
        return triton.cdiv(units, self.units), 1 if self.style == "vector" else triton.cdiv(batch, self.rows)


def style_for(batch: int) -> str:
    """The style that a number of streams takes."""
    return STYLES[(batch >= TILES_FROM) + (batch >= LIBRARY_FROM)]


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)


def blocks_for(style: str, units: int, inputs: int, dtype: torch.dtype, device: torch.device, gates: int = 1) -> Blocks:
    """Blocks for a product with `units` outputs of each gate and `inputs` inputs; the number of streams must not
    matter."""
    if style == "library":
        return Blocks(style, rows=4, units=128, k=16, warps=4)
    if interpreted():
        few = max(16, triton.next_power_of_2(triton.cdiv(units, _INTERPRETED_PROGRAMS)))
        return Blocks(style, rows=1 if style == "vector" else 32, units=few, k=64, warps=4)
    if style == "tiles" and inputs % 8:  # odd rows are read number by number: reading ahead would spill their addresses
        return Blocks(style, rows=16, units=16, k=64, warps=4, stages=1)
    if style == "tiles":
        # 64 inputs at a time would spill: of float32, whose products are made from registers without tensor cores, and
        # of a fourth gate.
        return Blocks(style, rows=32, units=16, k=32 if dtype == torch.float32 or gates > 3 else 64, warps=4)
    return vector_blocks(units, inputs, torch.cuda.get_device_properties(device).multi_processor_count)


def vector_blocks(units: int, inputs: int, programs: int) -> Blocks:
    """Blocks of style "vector" that keep about `programs` programs busy."""
    k = min(1024, max(16, triton.next_power_of_2(inputs)))
    fair = triton.next_power_of_2(triton.cdiv(units, programs))
    each = min(fair, max(1, 16384 // k))
    return Blocks("vector", rows=1, units=each, k=k, warps=8 if each * k > 4096 else 4)


def library_product(x: Tensor, w: Tensor, out: Tensor) -> None:
    """out (B, N) float32 = x (B, K) times w (N, K), both in the model's type; sums are float32."""
    if w.dtype == torch.float32:
        torch.mm(x, w.t(), out=out)
    elif x.is_cuda:
        torch.mm(x, w.t(), out_dtype=torch.float32, out=out)
    else:  # under the interpreter
        torch.mm(x.float(), w.float().t(), out=out)


@triton.jit
def product(
    x_ptr,
    x_row,
    w_ptr,
    w_row,
    sums_ptr,
    sums_row,
    rows,
    in_rows,
    units,
    in_units,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STYLE: tl.constexpr,
):
    """sum over k < K of x[row, k] w[unit, k]: (rows, units) float32. sums: what "library" made before."""
    if STYLE == "library":
        inside = in_rows[:, None] & in_units[None, :]
        out = tl.load(sums_ptr + rows[:, None] * sums_row + units[None, :], mask=inside, other=0.0)
    elif STYLE == "vector":
        sums = tl.zeros((units.shape[0], BLOCK_K), tl.float32)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            x = tl.load(x_ptr + rows[:, None] * x_row + k[None, :], mask=(k < K)[None, :], other=0.0)
            inside = in_units[:, None] & (k < K)[None, :]
            w = tl.load(w_ptr + units[:, None].to(tl.int64) * w_row + k[None, :], mask=inside, other=0.0)
            sums += x.to(tl.float32) * w.to(tl.float32)
        out = tl.sum(sums, axis=1)[None, :]
    else:
        out = tl.zeros((rows.shape[0], units.shape[0]), tl.float32)
        for start in range(0, K, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            inside = in_rows[:, None] & (k < K)[None, :]
            x = tl.load(x_ptr + rows[:, None] * x_row + k[None, :], mask=inside, other=0.0)
            inside = in_units[None, :] & (k < K)[:, None]
            w = tl.load(w_ptr + units[None, :].to(tl.int64) * w_row + k[:, None], mask=inside, other=0.0)
            out = tl.dot(x, w, out, input_precision="ieee")
    return out

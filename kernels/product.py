"""The matrix product of every kernel here, in three styles, and how a launch is divided among programs.

"vector"   A program multiplies one stream at a time: it reads its rows of W from memory once, then from its cache.
"tiles"    A program multiplies a tile of streams and units by `tl.dot`.
"library"  torch (cuBLAS) has made the product before the launch, and the kernel only reads it.

In the first two styles a stream's sums have one order, so its bits do not depend on the streams beside it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

STYLES = ("vector", "tiles", "library")
# Numbers of streams from which a style is used, as an H100 has measured them (docs/decisions/triton.md).
# Products in float32 are three in a tile, so that tiles win later.
TILES_FROM, TILES_FROM_IN_FLOAT32, LIBRARY_FROM = 8, 16, 128
# Programs of a launch in Triton's interpreter, which runs one after another. Two are enough for a test to notice that
# one of them overwrites the other's results.
_INTERPRETED_PROGRAMS = 2


@dataclass(frozen=True)
class Blocks:
    """How a launch is divided: a program makes `streams` x `units` outputs at a time, from `inputs` inputs at a time.
    It has `warps` warps and loads up to `stages` blocks of inputs ahead. precision: how `tl.dot` multiplies float32.

    Kernels take it as one constexpr. Its numbers may give a shape to `tl.full`, but not to `tl.zeros`, which fails with
    Triton 3.6 ("'int' object has no attribute 'type'").
    """

    style: str
    streams: int
    units: int
    inputs: int
    warps: int
    stages: int = 3
    precision: str = "ieee"

    def grid(self, streams: int, units: int) -> tuple[int, int]:
        """Programs along the units and along the streams; in style "vector" each program goes through all streams."""
        return triton.cdiv(units, self.units), 1 if self.style == "vector" else triton.cdiv(streams, self.streams)


def style_for(streams: int, dtype: torch.dtype) -> str:
    """The style for a number of streams and matrices of a type."""
    tiles_from = TILES_FROM_IN_FLOAT32 if dtype == torch.float32 else TILES_FROM
    return STYLES[(streams >= tiles_from) + (streams >= LIBRARY_FROM)]


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU."""
    return bool(triton.knobs.runtime.interpret)


def blocks_for(style: str, units: int, inputs: int, dtype: torch.dtype, device: torch.device, gates: int = 1) -> Blocks:
    """Blocks for a product with `units` outputs of each gate and `inputs` inputs. They do not depend on the number of
    streams, because a stream's bits must not."""
    if style == "library":
        return Blocks(style, streams=4, units=128, inputs=16, warps=4)
    if interpreted():
        few = max(16, triton.next_power_of_2(triton.cdiv(units, _INTERPRETED_PROGRAMS)))
        return Blocks(style, streams=1 if style == "vector" else 32, units=few, inputs=64, warps=4)
    if style == "tiles" and inputs % 8:
        # Such rows are not aligned to 16 bytes and are loaded number by number. Loading ahead would spill addresses.
        return Blocks(style, streams=16, units=16, inputs=64, warps=4, stages=1)
    if style == "tiles":
        # 64 inputs at a time spill registers in two cases: float32, whose numbers are split in two, and a cell
        # with a fourth gate.
        spills = dtype == torch.float32 or gates > 3
        # With 3 blocks loaded ahead, the assembler of Triton 3.6 saves registers in some cells at the price of spilling
        # a few. Another number avoids that on sm_80 and sm_90, and does not change the order of the sums.
        stages = 2 if gates > 3 else 4 if gates == 3 and not spills else 3
        # Three products of the tensor cores, of the upper and lower halves of both numbers, are as exact as one of
        # float32 and many times as fast.
        return Blocks(
            style, streams=32, units=16, inputs=32 if spills else 64, warps=4, stages=stages, precision="tf32x3"
        )
    return vector_blocks(units, inputs, torch.cuda.get_device_properties(device).multi_processor_count)


def vector_blocks(units: int, inputs: int, programs: int) -> Blocks:
    """Blocks of style "vector" that divide the units among about `programs` programs."""
    k = min(1024, max(16, triton.next_power_of_2(inputs)))
    fair = triton.next_power_of_2(triton.cdiv(units, programs))
    each = min(fair, max(1, 16384 // k))
    return Blocks("vector", streams=1, units=each, inputs=k, warps=8 if each * k > 4096 else 4)


def library_product(x: Tensor, w: Tensor, out: Tensor) -> None:
    """out (B, N) float32 = x (B, K) times w (N, K), both in the weights' type; sums are float32."""
    if w.dtype == torch.float32:
        torch.mm(x, w.t(), out=out)
    elif x.is_cuda:
        torch.mm(x, w.t(), out_dtype=torch.float32, out=out)
    else:  # This is the interpreter.
        torch.mm(x.float(), w.float().t(), out=out)


class Tile(NamedTuple):
    """The outputs that a program makes at once, inside a kernel: stream and unit hold indices, has_stream and has_unit
    are False for those beyond the last."""

    stream: Any
    has_stream: Any
    unit: Any
    has_unit: Any


@triton.jit
def tile_from(first_stream, streams, N, blocks: tl.constexpr):
    """The tile of this program whose first stream is `first_stream`, of `streams` x N outputs."""
    unit = tl.program_id(0) * blocks.units + tl.arange(0, blocks.units)
    stream = (first_stream + tl.arange(0, blocks.streams)).to(tl.int64)
    return Tile(stream, stream < streams, unit, unit < N)


@triton.jit
def outputs_of(tile):
    """(streams, units) bool: which outputs of a tile exist."""
    return tile.has_stream[:, None] & tile.has_unit[None, :]


@triton.jit
def product(
    x_ptr,
    x_stride,
    w_ptr,
    w_stride,
    sums_ptr,
    sums_stride,
    tile,
    K: tl.constexpr,
    blocks: tl.constexpr,
):
    """sum over k < K of x[stream, k] w[unit, k]: (streams, units) float32 of a tile. The strides are those of rows.
    sums (B, N) is this product as a library has made it before the launch, and is read in style "library" only."""
    if blocks.style == "library":
        out = tl.load(
            sums_ptr + tile.stream[:, None] * sums_stride + tile.unit[None, :], mask=outputs_of(tile), other=0.0
        )
    elif blocks.style == "vector":
        sums = tl.full((blocks.units, blocks.inputs), 0.0, tl.float32)
        for start in range(0, K, blocks.inputs):
            k = start + tl.arange(0, blocks.inputs)
            x = tl.load(x_ptr + tile.stream[:, None] * x_stride + k[None, :], mask=(k < K)[None, :], other=0.0)
            inside = tile.has_unit[:, None] & (k < K)[None, :]
            w = tl.load(w_ptr + tile.unit[:, None].to(tl.int64) * w_stride + k[None, :], mask=inside, other=0.0)
            sums += x.to(tl.float32) * w.to(tl.float32)
        out = tl.sum(sums, axis=1)[None, :]
    else:
        out = tl.full((blocks.streams, blocks.units), 0.0, tl.float32)
        for start in range(0, K, blocks.inputs):
            k = start + tl.arange(0, blocks.inputs)
            inside = tile.has_stream[:, None] & (k < K)[None, :]
            x = tl.load(x_ptr + tile.stream[:, None] * x_stride + k[None, :], mask=inside, other=0.0)
            inside = tile.has_unit[None, :] & (k < K)[:, None]
            w = tl.load(w_ptr + tile.unit[None, :].to(tl.int64) * w_stride + k[:, None], mask=inside, other=0.0)
            out = tl.dot(x, w, out, input_precision=blocks.precision)
    return out

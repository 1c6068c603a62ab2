"""The draw, bit for bit as `samplernn_fast.reference.draw` defines it: never contracted into fused multiply-adds."""

import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.kernels.clock import BAD, COLUMN, SEED, TIME, TOP_K, TOP_P
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.products import interpreted
from samplernn_fast.reference.draw import EXP2_COEFFICIENTS, WEIGHT_BITS

_C0, _C1, _C2, _C3, _C4, _C5 = (tl.constexpr(value) for value in EXP2_COEFFICIENTS)
_LARGEST_WEIGHT = tl.constexpr(1 << WEIGHT_BITS)


@triton.jit
def level_weights(
    logits_ptr, bias_ptr, rows, in_rows, q, Q, highest, scale, threshold1, last1, threshold2, last2,
):  # fmt: skip
    """Integer weights (rows, q) as `sampling.weights_ref`, 0 for what top-k (1) and top-p (2) leave out: all below a
    threshold, and of those equal to it the ones behind level `last`."""
    inside = in_rows[:, None] & (q < Q)[None, :]
    logits = tl.load(logits_ptr + rows[:, None] * Q + q[None, :], mask=inside, other=0.0)
    logits += tl.load(bias_ptr + q, mask=q < Q, other=0.0)[None, :]
    y = (logits - highest[:, None]) * scale[:, None]
    y = tl.where(y >= -24.0, y, -24.0)
    whole = tl.floor(y)
    f = y - whole
    power = f * _C5 + _C4
    power = power * f + _C3
    power = power * f + _C2
    power = power * f + _C1
    power = power * f + _C0
    weight = (power * 8388608.0).to(tl.int32) >> (-whole).to(tl.int32)
    for_level = q[None, :]
    keep1 = (weight > threshold1[:, None]) | ((weight == threshold1[:, None]) & (for_level <= last1[:, None]))
    keep2 = (weight > threshold2[:, None]) | ((weight == threshold2[:, None]) & (for_level <= last2[:, None]))
    return tl.where(inside & keep1 & keep2, weight, 0)


@triton.jit
def _share(fraction, total):
    """floor(fraction * total / 2^32) of a 32-bit fraction and a total below 2^47."""
    return ((fraction >> 16) * total + (((fraction & 0xFFFF) * total) >> 16)) >> 16


@triton.jit
def _mass(
    logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, threshold2, last2, least,
    COUNT: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Sum, or COUNT, of the weights that are at least `least` (rows,): (rows,) int64."""
    total = tl.zeros((rows.shape[0],), tl.int64)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        weight = level_weights(
            logits_ptr, bias_ptr, rows, in_rows, q, Q, highest, scale, threshold1, last1, threshold2, last2
        )
        reached = weight >= least[:, None]
        total += tl.sum(tl.where(reached, 1 if COUNT else weight, 0).to(tl.int64), axis=1)
    return total


@triton.jit
def _level_of_rank(
    logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, threshold2, last2, equal_to, rank,
    EQUAL: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """The first level whose inclusive prefix sum exceeds `rank` (rows,): of the weights, or of a 1 for each weight that
    is EQUAL to `equal_to`. (rows,) int32."""
    before = tl.zeros((rows.shape[0],), tl.int64)
    level = tl.zeros((rows.shape[0],), tl.int32)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        weight = level_weights(
            logits_ptr, bias_ptr, rows, in_rows, q, Q, highest, scale, threshold1, last1, threshold2, last2
        )
        if EQUAL:
            weight = tl.where((weight == equal_to[:, None]) & (q < Q)[None, :], 1, 0)
        prefix = before[:, None] + tl.cumsum(weight.to(tl.int64), axis=1)
        level += tl.sum(((prefix <= rank[:, None]) & (q < Q)[None, :]).to(tl.int32), axis=1)
        before += tl.sum(weight.to(tl.int64), axis=1)
    return level


@triton.jit
def _threshold(
    logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, target,
    COUNT: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """(threshold, last) that keep the largest weights until they reach `target` (rows,) in number or in mass: the
    largest threshold at which those above or equal do, and the last of the equal ones that is needed."""
    nothing = tl.full((rows.shape[0],), -1, tl.int32)
    threshold = tl.zeros((rows.shape[0],), tl.int32)
    bit = tl.full((rows.shape[0],), _LARGEST_WEIGHT, tl.int32)
    for _ in range(24):
        candidate = threshold | bit
        reached = _mass(
            logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, nothing, nothing, candidate,
            COUNT, BLOCK_Q,
        )  # fmt: skip
        threshold = tl.where(reached >= target, candidate, threshold)
        bit = bit >> 1
    above = _mass(
        logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, nothing, nothing, threshold + 1,
        COUNT, BLOCK_Q,
    )  # fmt: skip
    each = tl.full((rows.shape[0],), 1, tl.int64) if COUNT else tl.maximum(threshold, 1).to(tl.int64)
    ties = (target - above + each - 1) // each
    last = _level_of_rank(
        logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, nothing, nothing, threshold,
        ties - 1, True, BLOCK_Q,
    )  # fmt: skip
    return threshold, last


@triton.jit(do_not_specialize=["offset", "scales_row", "levels_row", "batch"])
def draw_kernel(
    clock_ptr,
    offset,
    logits_ptr,
    bias_ptr,
    draws_ptr,
    streams_ptr,
    scales_ptr,
    scales_row,
    levels_ptr,
    levels_row,
    batch,
    Q: tl.constexpr,
    PHILOX: tl.constexpr,
    TRUNCATE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """A level for every stream whose level at this time is negative, from logits (B, Q) + bias (Q,).

    draws (B,) int64 below 2^32, or, with PHILOX, made here from the clock's seed, the streams' numbers (B,) and the
    time. scales (B, ...) float32 as `sampling.scales`, in the columns of the levels; 0 takes the likeliest. TRUNCATE:
    the clock's top-k and top-p are applied. Where a logit is not finite the level is 0 and the clock is marked.
    """
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    in_rows = rows < batch
    column = tl.load(clock_ptr + COLUMN) + offset
    scale = tl.load(scales_ptr + rows * scales_row + column, mask=in_rows, other=0.0)

    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    best = tl.full((ROWS,), 0, tl.int32)
    missing = tl.full((ROWS,), 0, tl.int32)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        inside = in_rows[:, None] & (q < Q)[None, :]
        logits = tl.load(logits_ptr + rows[:, None] * Q + q[None, :], mask=inside, other=float("-inf"))
        logits += tl.load(bias_ptr + q, mask=q < Q, other=0.0)[None, :]
        missing += tl.sum((logits != logits).to(tl.int32), axis=1)
        here = tl.max(tl.where(logits == logits, logits, float("-inf")), axis=1)
        at = tl.min(tl.where(logits == here[:, None], q[None, :], Q), axis=1)
        best = tl.where(here > highest, at, best)
        highest = tl.maximum(highest, here)
    bad = (missing > 0) | (highest == float("inf")) | (highest == float("-inf"))

    threshold1 = tl.full((ROWS,), -1, tl.int32)
    last1 = threshold1
    threshold2 = threshold1
    last2 = threshold1
    if TRUNCATE:
        top_k = tl.load(clock_ptr + TOP_K)
        if (top_k > 0) & (top_k < Q):
            target = tl.zeros((ROWS,), tl.int64) + top_k
            threshold1, last1 = _threshold(
                logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, target, True, BLOCK_Q
            )
        top_p = tl.load(clock_ptr + TOP_P)
        if top_p < 4294967296:
            total = _mass(
                logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, threshold2, last2,
                threshold2, False, BLOCK_Q,
            )  # fmt: skip
            target = tl.maximum(_share(top_p, total), 1)
            threshold2, last2 = _threshold(
                logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, target, False, BLOCK_Q
            )
    total = _mass(
        logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, threshold2, last2,
        tl.zeros((ROWS,), tl.int32), False, BLOCK_Q,
    )  # fmt: skip
    if PHILOX:
        t = tl.load(clock_ptr + TIME) + offset
        stream = tl.load(streams_ptr + rows, mask=in_rows, other=0).to(tl.uint32)
        zero = stream - stream
        low = zero + (t & 0xFFFFFFFF).to(tl.uint32)
        high = zero + (t >> 32).to(tl.uint32)
        draw, _, _, _ = tl.philox(tl.load(clock_ptr + SEED), low, high, stream, zero)
        draw = draw.to(tl.int64)
    else:
        draw = tl.load(draws_ptr + rows, mask=in_rows, other=0)
    drawn = _level_of_rank(
        logits_ptr, bias_ptr, rows, in_rows, Q, highest, scale, threshold1, last1, threshold2, last2, threshold1,
        _share(draw, total), False, BLOCK_Q,
    )  # fmt: skip
    level = tl.where(bad, 0, tl.where(scale == 0, best, drawn))
    place = levels_ptr + rows * levels_row + column
    free = in_rows & (tl.load(place, mask=in_rows, other=0) < 0)
    tl.store(place, level, mask=free)
    tl.store(clock_ptr + BAD + rows * 0, tl.full((ROWS,), 1, tl.int64), mask=free & bad)


def launch_draw(
    clock: Tensor,
    offset: int,
    logits: Tensor,
    bias: Tensor,
    draws: Tensor | None,
    streams: Tensor,
    scales: Tensor,
    levels: Tensor,
    truncate: bool,
) -> None:
    """Draw a level for every row of logits (B, Q) whose level is negative: draws (B,), or Philox where they are None;
    scales, levels (B, columns) at the clock's column + offset."""
    batch, q_levels = logits.shape
    block = min(1024, triton.next_power_of_2(q_levels))  # more at once spill the thresholds
    rows = 1 if not interpreted() else min((1 << 18) // block, triton.next_power_of_2(batch))
    launch(
        draw_kernel,
        (triton.cdiv(batch, rows),),
        clock,
        offset,
        logits,
        bias,
        streams if draws is None else draws,
        streams,
        scales,
        scales.stride(0),
        levels,
        levels.stride(0),
        batch,
        Q=q_levels,
        PHILOX=draws is None,
        TRUNCATE=truncate,
        ROWS=rows,
        BLOCK_Q=block,
        warps=max(1, min(4, block // 256)),
        fuse=False,
    )

"""The draw, bit for bit as `samplernn_fast.reference.draw` defines it. It is compiled without fused multiply-adds."""

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from samplernn_fast.kernels.clock import BAD, SEED, TIME, TOP_K, TOP_P, Place, column_of
from samplernn_fast.kernels.launch import launch
from samplernn_fast.kernels.product import interpreted
from samplernn_fast.reference.draw import EXP2_COEFFICIENTS, WEIGHT_BITS

_C0, _C1, _C2, _C3, _C4, _C5 = (tl.constexpr(value) for value in EXP2_COEFFICIENTS)
_LARGEST_WEIGHT = tl.constexpr(1 << WEIGHT_BITS)


class Logits(NamedTuple):
    """Logits of some streams, inside a kernel: pointers to logits (B, Q) and bias (Q,), indices of streams and which of
    them exist, each stream's largest logit and its scale (`reference.draw.scales`)."""

    ptr: Any
    bias_ptr: Any
    stream: Any
    has_stream: Any
    highest: Any
    scale: Any


class Cut(NamedTuple):
    """Which weights of a stream a truncation keeps: those above the threshold, and of those equal to it the ones up to
    level `last`. A threshold of -1 keeps all."""

    threshold: Any
    last: Any


@triton.jit
def level_weights(logits, cut1, cut2, q, Q):
    """Integer weights (streams, q), as `reference.draw.weights_ref` defines them; 0 where top-k (cut1) or top-p (cut2)
    leaves a level out."""
    inside = logits.has_stream[:, None] & (q < Q)[None, :]
    logit = tl.load(logits.ptr + logits.stream[:, None] * Q + q[None, :], mask=inside, other=0.0)
    logit += tl.load(logits.bias_ptr + q, mask=q < Q, other=0.0)[None, :]
    y = (logit - logits.highest[:, None]) * logits.scale[:, None]
    y = tl.where(y >= -24.0, y, -24.0)
    whole = tl.floor(y)
    f = y - whole
    power = f * _C5 + _C4
    power = power * f + _C3
    power = power * f + _C2
    power = power * f + _C1
    power = power * f + _C0
    weight = (power * 8388608.0).to(tl.int32) >> (-whole).to(tl.int32)
    return tl.where(inside & _is_kept(cut1, weight, q) & _is_kept(cut2, weight, q), weight, 0)


@triton.jit
def _is_kept(cut, weight, q):
    """(streams, q) bool."""
    threshold = cut.threshold[:, None]
    return (weight > threshold) | ((weight == threshold) & (q[None, :] <= cut.last[:, None]))


@triton.jit
def _share(fraction, total):
    """floor(fraction * total / 2^32) of a 32-bit fraction and a total below 2^47."""
    return ((fraction >> 16) * total + (((fraction & 0xFFFF) * total) >> 16)) >> 16


@triton.jit
def _mass(logits, cut1, cut2, least, Q, COUNT: tl.constexpr, BLOCK_Q: tl.constexpr):
    """Sum, or with COUNT the number, of the weights that are at least `least` (streams,): (streams,) int64."""
    total = tl.zeros((logits.stream.shape[0],), tl.int64)
    for start in range(0, Q, BLOCK_Q):
        weight = level_weights(logits, cut1, cut2, start + tl.arange(0, BLOCK_Q), Q)
        reached = weight >= least[:, None]
        total += tl.sum(tl.where(reached, 1 if COUNT else weight, 0).to(tl.int64), axis=1)
    return total


@triton.jit
def _level_of_rank(logits, cut1, cut2, equal_to, rank, Q, EQUAL: tl.constexpr, BLOCK_Q: tl.constexpr):
    """The first level whose inclusive prefix sum exceeds `rank` (streams,): (streams,) int32. It is the sum of the
    weights, or with EQUAL of a 1 for each weight that equals `equal_to` (streams,)."""
    before = tl.zeros((logits.stream.shape[0],), tl.int64)
    level = tl.zeros((logits.stream.shape[0],), tl.int32)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        weight = level_weights(logits, cut1, cut2, q, Q)
        if EQUAL:
            weight = tl.where((weight == equal_to[:, None]) & (q < Q)[None, :], 1, 0)
        prefix = before[:, None] + tl.cumsum(weight.to(tl.int64), axis=1)
        level += tl.sum(((prefix <= rank[:, None]) & (q < Q)[None, :]).to(tl.int32), axis=1)
        before += tl.sum(weight.to(tl.int64), axis=1)
    return level


@triton.jit
def _cut_at(logits, cut, target, Q, COUNT: tl.constexpr, BLOCK_Q: tl.constexpr):
    """The cut that keeps the largest weights, of those that `cut` keeps, until they reach `target` (streams,) in number
    (COUNT) or in sum. The threshold is found bit by bit: it is the largest at which the weights from it on reach the
    target."""
    nothing = tl.full((logits.stream.shape[0],), -1, tl.int32)
    no_cut = Cut(nothing, nothing)
    threshold = tl.zeros((logits.stream.shape[0],), tl.int32)
    bit = tl.full((logits.stream.shape[0],), _LARGEST_WEIGHT, tl.int32)
    for _ in range(24):
        candidate = threshold | bit
        reached = _mass(logits, cut, no_cut, candidate, Q, COUNT, BLOCK_Q)
        threshold = tl.where(reached >= target, candidate, threshold)
        bit = bit >> 1
    above = _mass(logits, cut, no_cut, threshold + 1, Q, COUNT, BLOCK_Q)
    each = tl.full((logits.stream.shape[0],), 1, tl.int64) if COUNT else tl.maximum(threshold, 1).to(tl.int64)
    ties = (target - above + each - 1) // each
    return Cut(threshold, _level_of_rank(logits, cut, no_cut, threshold, ties - 1, Q, True, BLOCK_Q))


@triton.jit
def _philox_draw(clock_ptr, offset, stream_number):
    """One 32-bit number for each stream, as int64, from the clock's seed, the numbers (streams,) and the time."""
    t = tl.load(clock_ptr + TIME) + offset
    stream_number = stream_number.to(tl.uint32)
    zero = stream_number - stream_number
    low = zero + (t & 0xFFFFFFFF).to(tl.uint32)
    high = zero + (t >> 32).to(tl.uint32)
    draw, _, _, _ = tl.philox(tl.load(clock_ptr + SEED), low, high, stream_number, zero)
    return draw.to(tl.int64)


@triton.jit
def _likeliest(logits_ptr, bias_ptr, stream, has_stream, Q, BLOCK_Q: tl.constexpr):
    """(level of the largest logit, that logit, whether a logit is not finite), each (streams,)."""
    highest = tl.full((stream.shape[0],), float("-inf"), tl.float32)
    best = tl.full((stream.shape[0],), 0, tl.int32)
    missing = tl.full((stream.shape[0],), 0, tl.int32)
    for start in range(0, Q, BLOCK_Q):
        q = start + tl.arange(0, BLOCK_Q)
        inside = has_stream[:, None] & (q < Q)[None, :]
        logit = tl.load(logits_ptr + stream[:, None] * Q + q[None, :], mask=inside, other=float("-inf"))
        logit += tl.load(bias_ptr + q, mask=q < Q, other=0.0)[None, :]
        missing += tl.sum((logit != logit).to(tl.int32), axis=1)
        here = tl.max(tl.where(logit == logit, logit, float("-inf")), axis=1)
        at = tl.min(tl.where(logit == here[:, None], q[None, :], Q), axis=1)
        best = tl.where(here > highest, at, best)
        highest = tl.maximum(highest, here)
    return best, highest, (missing > 0) | (highest == float("inf")) | (highest == float("-inf"))


@triton.jit(do_not_specialize=["offset", "levels_stride", "streams", "scales_stride"])
def draw_kernel(
    clock_ptr,
    offset,
    levels_ptr,
    levels_stride,
    streams,
    logits_ptr,
    bias_ptr,
    draws_ptr,
    stream_numbers_ptr,
    scales_ptr,
    scales_stride,
    Q: tl.constexpr,
    TRUNCATE: tl.constexpr,
    STREAMS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """Draw a level for every stream whose level at this place is negative, from logits (B, Q) + bias (Q,).

    draws (B,) int64 are 32-bit random numbers; where they are None, Philox makes them from the clock's seed and time
    and from stream_numbers (B,). scales (B, columns) float32 are `reference.draw.scales`, in the columns of the levels;
    scale 0 takes the likeliest level. TRUNCATE: whether the clock's top-k and top-p are applied. A stream with a logit
    that is not finite gets level 0 and sets the clock's flag. A program draws for STREAMS streams and reads BLOCK_Q
    levels at a time.
    """
    place = Place(clock_ptr, offset, levels_ptr, levels_stride)
    stream = (tl.program_id(0) * STREAMS + tl.arange(0, STREAMS)).to(tl.int64)
    has_stream = stream < streams
    column = column_of(place)
    scale = tl.load(scales_ptr + stream * scales_stride + column, mask=has_stream, other=0.0)
    best, highest, bad = _likeliest(logits_ptr, bias_ptr, stream, has_stream, Q, BLOCK_Q)
    logits = Logits(logits_ptr, bias_ptr, stream, has_stream, highest, scale)

    nothing = tl.full((STREAMS,), -1, tl.int32)
    cut1, cut2 = Cut(nothing, nothing), Cut(nothing, nothing)
    if TRUNCATE:
        top_k = tl.load(clock_ptr + TOP_K)
        if (top_k > 0) & (top_k < Q):
            cut1 = _cut_at(logits, cut1, tl.zeros((STREAMS,), tl.int64) + top_k, Q, True, BLOCK_Q)
        top_p = tl.load(clock_ptr + TOP_P)
        if top_p < 4294967296:
            total = _mass(logits, cut1, cut2, nothing, Q, False, BLOCK_Q)
            cut2 = _cut_at(logits, cut1, tl.maximum(_share(top_p, total), 1), Q, False, BLOCK_Q)
    total = _mass(logits, cut1, cut2, tl.zeros((STREAMS,), tl.int32), Q, False, BLOCK_Q)
    if draws_ptr is None:
        draw = _philox_draw(clock_ptr, offset, tl.load(stream_numbers_ptr + stream, mask=has_stream, other=0))
    else:
        draw = tl.load(draws_ptr + stream, mask=has_stream, other=0)
    drawn = _level_of_rank(logits, cut1, cut2, nothing, _share(draw, total), Q, False, BLOCK_Q)
    level = tl.where(bad, 0, tl.where(scale == 0, best, drawn))
    level_ptr = levels_ptr + stream * levels_stride + column
    free = has_stream & (tl.load(level_ptr, mask=has_stream, other=0) < 0)
    tl.store(level_ptr, level, mask=free)
    tl.store(clock_ptr + BAD + stream * 0, tl.full((STREAMS,), 1, tl.int64), mask=free & bad)


def launch_draw(
    place: Place,
    logits: Tensor,
    bias: Tensor,
    draws: Tensor | None,
    stream_numbers: Tensor | None,
    scales: Tensor,
    truncate: bool,
) -> None:
    """Draw a level at a place for every stream whose level there is negative. logits (B, Q); draws (B,) are given, or
    stream_numbers (B,) for Philox; scales (B, columns) beside place.levels."""
    streams, q_levels = logits.shape
    block = min(1024, triton.next_power_of_2(q_levels))  # with more levels at a time the search for a cut spills
    each = 1 if not interpreted() else min((1 << 18) // block, triton.next_power_of_2(streams))
    launch(
        draw_kernel,
        (triton.cdiv(streams, each),),
        *place,
        streams,
        logits,
        bias,
        draws,
        stream_numbers,
        scales,
        scales.stride(0),
        Q=q_levels,
        TRUNCATE=truncate,
        STREAMS=each,
        BLOCK_Q=block,
        warps=max(1, min(4, block // 256)),
        fuse=False,
    )

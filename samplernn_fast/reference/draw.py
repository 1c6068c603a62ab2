"""The draw: from logits and a 32-bit number to a level, an integer inverse CDF with temperature, top-k and top-p.

Equal logits and equal draws give the equal level on every backend: after one fixed float32 polynomial everything
is integer arithmetic, and integer sums have no order. `csrc/model/draw.h` is the C++ twin; `randomness` makes the
32-bit numbers.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from samplernn_fast.errors import NotFinite

WEIGHT_BITS = 23
"""The bits of the largest weight, 2^23."""
# The polynomial of degree 5 for 2^f on [0, 1] that is exact at both ends and has the least relative error (8.3e-8).
# Its Horner steps in float32, each rounded, are the definition: never refit, contract or reorder them.
EXP2_COEFFICIENTS = (
    1.0,
    0.6931520700454712,
    0.24015720188617706,
    0.05582338199019432,
    0.0089864581823349,
    0.001880902680568397,
)


@contextmanager
def finite_logits(levels: Tensor, q_levels: int) -> Iterator[None]:
    """Raises NotFinite for an IndexError in the block where one of `levels` is Q: logits that are not finite give that
    level, which indexes no table. Any other IndexError is a mistake and stays what it is."""
    try:
        yield
    except IndexError:
        if not bool((levels >= q_levels).any()):
            raise
        raise NotFinite("a logit is not a finite number") from None


def scales(temperature: Tensor) -> Tensor:
    """What logits are multiplied by before the power of two, log2(e) / T in float32; 0 where the temperature is 0."""
    return torch.where(temperature == 0, 0.0, math.log2(math.e) / temperature.double()).float()


def fraction_of(top_p: float) -> int:
    """top_p in units of 2^-32, which is what the integer sums know; 2^32 is off."""
    return int(top_p * 2**32)


def weights_ref(logits: Tensor, temperature: Tensor) -> Tensor:
    """Integer weights floor(2^23 * 2^((l - max) log2(e) / T)) of float32 logits (B, Q): (B, Q) int64, T > 0 (B,)."""
    fraction = (logits - logits.amax(dim=1, keepdim=True)).mul_(scales(temperature)[:, None]).clamp_(min=-25.0)
    whole = fraction.floor()
    fraction.sub_(whole)
    power = torch.full_like(fraction, EXP2_COEFFICIENTS[5])
    for coefficient in EXP2_COEFFICIENTS[4::-1]:
        power.mul_(fraction).add_(coefficient)
    # Exact: the power has 23 bits after the point. It reaches 2 only where `whole` is below 0.
    return power.mul_(float(1 << WEIGHT_BITS)).long() >> whole.neg_().long()


def multiply_high(draw: Tensor, total: Tensor) -> Tensor:
    """floor(draw * total / 2^32) for a 32-bit draw and a total below 2^47, exact in int64."""
    return ((draw >> 16) * total + (((draw & 0xFFFF) * total) >> 16)) >> 16


def truncate_ref(weights: Tensor, top_k: int, top_p: float) -> Tensor:
    """Weights (B, Q), 0 outside the top_k largest and then the top_p nucleus. Ties: lowest level first."""
    if not (0 < top_k < weights.shape[1]) and top_p >= 1:
        return weights
    ordered, order = torch.sort(weights, dim=1, descending=True, stable=True)
    if 0 < top_k < weights.shape[1]:
        ordered[:, top_k:] = 0
    if top_p < 1:
        share = torch.tensor(fraction_of(top_p), dtype=torch.int64, device=weights.device)
        target = multiply_high(share, ordered.sum(dim=1))
        before = ordered.cumsum(dim=1) - ordered
        keep = before < target[:, None]
        keep[:, 0] = True
        ordered = ordered * keep
    return torch.zeros_like(weights).scatter_(1, order, ordered)


def sample_ref(logits: Tensor, draw: Tensor, temperature: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Draw one level a stream: logits (B, Q), draw (B,) int64 below 2^32, temperature (B,) -> levels (B,) int64.

    The first level whose inclusive prefix sum of integer weights exceeds floor(draw * total / 2^32).
    Temperature 0 takes the likeliest level, the lowest where several are equal. top_k 0 and top_p 1 are off.
    """
    logits = logits.float()
    greedy = temperature == 0
    weights = weights_ref(logits, torch.where(greedy, 1.0, temperature))
    prefix = truncate_ref(weights, top_k, top_p).cumsum(dim=1)
    threshold = multiply_high(draw, prefix[:, -1])
    levels = torch.searchsorted(prefix, threshold[:, None], right=True)[:, 0]
    return torch.where(greedy, logits.argmax(dim=1), levels)

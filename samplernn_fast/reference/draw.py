"""Randomness and the draw: counter-based Philox, and an integer inverse CDF with temperature, top-k and top-p.

Equal logits and equal draws give the equal level on every backend: after one fixed float32 polynomial everything
is integer arithmetic, and integer sums have no order. `csrc/model/philox.h` and `csrc/model/draw.h` are the C++ twins.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

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
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 (Salmon et al. 2011): counter (..., 4) uint32 -> (..., 4) uint32."""
    words = [counter[..., word].astype(np.uint64) for word in range(4)]
    keys = list(key)
    for _ in range(10):
        product0, product1 = (words[2 * i] * np.uint64(_PHILOX_MULTIPLIERS[i]) for i in range(2))
        words = [
            (product1 >> _SHIFT) ^ words[1] ^ np.uint64(keys[0]),
            product1 & _LOW,
            (product0 >> _SHIFT) ^ words[3] ^ np.uint64(keys[1]),
            product0 & _LOW,
        ]
        keys = [(keys[i] + _PHILOX_KEY_STEPS[i]) & 0xFFFFFFFF for i in range(2)]
    return np.stack(words, axis=-1).astype(np.uint32)


def random_words(seed: int, streams: np.ndarray, start: int, steps: int) -> np.ndarray:
    """Four random words for samples start .. start + steps - 1 of every stream: (B, steps, 4) uint32.

    seed: 64 bits, the key. streams: (B,) numbers below 2^32. The counter is (t low, t high, stream, 0), so the words
    depend on (seed, stream, t) alone.
    """
    times = start + np.arange(steps, dtype=np.uint64)
    counter = np.zeros((len(streams), steps, 4), dtype=np.uint32)
    counter[..., 0] = times & _LOW
    counter[..., 1] = times >> _SHIFT
    counter[..., 2] = np.asarray(streams, dtype=np.uint32)[:, None]
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))


def draws(seed: int, streams: np.ndarray, start: int, steps: int) -> Tensor:
    """The 32-bit draws of samples start .. start + steps - 1 of every stream, which are the first of `random_words`:
    (B, steps) int64 in [0, 2^32)."""
    return torch.from_numpy(random_words(seed, streams, start, steps)[..., 0].astype(np.int64))


@dataclass(frozen=True, eq=False)
class Randomness:
    """What every draw of a call depends on besides the time. It is small enough to be handed to a GPU, which draws
    there."""

    seed: int
    """64 bits, one for all streams."""
    streams: np.ndarray
    """(B,) uint32: the number of each stream."""

    def draws(self, start: int, steps: int) -> Tensor:
        """The draws of samples start .. start + steps - 1 of every stream: (B, steps) int64 below 2^32, on the CPU."""
        return draws(self.seed, self.streams, start, steps)

    def words(self, start: int, steps: int) -> Tensor:
        """All four random words of every sample, of which `draws` has the first: (B, steps, 4) int64 below 2^32, on the
        CPU."""
        return torch.from_numpy(random_words(self.seed, self.streams, start, steps).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Drawing:
    """How the samples of one call are drawn, by whichever backend: randomness, temperature, and what is left out."""

    randomness: Randomness
    temperature: Tensor
    """(B, n) float32, one for every sample; 0 takes the likeliest level."""
    top_k: int = 0
    """Draw from the k likeliest levels; 0 is off."""
    top_p: float = 1.0
    """Draw from the likeliest levels that together have this probability; 1 is off."""

    @classmethod
    def unused(cls, levels: Tensor) -> "Drawing":
        """The drawing of known levels (B, n), none of which is drawn."""
        streams = np.zeros(levels.shape[0], np.uint32)
        return cls(Randomness(0, streams), torch.ones(levels.shape, device=levels.device))

    def slice(self, start: int, stop: int) -> "Drawing":
        """The drawing of the samples from the start-th up to the stop-th."""
        return replace(self, temperature=self.temperature[:, start:stop])

    def of_rows(self, rows: Sequence[int], steps: int) -> "Drawing":
        """The drawing of the first samples of some rows of the batch alone, on the CPU."""
        chosen = list(rows)
        some = Randomness(self.randomness.seed, self.randomness.streams[chosen])
        return Drawing(some, self.temperature[chosen, :steps].cpu(), self.top_k, self.top_p)


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
    """Draw one level a stream: logits (B, Q), draw (B,) from `draws`, temperature (B,) -> levels (B,) int64.

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

"""A mixture of Gaussians as the output of a network: its density, and the probability of the 256 linear levels.

Letters: K components. A network gives 3 K numbers for a sample, (..., 3 K): K logits of the weights, K means and K raw
scales, all in units of the normalised signal (amplitude - mean) / std.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, softplus
from torch.special import log_ndtr

_LEVELS = 256  # The paper's other systems have so many, and `level_nats` measures among these.
_MOST_SCALE = 1e6  # standard deviations of the signal; where a level is far narrower, its probability is rounded to 0
_FAR = 1e100  # an edge beyond every sample, but finite, so that no gradient is infinity times zero


class Mixture(NamedTuple):
    """K Gaussians for each sample: tensors (..., K)."""

    log_weights: Tensor
    """Natural logarithms of the weights, which sum to 1."""
    means: Tensor
    scales: Tensor
    """Standard deviations."""


class MixtureLayer(nn.Linear):
    """The output layer of a mixture. It computes in float32 under autocast too: a mean in bfloat16 has 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> (..., 3 K)."""
        with torch.autocast(x.device.type, enabled=False):
            return linear(x.to(self.weight.dtype), self.weight, self.bias)


def mixture_of(outputs: Tensor, scale_floor: float) -> Mixture:
    """The mixture that outputs (..., 3 K) of a network stand for.

    Scales are scale_floor + softplus(raw), and `_MOST_SCALE` at most.
    """
    logits, means, raw = outputs.chunk(3, dim=-1)
    return Mixture(log_softmax(logits, dim=-1), means, (scale_floor + softplus(raw)).clamp(max=_MOST_SCALE))


def density_nats(mixture: Mixture, values: Tensor) -> Tensor:
    """The negative log-density, in nats, of values (...) of the normalised signal -> (...). It can be negative."""
    z = (values[..., None] - mixture.means) / mixture.scales
    logs = mixture.log_weights - 0.5 * z * z - mixture.scales.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(logs, dim=-1)


def level_nats(mixture: Mixture, levels: Tensor, mean: float, std: float) -> Tensor:
    """The negative log-probability, in nats, of the 256 linear levels (...) -> (...); in float64.

    A level of `audio.laws` is an interval of amplitudes around (level - 128) / 128, one 128th wide; the outermost two
    have no outer bound, as amplitudes beyond them are clipped. mean, std: of the normalised signal.
    """
    levels = levels.double()
    low = ((levels - 128.5) / 128 - mean) / std
    high = ((levels - 127.5) / 128 - mean) / std
    low = torch.where(levels == 0, -_FAR, low)[..., None]
    high = torch.where(levels == _LEVELS - 1, _FAR, high)[..., None]
    a, b = (low - mixture.means) / mixture.scales, (high - mixture.means) / mixture.scales
    # Behind the mean both distribution functions are close to 1, so the interval is mirrored to before it.
    mirrored = a + b > 0
    a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    below, up_to = log_ndtr(a), log_ndtr(b)
    logs = mixture.log_weights + up_to + torch.log(-torch.expm1(below - up_to))
    return -torch.logsumexp(logs, dim=-1)


def linear_level(levels: Tensor) -> Tensor:
    """The one of the 256 linear levels in which 16-bit levels (...) lie: floor(x 128 + 0.5) + 128, clipped."""
    return ((levels + 128) >> 8).clamp(max=_LEVELS - 1)

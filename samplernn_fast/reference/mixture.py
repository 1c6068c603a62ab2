"""The draw from a mixture of Gaussians: the definition, in float64.

The random words are those of `draw`: Philox with the counter (t low, t high, stream, 0). Letters: B streams,
K components, T temperature.
"""

import math

import torch
from torch import Tensor

from samplernn_fast.models.layers.mixture import mixture_of
from samplernn_fast.models.other_configs import MixtureConfig
from samplernn_fast.reference.draw import sample_ref


def draw_mixture(outputs: Tensor, words: Tensor, temperature: Tensor, config: MixtureConfig) -> Tensor:
    """Draw one 16-bit level a stream: outputs (B, 3 K), words (B, 4) from `Randomness.words`, temperature (B,) ->
    levels (B,) int64.

    Word 0 chooses the component by `sample_ref` from the logarithms of the weights, at temperature T. Words 1 and 2
    make a standard Gaussian z by the method of Box and Muller. The value is mean + sqrt(T) scale z, because the density
    of a Gaussian to the power 1/T is that of a Gaussian with T times the variance; at T = 0 it is the mean of the
    likeliest component. The value becomes an amplitude, and that the nearest level, clipped. Where the outputs are not
    finite the level is Q, which an engine reports.
    """
    log_weights, means, scales = mixture_of(outputs.double(), config.scale_floor)
    component = sample_ref(log_weights, words[:, 0], temperature).clamp(0, config.components - 1)[:, None]
    mean, scale = means.gather(1, component)[:, 0], scales.gather(1, component)[:, 0]
    value = mean + temperature.double().sqrt() * scale * gaussian(words[:, 1], words[:, 2])
    finite = torch.isfinite(outputs).all(dim=1)
    return torch.where(finite, nearest_level(value, config), config.q_levels)


def gaussian(first: Tensor, second: Tensor) -> Tensor:
    """Standard Gaussians of two 32-bit words (...) each: sqrt(-2 ln u1) cos(2 pi u2) in float64, where
    u1 = (first + 1) / 2^32 is never 0, and u2 = second / 2^32."""
    radius = (-2 * ((first.double() + 1) / 2**32).log()).sqrt()
    return radius * (2 * math.pi * (second.double() / 2**32)).cos()


def nearest_level(values: Tensor, config: MixtureConfig) -> Tensor:
    """The 16-bit level nearest to each value (...) of the normalised signal: (...) int64."""
    amplitudes = values * config.deviation + config.mean
    levels = (amplitudes * 32768 + 0.5).floor() + 32768
    return levels.nan_to_num().clamp(0, 65535).long()

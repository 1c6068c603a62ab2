"""SampleRNN-GMM and RNN-GMM: systems that predict a mixture of Gaussians over real values (section 2.2.1, Table 2).

The letters of shapes are those of `sample_rnn`, and K components.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from samplernn_fast.audio import quantize
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import TieredConfig
from samplernn_fast.models.layers.mixture import MixtureLayer, density_nats, level_nats, linear_level, mixture_of
from samplernn_fast.models.one_tier import SingleSampleRNN
from samplernn_fast.models.other_configs import MixtureConfig, RNNGMMConfig, SampleRNNGMMConfig
from samplernn_fast.models.sample_rnn import TieredModel
from samplernn_fast.models.variants import ValueMLP


def normalised_values(config: MixtureConfig) -> np.ndarray:
    """The value (amplitude - mean) / std of every level: (Q,) float64. Before training the amplitude itself."""
    return (quantize.for_config(config).decode_table() - config.mean) / config.deviation


class MixtureModel(AudioModel):
    """A model whose outputs (B, T, 3 K) are mixtures of Gaussians: how it is trained and measured.

    Training minimises the negative log-density of the normalised signal. `bits` integrates the density over the 256
    linear levels, which compares the model with those that predict such levels (Table 1).
    """

    config: MixtureConfig

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-density of the normalised signal, in bits: outputs (B, T, 3 K), targets (B, T) -> (B, T)."""
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        values = self.values[targets].to(outputs.dtype)
        return density_nats(mixture_of(outputs, self.config.scale_floor), values) / math.log(2)

    def nats(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The same negative log-density in nats and in float64, which is the NLL of Table 2."""
        values = self.values[targets]
        return density_nats(mixture_of(outputs.double(), self.config.scale_floor), values)

    def bits(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The negative log-probability, in bits, of the one of the 256 linear levels in which each target lies: (B, T)
        float64."""
        mixture = mixture_of(outputs.double(), self.config.scale_floor)
        levels = linear_level(targets)
        return level_nats(mixture, levels, self.config.mean, self.config.deviation) / math.log(2)


class MixtureMLP(ValueMLP):
    """A sample-level module that reads the last FS(1) samples as real values and gives a mixture."""

    def output_layer(self, config: TieredConfig) -> nn.Linear:
        """The layer that gives a mixture."""
        return MixtureLayer(config.dim, config.outputs)


class SampleRNNGMM(MixtureModel, TieredModel):
    """SampleRNN on real-valued samples ("SampleRNN-GMM" in Table 2)."""

    config: SampleRNNGMMConfig

    def __init__(self, config: SampleRNNGMMConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.build(MixtureMLP, normalised_values(config), seed)


class RNNGMM(MixtureModel, SingleSampleRNN):
    """The one-tier RNN on real-valued samples ("RNN-GMM" in Table 2): its input is one number."""

    config: RNNGMMConfig

    def __init__(self, config: RNNGMMConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.values = torch.from_numpy(normalised_values(config))
        self.build(1, seed)

    def output_layer(self) -> nn.Linear:
        """The layer that gives a mixture."""
        return MixtureLayer(self.config.dim, self.config.outputs)

    def read(self, levels: Tensor) -> Tensor:
        """Levels (B, N) -> their normalised values (B, N, 1)."""
        return self.values[levels].to(self.output.weight.dtype)[..., None]

"""The configs of the paper's other systems: what the paper compares SampleRNN with (sections 2.2 and 3.1, appendix A).

No torch here. `config` has the bases, SampleRNN and the RNN baseline.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from samplernn_fast.models.config import (
    AudioConfig,
    FramedConfig,
    OneTierConfig,
    SampleRNNConfig,
    SingleSampleConfig,
    TieredConfig,
    require,
)
from samplernn_fast.ranges import Range


@dataclass(frozen=True)
class RealInputConfig(FramedConfig):
    """SampleRNN without an embedding ("Without Embedding" in Table 4), in the reading that gives W_x of Eq. 8 the last
    FS(1) samples as real values. `frame_input` and `frame_gain` say which values, here as in the tiers. The other
    reading, one-hot levels, is `SampleRNNConfig` with emb_size 0."""

    system: ClassVar[str] = "samplernn-real-input"
    packed: ClassVar[bool] = True

    @property
    def least_values(self) -> int:
        """As in `TieredConfig`, with the MLP's input."""
        return super().least_values + self.dim * self.taps


@dataclass(frozen=True)
class MultiSoftmaxConfig(FramedConfig):
    """SampleRNN without a sample level (section 2.2.2, "Multi-Softmax" in Table 4): all samples of a frame of FS(1) are
    predicted from the conditioning alone, so that they are independent of each other."""

    system: ClassVar[str] = "multi-softmax"
    packed: ClassVar[bool] = True

    @property
    def taps(self) -> int:
        """None: the MLP reads no samples."""
        return 0

    @property
    def least_prompt(self) -> int:
        """A frame of the lowest tier: a part of one changes nothing before the next frame."""
        return self.frame_sizes[1]


@dataclass(frozen=True)
class MixtureConfig(AudioConfig):
    """The fields common to systems that predict a mixture of Gaussians over real-valued samples (section 2.2.1, Table
    2). Levels are 16-bit samples: level q is the sample q - 32768, of the amplitude (q - 32768) / 32768. The network
    reads and predicts the normalised signal, (amplitude - mean) / std (section 3)."""

    packed: ClassVar[bool] = False
    mixture: ClassVar[bool] = True

    quantization: str = "linear"
    """Always linear."""
    q_levels: Annotated[int, Range(2, 65536)] = 65536
    """Always 65536: levels are 16-bit samples."""
    components: Annotated[int, Range(1, 256)] = 4
    """K: Gaussians in the mixture (paper: 4)."""
    scale_floor: Annotated[float, Range(1e-6, 1)] = 1e-3
    """The least standard deviation of a component, in units of the normalised signal. Without it the density of a
    constant signal grows without a bound."""
    mean: Annotated[float, Range(-1, 1)] = 0.0
    """The mean amplitude of the training split; 0, before training, is taken from the data folder."""
    std: Annotated[float, Range(0, 1)] = 0.0
    """The standard deviation of the training split's amplitudes, at least one 16-bit step; 0, before training, is taken
    from the data folder, together with the mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = (self.quantization, self.q_levels)
        require(
            levels == ("linear", 65536),
            f"{self.system} predicts 16-bit samples, so quantization must be linear with q_levels 65536",
            levels,
        )
        require(self.std > 0 or self.mean == 0, "mean is given together with std", self.mean)

    @property
    def outputs(self) -> int:
        """A weight, a mean and a scale for each component."""
        return 3 * self.components


@dataclass(frozen=True)
class SampleRNNGMMConfig(MixtureConfig, TieredConfig):
    """SampleRNN whose tiers and sample level read real-valued samples, and whose output is a mixture of Gaussians
    ("SampleRNN-GMM" in Table 2)."""

    system: ClassVar[str] = "samplernn-gmm"

    @property
    def least_values(self) -> int:
        """As in `TieredConfig`, with the MLP's input."""
        return super().least_values + self.dim * self.taps


@dataclass(frozen=True)
class RNNGMMConfig(MixtureConfig, SingleSampleConfig):
    """The baseline of `OneTierConfig` on real-valued samples, with a mixture of Gaussians ("RNN-GMM" in Table 2)."""

    system: ClassVar[str] = "rnn-gmm"


CONFIGS: tuple[type[AudioConfig], ...] = (
    SampleRNNConfig,
    RealInputConfig,
    MultiSoftmaxConfig,
    OneTierConfig,
    SampleRNNGMMConfig,
    RNNGMMConfig,
)
"""The config class of every system; `registry.SYSTEMS` has the models."""

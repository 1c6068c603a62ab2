"""The configs of the paper's other systems: what the paper compares SampleRNN with (sections 2.2 and 3.1, appendix A).

No torch here. `config` has the bases, SampleRNN and the RNN baseline.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.config import (
    AudioConfig,
    FramedConfig,
    OneTierConfig,
    RecurrentConfig,
    SampleRNNConfig,
    SingleSampleConfig,
    SparseSampleRNNConfig,
    TieredConfig,
    require,
)
from samplernn_fast.ranges import Range

MOST_FIELD = 1 << 18
"""The most inputs that a stack of dilated convolutions may see."""


@dataclass(frozen=True)
class RealInputConfig(FramedConfig):
    """SampleRNN without an embedding ("Without Embedding" in Table 4), in the reading that gives W_x of Eq. 8 the last
    FS(1) samples as real values. `frame_input` and `frame_gain` say which values, here as in the tiers. The other
    reading, one-hot levels, is `SampleRNNConfig` with emb_size 0."""

    system: ClassVar[str] = "samplernn-real-input"
    packed: ClassVar[bool] = True

    @property
    def least_values(self) -> int:
        """The values that `TieredConfig` counts, and the MLP's input."""
        return super().least_values + self.dim * self.taps


@dataclass(frozen=True)
class MultiSoftmaxConfig(FramedConfig):
    """SampleRNN without a sample level (section 2.2.2, "Multi-Softmax" in Table 4): all samples of the lowest tier's
    frame, FS(2), are predicted from the conditioning alone, so that they are independent of each other. FS(1) changes
    nothing."""

    system: ClassVar[str] = "multi-softmax"
    packed: ClassVar[bool] = True

    @property
    def taps(self) -> int:
        """0, because the MLP reads no samples."""
        return 0

    @property
    def least_prompt(self) -> int:
        """A frame of the lowest tier, because a part of one changes nothing before the next frame."""
        return self.frame_sizes[1]


@dataclass(frozen=True)
class MixtureConfig(AudioConfig):
    """The fields common to systems that predict a mixture of Gaussians over real-valued samples (section 2.2.1, Table
    2). Levels are 16-bit samples: level q is the sample q - 32768, of the amplitude (q - 32768) / 32768. The network
    reads and predicts the normalised signal, (amplitude - mean) / std (section 3)."""

    packed: ClassVar[bool] = False
    mixture: ClassVar[bool] = True

    quantization: str = "linear"
    """Leave it at linear, which is all that this system has."""
    q_levels: Annotated[int, Range(2, 65536)] = 65536
    """Leave it at 65536, because levels are 16-bit samples."""
    components: Annotated[int, Range(1, 256)] = 4
    """K: Gaussians in the mixture (paper: 4)."""
    scale_floor: Annotated[float, Range(1e-6, 1)] = 1e-3
    """The least standard deviation of a component, in units of the normalised signal. Without it the density of a
    constant signal grows without a bound."""
    mean: Annotated[float, Range(-1, 1)] = 0.0
    """Leave it out: `train` takes the mean amplitude of the training split."""
    std: Annotated[float, Range(0, 1)] = 0.0
    """Leave it out: `train` takes the standard deviation of the training split's amplitudes, and where it is given, no
    mean either. 0 stands for a model that is not trained yet."""

    def __post_init__(self) -> None:
        super().__post_init__()
        about = f"{self.system} predicts 16-bit samples, so leave out"
        require(self.quantization == "linear", f"{about} quantization, which must be linear", self.quantization)
        require(self.q_levels == 65536, f"{about} q_levels, which must be 65536", self.q_levels)
        require(self.std == 0 or self.std >= 2**-15, "std must be 0 or at least one 16-bit step, 2^-15", self.std)
        require(
            self.std > 0 or self.mean == 0,
            "leave mean and std out, because train takes them from the data; mean alone means nothing",
            self.mean,
        )

    @property
    def deviation(self) -> float:
        """What amplitudes less the mean are divided by: `std`, or 1 before training."""
        return self.std or 1.0

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
        """The values that `TieredConfig` counts, and the MLP's input."""
        return super().least_values + self.dim * self.taps


@dataclass(frozen=True)
class RNNGMMConfig(MixtureConfig, SingleSampleConfig):
    """The baseline of `OneTierConfig` on real-valued samples, with a mixture of Gaussians ("RNN-GMM" in Table 2)."""

    system: ClassVar[str] = "rnn-gmm"


@dataclass(frozen=True)
class DilatedConfig(AudioConfig):
    """The fields common to systems with a stack of dilated convolutions over samples."""

    packed: ClassVar[bool] = False

    blocks: Annotated[int, Range(1, 64)] = 4
    """Blocks of the stack over samples, in each of which the dilations begin at 1 again."""
    layers: Annotated[int, Range(1, 16)] = 7
    """Layers of such a block, with dilations 1, 2, 4 and so on; 4 x 7 layers see 509 samples (appendix A)."""
    skip_factor: Annotated[int, Range(1, 256)] = 4
    """Channels of the skip connections for each channel of the stack over samples (ours, the paper names none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_field(self.dilations, "blocks x layers")

    @property
    @abstractmethod
    def channels(self) -> int:
        """C of the stack over samples."""

    @property
    def dilations(self) -> tuple[int, ...]:
        """The dilation of every layer of the stack over samples."""
        return dilations_of(self.blocks, self.layers)

    @property
    def skip_channels(self) -> int:
        """S: channels of the skip connections."""
        return self.skip_factor * self.channels

    @property
    def end_channels(self) -> int:
        """Channels between the two layers of the head."""
        return self.skip_channels


@dataclass(frozen=True)
class WaveNetConfig(DilatedConfig):
    """WaveNet ("WaveNet (re-impl.)" in Table 1, section 3.1). The defaults are the paper's numbers."""

    system: ClassVar[str] = "wavenet"

    dim: Annotated[int, Range(1, 16384)] = 64
    """Channels of every dilated convolution, its gates and its residual connection."""
    layers: Annotated[int, Range(1, 16)] = 10
    """Layers of a block, with dilations 1, 2, 4 and so on."""
    end_factor: Annotated[int, Range(1, 256)] = 4
    """Channels between the two layers of the head for each of `dim` (ours, the paper names none)."""
    input: Literal["onehot", "real"] = "onehot"
    """What the input layer reads: one-hot levels, or one real number, q / (Q - 1) - 0.5."""

    @property
    def channels(self) -> int:
        """C of every layer."""
        return self.dim

    @property
    def end_channels(self) -> int:
        """Channels between the two layers of the head."""
        return self.end_factor * self.dim

    @property
    def lookback(self) -> int:
        """L: the receptive field, 1 and the sum of the dilations."""
        return 1 + sum(self.dilations)

    @property
    def top_frame(self) -> int:
        """One sample."""
        return 1

    @property
    def least_values(self) -> int:
        """The matrices of the stack and of the head, and an embedding."""
        head = self.end_channels * (self.skip_channels + self.q_levels)
        table = self.q_levels * self.dim if self.input == "onehot" else 0
        return stack_values(self.dim, self.dilations, self.skip_channels) + head + table


@dataclass(frozen=True)
class HybridConfig(DilatedConfig):
    """The fields common to the SampleRNN-WaveNet hybrids (appendix A): a slow module over frames beside the stack."""

    frame_size: Annotated[int, Range(1, 65536, unit="samples")] = 128
    """Samples of a frame (appendix A)."""

    @property
    def top_frame(self) -> int:
        """Samples of a frame."""
        return self.frame_size


@dataclass(frozen=True)
class HybridWaveNetConfig(HybridConfig):
    """The fully convolutional SampleRNN-WaveNet hybrid (appendix A): a WaveNet over frames, and one over samples."""

    system: ClassVar[str] = "hybrid-wavenet"

    dim: Annotated[int, Range(1, 16384)] = 64
    """Channels of every dilated convolution of both modules."""
    slow_blocks: Annotated[int, Range(1, 64)] = 2
    """Blocks of the module over frames. By default it sees 31 frames, or 3,968 samples, about as many as `wavenet`."""
    slow_layers: Annotated[int, Range(1, 16)] = 4
    """Layers of such a block."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_field(self.slow_dilations, "slow_blocks x slow_layers")
        require(self.lookback <= MOST_FIELD, f"both modules may see {MOST_FIELD} samples at most", self.lookback)

    @property
    def channels(self) -> int:
        """C of both modules."""
        return self.dim

    @property
    def slow_dilations(self) -> tuple[int, ...]:
        """The dilation of every layer of the module over frames, in frames."""
        return dilations_of(self.slow_blocks, self.slow_layers)

    @property
    def lookback(self) -> int:
        """L: the field of both modules, in whole frames."""
        return self.frame_size * max(1 + sum(self.slow_dilations), whole_frames(self.dilations, self.frame_size))

    @property
    def least_values(self) -> int:
        """The matrices of both stacks and of the head, the map of a frame, and the embedding."""
        stacks = (stack_values(self.dim, one, self.skip_channels) for one in (self.dilations, self.slow_dilations))
        head = self.end_channels * (2 * self.skip_channels + self.q_levels)
        return sum(stacks) + head + self.dim * (self.frame_size + self.q_levels)


@dataclass(frozen=True)
class HybridRNNWaveNetConfig(HybridConfig, RecurrentConfig):
    """The RNN-WaveNet hybrid (appendix A): an RNN over frames, and a WaveNet over samples."""

    system: ClassVar[str] = "hybrid-rnn-wavenet"

    dim: Annotated[int, Range(1, 16384)] = 1024
    """Units of the RNN; the module over samples has a sixteenth as many channels, and 8 at least (ours)."""

    @property
    def channels(self) -> int:
        """C of the module over samples."""
        return max(8, self.dim // 16)

    @property
    def lookback(self) -> int:
        """L: the field of the module over samples, in whole frames. The RNN's state holds what came before a frame."""
        return self.frame_size * whole_frames(self.dilations, self.frame_size)

    @property
    def least_values(self) -> int:
        """The RNN's recurrent matrices, those of the stack and of the head, the frame's map, and the embedding."""
        stack = stack_values(self.channels, self.dilations, self.skip_channels)
        head = self.end_channels * (self.skip_channels + self.dim + self.q_levels)
        slow = self.dim * (3 * self.n_rnn * self.dim + self.frame_size)
        return stack + head + slow + self.q_levels * self.channels


def whole_frames(dilations: tuple[int, ...], frame_size: int) -> int:
    """How many whole frames hold the field of a stack over samples."""
    return -(-(1 + sum(dilations)) // frame_size)


def dilations_of(blocks: int, layers: int) -> tuple[int, ...]:
    """The dilations of all layers of a stack: 1, 2, 4, ... in each block."""
    return tuple(1 << layer for _ in range(blocks) for layer in range(layers))


def stack_values(channels: int, dilations: tuple[int, ...], skip_dim: int) -> int:
    """How many values the matrices of a stack of dilated convolutions have."""
    return len(dilations) * channels * (4 * channels + skip_dim) + (len(dilations) - 1) * channels * channels


def require_field(dilations: tuple[int, ...], names: str) -> None:
    """ConfigError unless a stack has two layers at least, and a field that fits into memory as a row of levels."""
    require(len(dilations) > 1, f"{names} must be 2 layers at least", len(dilations))
    require(sum(dilations) < MOST_FIELD, f"{names} may see {MOST_FIELD} inputs at most", 1 + sum(dilations))


CONFIGS: tuple[type[AudioConfig], ...] = (
    SampleRNNConfig,
    RealInputConfig,
    MultiSoftmaxConfig,
    SparseSampleRNNConfig,
    OneTierConfig,
    SampleRNNGMMConfig,
    RNNGMMConfig,
    WaveNetConfig,
    HybridWaveNetConfig,
    HybridRNNWaveNetConfig,
)
"""The config class of every system; `registry.SYSTEMS` has the models."""


def config_from_dict(values: dict[str, Any]) -> AudioConfig:
    """The config that `AudioConfig.to_dict` wrote, of whichever system. Raises ConfigError.

    Version 0.1.0 wrote no system: there frame sizes of (1,) stood for the one-tier baseline, beside fields that mean
    nothing for it.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"model settings must be names with values, got {type(values).__name__}")
    systems = {one.system: one for one in CONFIGS}
    if "system" not in values:
        one_tier = list(values.get("frame_sizes", [])) == [1]
        dropped = OneTierConfig.MEANINGLESS if one_tier else {}
        system = OneTierConfig.system if one_tier else SampleRNNConfig.system
        values = {"system": system} | {name: value for name, value in values.items() if name not in dropped}
    if values["system"] not in systems:
        known, found = ", ".join(systems), values["system"]
        raise ConfigError(f"system must be one of {known}, got {found!r}; made by a newer version?")
    return systems[values["system"]].from_dict(values)

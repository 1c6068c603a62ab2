"""The configs of the paper's other systems: what the paper compares SampleRNN with (sections 2.2 and 3.1, appendix A).

No torch here. `config` has the bases, SampleRNN and the RNN baseline.
"""

from dataclasses import dataclass
from typing import ClassVar

from samplernn_fast.models.config import AudioConfig, FramedConfig, OneTierConfig, SampleRNNConfig


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


CONFIGS: tuple[type[AudioConfig], ...] = (SampleRNNConfig, RealInputConfig, MultiSoftmaxConfig, OneTierConfig)
"""The config class of every system; `registry.SYSTEMS` has the models."""

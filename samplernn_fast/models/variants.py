"""SampleRNN with one part exchanged, as the paper compares it (section 2.2): its tiers, another sample level.

The letters of shapes are those of `sample_rnn`.
"""

from torch import Tensor, nn
from torch.nn.functional import linear

from samplernn_fast.models.config import TieredConfig
from samplernn_fast.models.other_configs import MultiSoftmaxConfig, RealInputConfig
from samplernn_fast.models.sample_rnn import SampleMLP, TieredModel, frame_values


class ValueMLP(SampleMLP):
    """A sample-level module that reads the last FS(1) samples as real values."""

    def build_input(self, config: TieredConfig) -> None:
        """Makes W_x."""
        self.input = nn.Linear(self.taps, config.dim, bias=False)

    def add_input(self, x: Tensor, levels: Tensor, values: Tensor, first: nn.Linear | None) -> Tensor:
        """Adds the product of W_x and the last values of each sample; see `SampleMLP`."""
        weight = self.input.weight if first is None else first.weight @ self.input.weight
        return x + linear(values.unfold(1, self.taps, 1), weight)


class BlindMLP(SampleMLP):
    """A sample-level module that reads no samples, only the conditioning."""

    def build_input(self, config: TieredConfig) -> None:
        """Makes no layers, because no sample is read."""

    def add_input(self, x: Tensor, levels: Tensor, values: Tensor, first: nn.Linear | None) -> Tensor:
        """Returns x as it is, because no sample is read."""
        return x


class RealInputSampleRNN(TieredModel):
    """SampleRNN without an embedding: W_x of Eq. 8 reads real-valued samples (Table 4)."""

    config: RealInputConfig

    def __init__(self, config: RealInputConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.build(ValueMLP, frame_values(config), seed)


class MultiSoftmax(TieredModel):
    """SampleRNN without a sample level: each sample of a frame is predicted from the conditioning (section 2.2.2)."""

    config: MultiSoftmaxConfig

    def __init__(self, config: MultiSoftmaxConfig, *, seed: int | None = 0) -> None:
        """Weights are drawn from `seed` alone, None leaves them to be filled in; torch's generator is left alone."""
        super().__init__(config)
        self.build(BlindMLP, frame_values(config), seed)

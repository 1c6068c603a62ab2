"""Every system by its name: its config class and its model class."""

from dataclasses import dataclass

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import AudioConfig, OneTierConfig, SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.dilated.hybrid import HybridRNNWaveNet, HybridWaveNet
from samplernn_fast.models.dilated.wavenet import WaveNet
from samplernn_fast.models.gaussian import RNNGMM, SampleRNNGMM
from samplernn_fast.models.one_tier import OneTierRNN
from samplernn_fast.models.other_configs import (
    HybridRNNWaveNetConfig,
    HybridWaveNetConfig,
    MultiSoftmaxConfig,
    RealInputConfig,
    RNNGMMConfig,
    SampleRNNGMMConfig,
    WaveNetConfig,
)
from samplernn_fast.models.sample_rnn import SampleRNN, TieredModel
from samplernn_fast.models.sparse.network import SparseSampleRNN
from samplernn_fast.models.variants import MultiSoftmax, RealInputSampleRNN

PackedModel = TieredModel | OneTierRNN | SparseSampleRNN
"""The models that may have a packed layout; `config.packed` says whether one has."""


@dataclass(frozen=True)
class System:
    """One kind of model. `models/README.md` says what a new one must bring."""

    config: type[AudioConfig]
    model: type[AudioModel]


SYSTEMS: dict[str, System] = {
    one.config.system: one
    for one in (
        System(SampleRNNConfig, SampleRNN),
        System(RealInputConfig, RealInputSampleRNN),
        System(MultiSoftmaxConfig, MultiSoftmax),
        System(SparseSampleRNNConfig, SparseSampleRNN),
        System(OneTierConfig, OneTierRNN),
        System(SampleRNNGMMConfig, SampleRNNGMM),
        System(RNNGMMConfig, RNNGMM),
        System(WaveNetConfig, WaveNet),
        System(HybridWaveNetConfig, HybridWaveNet),
        System(HybridRNNWaveNetConfig, HybridRNNWaveNet),
    )
}


def build_model(config: AudioConfig, *, seed: int | None = 0) -> AudioModel:
    """A new model of `config`, its weights drawn from `seed`, or any numbers where it is None, to be filled in."""
    return SYSTEMS[config.system].model(config, seed=seed)


def require_packed(model: AudioModel) -> PackedModel:
    """The model, where it has a packed layout. ConfigError where it has none."""
    if not isinstance(model, PackedModel) or not model.config.packed:
        raise ConfigError(
            f"only systems with packed weights can be timed or packed, and the model's system is {model.config.system};"
            " generate and evaluate take every system"
        )
    return model

"""A small config of every system, for the tests that every system has to pass (`tests/models/test_systems.py`)."""

from dataclasses import replace

from samplernn_fast.models.config import AudioConfig, OneTierConfig, SampleRNNConfig, SparseSampleRNNConfig
from samplernn_fast.models.other_configs import (
    HybridRNNWaveNetConfig,
    HybridWaveNetConfig,
    MultiSoftmaxConfig,
    RealInputConfig,
    RNNGMMConfig,
    SampleRNNGMMConfig,
    WaveNetConfig,
)

_TIERS = {"dim": 12, "q_levels": 32, "frame_sizes": (4, 4, 8)}

SYSTEM_CASES: dict[str, AudioConfig] = {
    "samplernn": SampleRNNConfig(**_TIERS, emb_size=6),
    "samplernn-skips": SampleRNNConfig(**_TIERS, emb_size=6, rnn="lstm", n_rnn=2, skip="full", top_input_linear=True),
    "onehot": SampleRNNConfig(**_TIERS, emb_size=0),
    "real-input": RealInputConfig(**_TIERS),
    "multi-softmax": MultiSoftmaxConfig(dim=12, q_levels=32, frame_sizes=(4, 4)),
    "sparse": SparseSampleRNNConfig(**_TIERS, density=0.5),
    "sparse-skips": SparseSampleRNNConfig(**_TIERS, rnn="lstm", n_rnn=2, skip="full", density=0.5),
    "rnn": OneTierConfig(dim=12, q_levels=32, emb_size=6),
    "samplernn-gmm": SampleRNNGMMConfig(dim=12, frame_sizes=(4, 8)),
    "rnn-gmm": RNNGMMConfig(dim=12, rnn="lstm"),
    "rnn-prism": OneTierConfig(dim=12, q_levels=32, emb_size=6, n_rnn=2, skip="prism"),
    "wavenet": WaveNetConfig(dim=6, q_levels=32, blocks=2, layers=3),
    "wavenet-real": WaveNetConfig(dim=6, q_levels=32, blocks=1, layers=4, skip_factor=2, end_factor=1, input="real"),
    "hybrid-wavenet": HybridWaveNetConfig(
        dim=6, q_levels=32, blocks=2, layers=3, slow_blocks=1, slow_layers=2, frame_size=8
    ),
    "hybrid-rnn-wavenet": HybridRNNWaveNetConfig(dim=12, q_levels=32, blocks=2, layers=3, frame_size=8),
}
"""Name of a case -> its config. Every system of `registry.SYSTEMS` is among them."""


def trained(config: AudioConfig) -> AudioConfig:
    """The config before training, which takes sample rate and gain from the data."""
    return replace(config, sample_rate=0, gain=0.0)

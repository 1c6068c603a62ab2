"""Which model a config describes. Each variant of the paper's model is a module of its own."""

from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.one_tier import OneTierRNN
from samplernn_fast.models.sample_rnn import SampleRNN


def build_model(config: SampleRNNConfig, *, seed: int | None = 0) -> AudioModel:
    """A new model of `config`, its weights drawn from `seed`, or any numbers where it is None, to be filled in."""
    variant = OneTierRNN if config.one_tier else SampleRNN
    return variant(config, seed=seed)

"""Which model a config describes. Each variant of the paper's model is a module of its own."""

from samplernn_fast.baseline import OneTierRNN
from samplernn_fast.config import SampleRNNConfig
from samplernn_fast.model import AudioModel, SampleRNN


def build_model(config: SampleRNNConfig, *, seed: int | None = 0) -> AudioModel:
    """A new model of `config`, its weights drawn from `seed`, or any numbers where it is None, to be filled in."""
    variant = OneTierRNN if config.one_tier else SampleRNN
    return variant(config, seed=seed)

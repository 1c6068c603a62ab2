"""Which model a config describes. Each variant of the paper's model is a module of its own."""

from samplernn_fast.errors import ConfigError
from samplernn_fast.models.base import AudioModel
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.models.one_tier import OneTierRNN
from samplernn_fast.models.sample_rnn import SampleRNN


def build_model(config: SampleRNNConfig, *, seed: int | None = 0) -> AudioModel:
    """A new model of `config`, its weights drawn from `seed`, or any numbers where it is None, to be filled in."""
    variant = OneTierRNN if config.one_tier else SampleRNN
    return variant(config, seed=seed)


def require_sampler(model: AudioModel) -> SampleRNN:
    """The model, if an engine can sample it. ConfigError where it cannot."""
    if not isinstance(model, SampleRNN):
        raise ConfigError(
            "the one-tier baseline cannot be sampled: the engine runs tiers of frames; train and evaluate do work"
        )
    return model

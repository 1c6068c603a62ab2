"""A small model with random weights, and short audio of it."""

import samplernn_fast as srnn

RATE = 8000


CONFIG = srnn.SampleRNNConfig(
    sample_rate=RATE, q_levels=64, frame_sizes=(2, 2, 4), dim=16, emb_size=8, gain=0.5, quantization="mu-law"
)


def make(model, **settings):
    return srnn.generate(model, **{"duration": 0.02, "seed": 1} | settings)


def assert_one_line(raised):
    assert "\n" not in str(raised.value)

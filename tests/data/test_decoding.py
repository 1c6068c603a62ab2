"""What `prepare` does with the samples of a recording before it stores them."""

import numpy as np
from sounds import tone

from samplernn_fast.data import decoding


def test_trim_silence() -> None:
    rate = 16000  # windows of 320 samples
    x = np.concatenate([np.zeros(3200), tone(0.5, rate), np.zeros(100), tone(0.1, rate), np.zeros(5000)])
    assert decoding.trim_silence(x, rate, -60.0) == (3200, 3200 + 8000 + 320 + 1600 - 320 + 320)
    assert decoding.trim_silence(x * 1e-4, rate, -60.0) == (0, 0)
    assert decoding.trim_silence(np.zeros(999), rate, -60.0) == (0, 0)
    assert decoding.trim_silence([], rate, -60.0) == (0, 0)
    assert decoding.trim_silence(np.full(1001, 0.5), rate, -6.1) == (0, 1001)
    assert decoding.trim_silence(np.full(1001, 0.5), rate, -6.0) == (0, 0)

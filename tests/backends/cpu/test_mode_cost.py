"""What the numeric modes of the cpu backend cost on real speech, in bits per sample of the bundled model."""

import math
from pathlib import Path

import numpy as np
import pytest

import samplernn_fast as srnn
from samplernn_fast.audio import quantize, reading
from samplernn_fast.engine.engine import Engine

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")

from samplernn_fast.backends.cpu import CpuBackend

FSDD = Path(__file__).parents[4] / "shared/data/fsdd"
# Unheard by the model: its training left out recordings 0 to 4 of every digit.
RECORDINGS = [f"{digit}_george_{take}.wav" for digit, take in zip((0, 1, 3, 5, 7, 9), (0, 1, 2, 3, 4, 0), strict=True)]


def bits(engine: Engine, recordings: list[np.ndarray]) -> float:
    """Mean bits per sample over recordings of levels, each from silence and the learned initial state."""
    nats, count = 0.0, 0
    for levels in recordings:
        silence = np.full(engine.config.lookback, engine.config.q_zero)
        scores = engine.score(np.concatenate((silence, levels))[None])[0]
        nats -= float(np.take_along_axis(scores, levels[:, None], axis=1).sum(dtype=np.float64))
        count += len(levels)
    return nats / count / math.log(2)


@pytest.mark.skipif(not FSDD.is_dir(), reason="needs recordings of ../shared/data/fsdd")
def test_bits_per_sample_of_real_speech_keep_the_promises(tmp_path, monkeypatch):
    monkeypatch.setenv("SAMPLERNN_FAST_CACHE", str(tmp_path))
    model = srnn.load()
    quantizer = quantize.for_config(model.config)
    recordings = []
    for name in RECORDINGS:
        samples, rate = reading.read(FSDD / name)
        assert rate == model.config.sample_rate
        recordings.append(quantizer.encode(samples * model.config.gain).astype(np.int64))
    modes = CpuBackend.dtypes
    found = {mode: bits(Engine(model, backend="cpu", dtype=mode), recordings) for mode in modes}
    print({mode: f"{value:.5f} bits" for mode, value in found.items()}, f"{sum(map(len, recordings))} samples")
    assert 3 < found["float32"] < 6  # the model's card says 4.76 on all such recordings
    assert abs(found["bfloat16"] - found["float32"]) <= 0.002
    assert abs(found["int8"] - found["float32"]) <= 0.005
    assert 0.0005 < found["int4"] - found["float32"] <= 0.005
